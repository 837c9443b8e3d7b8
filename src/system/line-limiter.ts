import type { Clock } from './clock.js';

/**
 * Lets through a bounded number of log lines of one kind: a burst, then so many a second. What is left out is
 * counted, and the next line that passes tells how many.
 */
export class LineLimiter {
  readonly #clock: Clock;
  readonly #burstLines: number;
  readonly #linesPerSecond: number;
  #tokens: number;
  #refilledAtMs: number;
  #leftOut = 0;

  constructor(clock: Clock, limits: { burstLines: number; linesPerSecond: number }) {
    this.#clock = clock;
    this.#burstLines = limits.burstLines;
    this.#linesPerSecond = limits.linesPerSecond;
    this.#tokens = limits.burstLines;
    this.#refilledAtMs = clock.now();
  }

  /** How many lines were left out since the last one, when this one may be written; -1 when it may not. */
  take(): number {
    const nowMs = this.#clock.now();
    const earned = ((nowMs - this.#refilledAtMs) / 1000) * this.#linesPerSecond;
    this.#tokens = Math.min(this.#burstLines, this.#tokens + earned);
    this.#refilledAtMs = nowMs;
    if (this.#tokens < 1) {
      this.#leftOut++;
      return -1;
    }
    this.#tokens--;
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    return leftOut;
  }
}
