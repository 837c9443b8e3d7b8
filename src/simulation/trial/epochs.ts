/** What is compared must come from the epoch its VM is in: no frame of an ended epoch in the next. */
import { Comparator } from '../../compare/comparator.js';
import { otherSeat, type Seat } from '../../dataplane/data-plane.js';
import { FrameKind, FrameView } from '../../wire/frame-view.js';
import { parseFrame } from '../../wire/parse.js';
import { EPOCHS, originOf, type World } from '../world.js';
import { markOf } from './released.js';
import { seats } from './seats.js';
import type { Fail } from './violation.js';

type Compare = Comparator['primary'] | Comparator['secondary'];
type Origin = ReturnType<typeof originOf>;

/**
 * A primary that was let go on alone in mid-checkpoint goes on with what it was: its frames may still be compared with
 * those that the secondary, from the same state, had sent until then, as long as nothing has been committed.
 */
function isContinued(world: World, is: Origin, should: Origin): boolean {
  const { carrier } = seats(world);
  const { continuedIn } = carrier;
  return (
    is.instance === should.instance &&
    is.instance === world.origin(carrier).instance &&
    continuedIn >= 0 &&
    is.epoch === continuedIn % EPOCHS &&
    is.epoch === (should.epoch + 1) % EPOCHS
  );
}

/** Looks over every comparator's shoulder from here on; returns what ends it. */
export function watchEpochs(world: World, fail: Fail): () => void {
  const { primary, secondary, commit, takeSecondary } = Comparator.prototype;
  const taken = new FrameView();
  /** The epochs of both VMs that are compared since the last commit. */
  let due: Record<'carrier' | 'other', Origin> | null = null;
  const look = (view: FrameView, whose: 'carrier' | 'other'): void => {
    const mark = markOf(view);
    if (mark < 0 || due === null) return;
    const is = originOf(mark);
    const should = due[whose];
    if (is.instance === should.instance && is.epoch === should.epoch) return;
    if (whose === 'carrier' && isContinued(world, is, should)) return;
    const what = `a frame of VM ${is.instance} from its epoch ${is.epoch} was compared`;
    fail('epoch', `${what} in epoch ${should.epoch} of VM ${should.instance}`);
  };
  /** Marks of what each VM has sent and the comparator has not been given, by seat and network. */
  const sent: Record<Seat, number[][]> = {
    primary: world.networks.map(() => []),
    secondary: world.networks.map(() => []),
  };
  const sentView = new FrameView();
  world.onSent = (frame, seat, nic) => {
    if (parseFrame(frame, 0, frame.length, 0, sentView) === FrameKind.MALFORMED) return;
    const mark = markOf(sentView);
    if (mark >= 0) sent[seat][nic]!.push(mark);
  };
  /** Every frame of the present epoch is compared, in the order in which it was sent: a lost one is seen at the next. */
  const follow = (comparator: Comparator, view: FrameView, seat: Seat, whose: 'carrier' | 'other'): void => {
    const mark = markOf(view);
    const nic = world.pair.nics.planes.findIndex((plane) => plane.comparator === comparator);
    if (mark < 0 || nic < 0 || due === null || world.hasSmallQueues) return;
    const queue = sent[seat][nic]!;
    for (let next = queue.shift(); next !== undefined && next !== mark; next = queue.shift()) {
      const { instance, epoch } = originOf(next);
      if (instance !== due[whose].instance || epoch !== due[whose].epoch) continue;
      fail('epoch', `a frame of VM ${instance} of its epoch ${epoch} was never compared`);
    }
  };
  const watched = <F extends Compare>(whose: 'carrier' | 'other', inner: F) =>
    function (this: Comparator, ...args: Parameters<F>): ReturnType<F> {
      look(args[0], whose);
      const { carrier } = world.pair.nics;
      follow(this, args[0], whose === 'carrier' ? carrier : otherSeat(carrier), whose);
      return (inner as (...all: unknown[]) => ReturnType<F>).apply(this, args);
    };
  Comparator.prototype.commit = function (this: Comparator, nowMs: number): void {
    commit.call(this, nowMs);
    const { carrier, other } = seats(world);
    const { instance, epoch } = world.origin(carrier);
    // The secondary already runs, the primary is let go on by what follows the commit.
    due = { carrier: { instance, epoch: (epoch + 1) % EPOCHS }, other: world.origin(other) };
  };
  // What a survivor had sent and no client has seen: of its present epoch, never of one that a checkpoint has ended.
  Comparator.prototype.takeSecondary = function (this: Comparator, visit): void {
    takeSecondary.call(this, (bytes, offset, length, vnetHeaderBytes, flow) => {
      if (parseFrame(bytes, offset, length, vnetHeaderBytes, taken) !== FrameKind.MALFORMED)
        look(taken, 'other');
      visit(bytes, offset, length, vnetHeaderBytes, flow);
    });
  };
  Comparator.prototype.primary = watched('carrier', primary);
  Comparator.prototype.secondary = watched('other', secondary);
  return () => {
    Comparator.prototype.commit = commit;
    Comparator.prototype.takeSecondary = takeSecondary;
    Comparator.prototype.primary = primary;
    Comparator.prototype.secondary = secondary;
  };
}
