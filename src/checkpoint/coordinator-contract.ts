/** What the checkpoint coordinator is given and what it tells. */
import type { ColoError } from '../errors.js';
import type { Clock } from '../system/clock.js';
import type { CheckpointLimits } from './limits.js';
import type { CheckpointCause, CheckpointMode, CheckpointRecord, EpochGate, Phase } from './ports.js';

/** How checkpoints are taken. */
export interface CheckpointPlan {
  readonly mode: CheckpointMode;
  /** `periodic`: the interval; `compare`: the longest interval, 0 for none. */
  readonly periodMs: number;
}

/** Called synchronously; must not throw. */
export interface CoordinatorEvents {
  phaseChanged(phase: Phase): void;
  /** The first checkpoint after READY has been loaded: from now on the secondary may take over. */
  protectedBegan(): void;
  checkpointDone(record: CheckpointRecord): void;
  /**
   * A checkpoint was not completed. COLO_ERR_CHANNEL_LOST: the channel has closed, the pair must call
   * `abandon` or fail over. Otherwise (`quiescing`: the primary could not be asked) nothing was disturbed, the
   * gate is open again and a new attempt follows by itself.
   */
  checkpointFailed(phase: Phase, reason: ColoError, waitedMs: number): void;
  /** Our own checkpoint waits for the next distance: a VM had not taken `frames` frames fed to it in time. */
  checkpointPutOff?(frames: number, waitedMs: number): void;
  /** From the epoch that begins now on; `why` for people. */
  modeChanged?(plan: CheckpointPlan, why: string): void;
  /** Dialects that have the word: the guest has shut down, both VMs end. */
  guestShutDown?(): void;
  /** A phase ran out of time; told once per phase. Nothing else happens until the pair acts. */
  phaseLimit(phase: Phase, waitedMs: number): void;
}

export interface CoordinatorOptions {
  readonly gate: EpochGate;
  /** Asks the primary's QEMU for a checkpoint (QMP x-checkpoint-delay); rejects when it could not be asked. */
  readonly trigger: () => Promise<void>;
  readonly clock: Clock;
  readonly limits: CheckpointLimits;
  readonly events: CoordinatorEvents;
  /** Bytes the primary has sent on the migration channel so far; for `stateBytes` of the record. */
  readonly primaryBytes?: () => number;
}

/** Plain numbers, read at scrape time. */
export interface CoordinatorStats {
  readonly checkpoints: Record<CheckpointCause, number>;
  checkpointsFailed: number;
  /** Requests covered by a checkpoint that was already wanted or running. */
  requestsCoalesced: number;
  /** Times QEMU was asked, repetitions included. */
  triggers: number;
  /** Own checkpoints put off because a VM had not taken what was fed to it. */
  putOffs: number;
  /** Frames that a VM had not taken when it was stopped: possibly lost or doubled there. */
  framesMaybeLost: number;
}

export function newCoordinatorStats(): CoordinatorStats {
  return {
    checkpoints: { protect: 0, divergence: 0, 'one-sided': 0, limit: 0, period: 0, operator: 0, vm: 0 },
    checkpointsFailed: 0,
    requestsCoalesced: 0,
    triggers: 0,
    putOffs: 0,
    framesMaybeLost: 0,
  };
}
