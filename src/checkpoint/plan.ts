/** How checkpoints are to be taken: what the operator has chosen, and what the policy makes of it. */
import { ColoError } from '../errors.js';
import { AdaptivePolicy } from './adaptive-policy.js';
import type { CheckpointPlan } from './coordinator-contract.js';
import type { CheckpointLimits } from './limits.js';
import type { CheckpointMode } from './ports.js';

/** The longest interval; a day, as everywhere in the configuration. */
const PERIOD_MS_MAX = 86_400_000;

export class PlanKeeper {
  readonly #isAdaptive: boolean;
  readonly #policy: AdaptivePolicy;
  readonly #periodMs: Record<CheckpointMode, number>;
  #chosen: CheckpointMode;
  #adapted: CheckpointPlan | null = null;
  /** Why the plan is what it is, for people. */
  why = 'as configured';

  constructor(limits: CheckpointLimits) {
    this.#isAdaptive = limits.adaptive;
    this.#policy = new AdaptivePolicy({
      periodMsMin: limits.adaptivePeriodMsMin,
      soonMs: 2 * Math.max(limits.distanceMsMin, 50),
    });
    this.#chosen = limits.mode;
    this.#periodMs = { compare: limits.periodMsMax, periodic: limits.periodicMs };
  }

  /** What the next epoch is to be. */
  get plan(): CheckpointPlan {
    return this.#adapted ?? { mode: this.#chosen, periodMs: this.#periodMs[this.#chosen] };
  }

  /** The policy has taken over from what was chosen. */
  get isAdapted(): boolean {
    return this.#adapted !== null;
  }

  /** Throws COLO_ERR_USAGE for an interval that makes no sense. The policy begins anew. */
  choose(change: { readonly mode?: CheckpointMode; readonly periodMs?: number }, nowMs: number): void {
    const mode = change.mode ?? this.#chosen;
    const { periodMs } = change;
    if (periodMs !== undefined) {
      const least = mode === 'periodic' ? 1 : 0;
      if (!Number.isInteger(periodMs) || periodMs < least || periodMs > PERIOD_MS_MAX) {
        const text = `a period of ${periodMs} ms: mode ${mode} takes ${least} to ${PERIOD_MS_MAX}`;
        throw new ColoError('COLO_ERR_USAGE', text);
      }
      this.#periodMs[mode] = periodMs;
    }
    this.#chosen = mode;
    this.why = 'chosen by the operator';
    this.#forget(nowMs);
  }

  /** A new secondary: what the old one's output was like says nothing. */
  restart(nowMs: number): void {
    if (this.#adapted !== null) this.why = 'a new secondary';
    this.#forget(nowMs);
  }

  /** As AdaptivePolicy.loaded. */
  loaded(diverged: boolean, sinceLastMs: number, pauseMs: number, nowMs: number): void {
    if (!this.#isAdaptive || this.#chosen !== 'compare') return;
    const decision = this.#policy.loaded(diverged, sinceLastMs, pauseMs, nowMs);
    if (decision === null) return;
    const { mode, periodMs, why } = decision;
    this.#adapted = mode === 'periodic' ? { mode, periodMs } : null;
    this.why = why;
  }

  #forget(nowMs: number): void {
    this.#adapted = null;
    this.#policy.reset(nowMs);
  }
}
