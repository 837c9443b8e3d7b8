import { describe, expect, it } from 'vitest';
import { DEFAULT_CHECKPOINT_LIMITS } from '../../../src/checkpoint/limits.js';
import type { Phase } from '../../../src/checkpoint/ports.js';
import { runAction } from '../../../src/pair/actions.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World, type WorldOptions } from '../../../src/simulation/world.js';

/** A protected pair whose checkpoint is in `phase`, with a client counting. */
async function worldIn(phase: Phase, options: WorldOptions) {
  const world = new World({ costs: { loadMs: 30 }, ...options });
  await world.open();
  await world.openSecondary();
  expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
  const counter = world.client.count(GUEST_HOST.ipv4, 300, 5);
  await world.run(50);
  await world.run(5000, () => world.pair.coordinator.phase === 'idle');
  void world.pair.checkpoint().catch(() => undefined);
  expect(await world.run(5000, () => world.pair.coordinator.phase === phase)).toBe(true);
  return { world, counter };
}

function ask(world: World): { came: string | undefined } {
  const answer: { came: string | undefined } = { came: undefined };
  runAction(world.pair, 'failover', { to: 'secondary' }).then(
    ({ carrier }) => {
      answer.came = `${carrier}`;
    },
    (error: { code: string; message: string }) => {
      answer.came = `${error.code}: ${error.message}`;
    },
  );
  return answer;
}

describe('a failover asked for while the secondary loads', () => {
  it.each(['transferring', 'loading'] as const)(
    'in %s: waits for the load, and goes on from it',
    async (phase) => {
      const { world, counter } = await worldIn(phase, { seed: 61 });
      const { epoch } = world.pair.status();
      const answer = ask(world);
      await world.run(5);
      expect(answer.came).toBeUndefined();
      expect(world.pair.nics.carrier).toBe('primary');
      expect(await world.run(10_000, () => answer.came !== undefined)).toBe(true);
      expect(answer.came).toBe('secondary');
      expect(world.pair.status().epoch).toBe(epoch + 1);
      expect(await world.run(60_000, () => counter.report !== null)).toBe(true);
      expect(counter.report!.problem).toBeNull();
      await world.close();
    },
  );

  it('that never ends: refused with the reason, and the primary goes on', async () => {
    const checkpoint = { ...DEFAULT_CHECKPOINT_LIMITS, loadMsMax: 100 };
    const { world, counter } = await worldIn('loading', { seed: 62, limits: { checkpoint } });
    world.freezeVm('secondary');
    const answer = ask(world);
    expect(await world.run(10_000, () => answer.came !== undefined)).toBe(true);
    expect(answer.came).toMatch(/^COLO_ERR_FAILOVER: .*phase loading/);
    expect(await world.run(60_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    expect(world.pair.nics.carrier).toBe('primary');
    await world.close();
  });
});
