/** What a data plane is made of, and the words it shares with those around it. */
import type { Comparator } from '../compare/comparator.js';
import type { RuleSet } from '../compare/rules.js';
import type { CompareLimits, Divergence, DivergenceFrame } from '../compare/verdict.js';
import type { ColoError } from '../errors.js';
import type { Link, LinkState } from '../link/link.js';
import type { Clock } from '../system/clock.js';
import type { FrameView } from '../wire/frame-view.js';
import type { FrameQueueLimits } from './frame-queue.js';

export type Side = 'client' | 'primary' | 'secondary';
/**
 * Where a VM sits: its link and its monitor, by their names in the configuration. Roles move between seats: after the
 * primary's death the VM on the seat `secondary` is today's primary, and a fresh secondary takes the other seat.
 */
export type Seat = Exclude<Side, 'client'>;

export function otherSeat(seat: Seat): Seat {
  return seat === 'primary' ? 'secondary' : 'primary';
}

export interface DataPlaneLimits {
  /** Client frames that wait while the gate is closed; the newest is refused beyond it. */
  readonly gate: FrameQueueLimits;
  /** Frames of the secondary that wait for LOADED. */
  readonly parked: FrameQueueLimits;
  readonly broadcastPerSecondMax: number;
  readonly compare: CompareLimits;
  /** Exceptions from comparing; none unless given. */
  readonly rules?: RuleSet;
}

export interface DataPlaneParts {
  readonly links: Readonly<Record<Side, Link>>;
  readonly clock: Clock;
  readonly limits: DataPlaneLimits;
  /** Keys the flow hash, so that clients cannot craft collisions. */
  readonly flowSeed: number;
  /** Nothing leaves to the clients at or after this moment: the arbiter's word (trap T26). Without one, for ever. */
  readonly mandate?: { readonly heldUntilMs: number };
  /** A comparator that is recorded, say. */
  readonly makeComparator?: (...needs: ConstructorParameters<typeof Comparator>) => Comparator;
  /** Is shown each client frame that both VMs are given, as the client sent it. */
  readonly clientWitness?: { keep(view: FrameView, nowMs: number): void };
  readonly events: {
    /** As ComparatorSink.diverged. */
    diverged(divergence: Divergence, frames: () => DivergenceFrame[]): void;
    linkChanged(side: Side, state: LinkState, reason: ColoError | undefined): void;
    /** Client frames with the guest's own source MAC were dropped since the last call: a loop, or a leaked twin. */
    looped(frames: number): void;
    /** Segments signed with TCP MD5 or AO passed untranslated since the last call, and needed translating (T11). */
    signedUntranslated(segments: number): void;
  };
}
