import { otherSeat } from '../../dataplane/data-plane.js';
import type { ScriptedVm } from '../vm/scripted-vm.js';
import type { World } from '../world.js';

/** Who is who at this moment, as the proxy's status says; without a proxy, as it said last. */
export function seats(world: World): { carrier: ScriptedVm; other: ScriptedVm; isProtected: boolean } {
  const { pair } = world;
  const { carrier } = pair.nics;
  return {
    carrier: world[carrier],
    other: world[otherSeat(carrier)],
    isProtected: isProtected(world),
  };
}

export function isProtected({ proxyIsAlive, pair }: World): boolean {
  return proxyIsAlive && (pair.state === 'protected' || pair.state === 'checkpointing');
}
