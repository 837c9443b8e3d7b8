/**
 * What the checkpoint coordinator needs from its neighbours, and what it tells them. The data plane may live
 * in another thread, so its calls are promises; each resolves when the thing is done, not when it was asked.
 */

/** Why a checkpoint was taken. A metric label: keep the list short. */
export type CheckpointCause =
  | 'protect' // the first one, which begins protection
  | 'divergence'
  | 'one-sided' // the hold timer ran out
  | 'limit' // held memory or flow table full
  | 'period'
  | 'operator'
  | 'vm'; // QEMU sent REQUEST unasked, or the guest rebooted

/**
 * `compare`: output leaves when both VMs have produced it; checkpoints on demand. `periodic`: nothing is compared,
 * all output waits for the next checkpoint, which comes at an interval.
 */
export const CHECKPOINT_MODES = ['compare', 'periodic'] as const;
export type CheckpointMode = (typeof CHECKPOINT_MODES)[number];

/** The data plane as the coordinator drives it (DESIGN section 6). */
export interface EpochGate {
  /** Client frames wait from now on, in a bounded buffer. Idempotent. */
  closeGate(): Promise<void>;
  /** Held client frames go to both VMs in order, then frames flow again. Idempotent. */
  openGate(): Promise<void>;
  /** Frames handed to each VM's link that the VM has not read. */
  untaken(): Promise<{ primary: number; secondary: number }>;
  /**
   * REPLY: the secondary has stopped. Its link is drained into the ended epoch; every later frame of it is
   * parked for the next epoch, uncompared.
   */
  secondaryStopped(): Promise<void>;
  /** SEND: the primary has stopped. Its link is drained; what it sent belongs to the ended epoch. */
  primaryStopped(): Promise<void>;
  /**
   * LOADED, before it is forwarded: the secondary is the primary. Pair translation becomes identity, the
   * comparator takes the primary's state, everything held leaves in emission order, then what the secondary
   * sent since is taken as the new epoch, which is compared or buffered by `mode`. Also begins that when this is
   * the first checkpoint.
   */
  commit(mode: CheckpointMode): Promise<void>;
  /**
   * The checkpoint was given up before the secondary loaded anything and both VMs go on in the old epoch:
   * parked frames of the secondary are put back, nothing is released.
   */
  abandon(): Promise<void>;
}

export interface CheckpointRecord {
  readonly epoch: number;
  readonly cause: CheckpointCause;
  /** Clock times in milliseconds. REQUEST: when the relay saw it. */
  readonly requestedAtMs: number;
  /** The gate was closed: what it had to wait for before, the least distance, is over. */
  readonly begunAtMs: number;
  /** Both VMs had taken what was fed to them, and the primary was asked; 0: QEMU began by itself. */
  readonly askedAtMs: number;
  readonly requestSeenAtMs: number;
  readonly loadedAtMs: number;
  /** SEND seen to LOADED forwarded: what the primary's guest was stopped for, as the relay saw it. */
  readonly pauseMs: number;
  /** Gate closed to gate opened. */
  readonly gateClosedMs: number;
  /** Bytes the primary sent between SEND and RECEIVED. */
  readonly stateBytes: number;
}

export type Phase =
  | 'idle'
  | 'migrating'
  | 'quiescing'
  | 'suspending'
  | 'suspended'
  | 'transferring'
  | 'loading'
  | 'committing';
