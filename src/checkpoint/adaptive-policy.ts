/**
 * When comparing pays. A pair whose outputs never agree (TLS, random numbers) holds each output until a checkpoint
 * anyway, at the least distance between two; then periodic checkpoints in quick succession hold it shorter. Whether
 * the outputs agree again is found out by comparing anew for a trial, at growing pauses.
 *
 * The interval: output made while the guest runs for T and is then stopped for p waits T/2 + p on average, and a guest
 * that runs only T of every T + p answers later by the factor (T + p)/T. (T/2 + p)(T + p)/T is least at T = p sqrt 2.
 */
import type { CheckpointMode } from './ports.js';

export interface AdaptiveLimits {
  /** Checkpoints in a row that a divergence asked for as soon as one could be had, before comparing is given up. */
  readonly divergedInRowMax: number;
  /** The same while comparing is on trial. */
  readonly trialInRowMax: number;
  /** A divergence this soon after the last LOADED counts as one of the row. */
  readonly soonMs: number;
  readonly periodMsMin: number;
  readonly periodMsMax: number;
  /** Periodic for this long, then comparing is tried; doubles with every trial that fails. */
  readonly trialAfterMsMin: number;
  readonly trialAfterMsMax: number;
  /** Comparing for this long without such a row: the trial was passed. */
  readonly trialPassedMs: number;
}

const DEFAULT_ADAPTIVE_LIMITS: AdaptiveLimits = {
  divergedInRowMax: 16,
  trialInRowMax: 4,
  soonMs: 200,
  periodMsMin: 20,
  periodMsMax: 1000,
  trialAfterMsMin: 5000,
  trialAfterMsMax: 300_000,
  trialPassedMs: 5000,
};

/** What is to be done from the next checkpoint on, and why, for people. */
export interface AdaptiveDecision {
  readonly mode: CheckpointMode;
  readonly periodMs: number;
  readonly why: string;
}

/** Weight of the newest pause in the average. */
const PAUSE_WEIGHT = 0.2;
/** The period follows the measured pause when it is off by more than this share. */
const PERIOD_TOLERANCE = 0.25;

export class AdaptivePolicy {
  readonly #limits: AdaptiveLimits;
  #mode: CheckpointMode = 'compare';
  #sinceMs = 0;
  #inRow = 0;
  #onTrial = false;
  #trialAfterMs: number;
  #pauseMs = 0;
  #periodMs = 0;

  constructor(limits: Partial<AdaptiveLimits> = {}) {
    this.#limits = { ...DEFAULT_ADAPTIVE_LIMITS, ...limits };
    this.#trialAfterMs = this.#limits.trialAfterMsMin;
  }

  get mode(): CheckpointMode {
    return this.#mode;
  }

  /** A new secondary, or the operator has chosen: nothing is known. */
  reset(nowMs: number): void {
    this.#mode = 'compare';
    this.#sinceMs = nowMs;
    this.#inRow = 0;
    this.#onTrial = false;
    this.#trialAfterMs = this.#limits.trialAfterMsMin;
  }

  /**
   * A checkpoint has been loaded.
   * @param diverged it was asked for because the outputs differed
   * @param sinceLastMs from the last LOADED to the asking
   * @param pauseMs how long the primary was stopped
   * @returns what changes, or null
   */
  loaded(diverged: boolean, sinceLastMs: number, pauseMs: number, nowMs: number): AdaptiveDecision | null {
    this.#pauseMs = this.#pauseMs === 0 ? pauseMs : this.#pauseMs + PAUSE_WEIGHT * (pauseMs - this.#pauseMs);
    return this.#mode === 'compare' ? this.#comparing(diverged, sinceLastMs, nowMs) : this.#periodic(nowMs);
  }

  #comparing(diverged: boolean, sinceLastMs: number, nowMs: number): AdaptiveDecision | null {
    const { divergedInRowMax, trialInRowMax, trialPassedMs, trialAfterMsMin, soonMs } = this.#limits;
    const isSoon = sinceLastMs <= soonMs;
    if (diverged) this.#inRow = isSoon ? this.#inRow + 1 : 1;
    else if (!isSoon) this.#inRow = 0;
    if (this.#inRow >= (this.#onTrial ? trialInRowMax : divergedInRowMax)) {
      if (this.#onTrial) {
        this.#trialAfterMs = Math.min(2 * this.#trialAfterMs, this.#limits.trialAfterMsMax);
      }
      const inRow = this.#inRow;
      this.#enter('periodic', nowMs);
      this.#periodMs = this.#bestPeriodMs();
      return this.#decision(`${inRow} checkpoints in a row for divergences`);
    }
    if (this.#onTrial && nowMs - this.#sinceMs >= trialPassedMs) {
      this.#onTrial = false;
      this.#trialAfterMs = trialAfterMsMin;
    }
    return null;
  }

  #periodic(nowMs: number): AdaptiveDecision | null {
    if (nowMs - this.#sinceMs >= this.#trialAfterMs) {
      this.#enter('compare', nowMs);
      this.#onTrial = true;
      return this.#decision('do the outputs agree again?');
    }
    const best = this.#bestPeriodMs();
    if (Math.abs(best - this.#periodMs) <= PERIOD_TOLERANCE * this.#periodMs) return null;
    this.#periodMs = best;
    return this.#decision(`the pause is ${this.#pauseMs.toFixed(1)} ms`);
  }

  #enter(mode: CheckpointMode, nowMs: number): void {
    this.#mode = mode;
    this.#sinceMs = nowMs;
    this.#inRow = 0;
  }

  #bestPeriodMs(): number {
    const { periodMsMin, periodMsMax } = this.#limits;
    return Math.min(Math.max(Math.round(Math.SQRT2 * this.#pauseMs), periodMsMin), periodMsMax);
  }

  #decision(why: string): AdaptiveDecision {
    return { mode: this.#mode, periodMs: this.#periodMs, why };
  }
}
