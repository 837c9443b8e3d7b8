import type { CheckpointMode } from './ports.js';

/** Every limit of taking checkpoints. QEMU has none of its own (migration/colo.c), so each wait has one here. */
export interface CheckpointLimits {
  /** What is chosen at the start; it can be changed while running. */
  readonly mode: CheckpointMode;
  /** Mode `periodic`: from a LOADED to the next checkpoint. */
  readonly periodicMs: number;
  /** Mode `compare`: while the outputs never agree, checkpoints become periodic by themselves. */
  readonly adaptive: boolean;
  /** The shortest interval that is chosen then. */
  readonly adaptivePeriodMsMin: number;
  /** Least time between a LOADED and the next checkpoint we ask for; output stays held meanwhile (trap T25). */
  readonly distanceMsMin: number;
  /** Mode `compare`: a checkpoint is taken at least this often; 0: only when needed. */
  readonly periodMsMax: number;
  /** How long both VMs get to take what was fed to them; then our own checkpoint is put off. */
  readonly quiesceMsMax: number;
  /** How often the gate is asked meanwhile. */
  readonly quiescePollMs: number;
  /**
   * How often in a row a checkpoint is put off. Then it is taken all the same, with the frames not taken
   * counted: a secondary whose guest has died reads no more, and only a checkpoint can mend it.
   */
  readonly putOffsMax: number;
  /** From asking the primary by QMP to REQUEST. */
  readonly requestMsMax: number;
  /** The primary is asked again this long after it was asked in vain: QEMU absorbs some triggers. */
  readonly requestRetryMs: number;
  /** From REQUEST to REPLY: the secondary stops. */
  readonly suspendMsMax: number;
  /** From REPLY to SEND: the primary stops. */
  readonly saveMsMax: number;
  /** From SEND to RECEIVED: the state travels. */
  readonly transferMsMax: number;
  /** From RECEIVED to LOADED. */
  readonly loadMsMax: number;
  /** From LOADED until everything held has been released and the gate is open. */
  readonly commitMsMax: number;
  /** From the opened channel to READY: the whole initial copy. */
  readonly migrateMsMax: number;
}

export const DEFAULT_CHECKPOINT_LIMITS: CheckpointLimits = {
  mode: 'compare',
  periodicMs: 100,
  adaptive: true,
  adaptivePeriodMsMin: 20,
  distanceMsMin: 100,
  periodMsMax: 0,
  quiesceMsMax: 50,
  quiescePollMs: 1,
  putOffsMax: 5,
  requestMsMax: 2000,
  requestRetryMs: 250,
  suspendMsMax: 2000,
  saveMsMax: 5000,
  transferMsMax: 10_000,
  loadMsMax: 10_000,
  commitMsMax: 5000,
  migrateMsMax: 600_000,
};
