/**
 * Limits that a running pair reads where it uses them: changing them here changes what it does from then on. Those
 * that sized something at the start are left alone.
 */
import { type CheckpointLimits, DEFAULT_CHECKPOINT_LIMITS } from '../checkpoint/limits.js';
import type { CheckpointMode } from '../checkpoint/ports.js';
import type { CompareLimits } from '../compare/verdict.js';

type Mutable<Limits> = { -readonly [Key in keyof Limits]: Limits[Key] };

/** What of a configuration concerns limits. */
export interface LimitsConfig {
  readonly compare: CompareLimits;
  readonly checkpoint: Partial<CheckpointLimits> & {
    readonly mode: CheckpointMode;
    readonly periodMsMax: number;
    readonly periodicMs: number;
  };
}

const LIVE_COMPARE_KEYS = [
  'holdMsMin',
  'holdMsMax',
  'reorderMsMax',
  'heldBytesPerFlowMax',
] as const satisfies readonly (keyof CompareLimits)[];

const LIVE_CHECKPOINT_KEYS = [
  'distanceMsMin',
  'quiesceMsMax',
  'requestMsMax',
  'suspendMsMax',
  'saveMsMax',
  'transferMsMax',
  'loadMsMax',
  'migrateMsMax',
] as const satisfies readonly (keyof CheckpointLimits)[];

export class LiveLimits {
  readonly compare: Mutable<CompareLimits>;
  readonly checkpoint: Mutable<CheckpointLimits>;
  #planned: { readonly mode: CheckpointMode; readonly periodMs: number };

  constructor(config: LimitsConfig) {
    this.compare = { ...config.compare };
    this.checkpoint = { ...DEFAULT_CHECKPOINT_LIMITS, ...config.checkpoint };
    this.#planned = planOf(config);
  }

  /** Returns the plan of checkpoints when the configuration asks for another than before, else null. */
  take(config: LimitsConfig): { readonly mode: CheckpointMode; readonly periodMs: number } | null {
    for (const key of LIVE_COMPARE_KEYS) this.compare[key] = config.compare[key];
    for (const key of LIVE_CHECKPOINT_KEYS) {
      const value = config.checkpoint[key];
      if (value !== undefined) this.checkpoint[key] = value;
    }
    const plan = planOf(config);
    const isSame = plan.mode === this.#planned.mode && plan.periodMs === this.#planned.periodMs;
    this.#planned = plan;
    return isSame ? null : plan;
  }
}

function planOf({ checkpoint }: LimitsConfig): { mode: CheckpointMode; periodMs: number } {
  const { mode, periodMsMax, periodicMs } = checkpoint;
  return { mode, periodMs: mode === 'periodic' ? periodicMs : periodMsMax };
}
