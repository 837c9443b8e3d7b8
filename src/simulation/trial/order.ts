/** Client frames reach each VM in the order in which they came to the proxy; some may be missing, none overtakes. */
import { otherSeat, type Seat } from '../../dataplane/data-plane.js';
import { FrameKind, FrameView } from '../../wire/frame-view.js';
import { parseFrame } from '../../wire/parse.js';
import type { World } from '../world.js';
import { markOf } from './released.js';
import type { Fail } from './violation.js';

const SEATS: readonly Seat[] = ['primary', otherSeat('primary')];

export function watchOrder(world: World, fail: Fail): void {
  const view = new FrameView();
  /** Marks of the frames that came, by network; and how far each VM has got in them. */
  const came = world.networks.map((): number[] => []);
  const reached = SEATS.map(() => world.networks.map(() => 0));
  const mark = (bytes: Buffer, offset: number, length: number): number =>
    parseFrame(bytes, offset, length, 0, view) === FrameKind.MALFORMED ? -1 : markOf(view);
  world.onCame = (frame, nic) => {
    const is = mark(frame, 0, frame.length);
    if (is >= 0) came[nic]!.push(is);
  };
  world.onTaken = (bytes, offset, length, seat, nic) => {
    const is = mark(bytes, offset, length);
    if (is < 0) return;
    const far = reached[SEATS.indexOf(seat)]!;
    const at = came[nic]!.indexOf(is, far[nic]!);
    if (at < 0) fail('transcript', `a client frame reaches the VM on the seat ${seat} out of order`);
    else far[nic] = at + 1;
  };
}
