/**
 * How far one VM runs behind the other, from the times between equal output of the two, and the hold time that follows
 * from it: a high quantile times a factor, between a floor and a ceiling.
 */
import type { CompareLimits } from './verdict.js';

const BUCKETS = 48;
/** Bucket 0 is [0, 0.1 ms); each further one is 1.35 times as wide as the one before it: the last begins above 100 s. */
const FIRST_MS = 0.1;
const GROWTH = 1.35;
const LOG_GROWTH = Math.log(GROWTH);
const QUANTILE = 0.99;
/** A checkpoint (tens of milliseconds of pause) costs more than waiting a little longer. */
const FACTOR = 4;
/** So many samples on, older ones weigh half: the pair's lag changes with its load. */
const HALF_LIFE_SAMPLES = 4096;
/** Fewer samples say nothing: the ceiling is used. */
const SAMPLES_MIN = 32;

export type HoldLimits = Pick<CompareLimits, 'holdMsMin' | 'holdMsMax'>;

export class LagEstimate {
  readonly #counts = new Float64Array(BUCKETS);
  /** Read where they are used: a reload changes them. */
  readonly #limits: HoldLimits;
  #total = 0;
  #sinceHalving = 0;
  #holdMs: number;
  /** Of a batch many have the same. */
  #lastMs = 0;
  #lastBucket = 0;

  constructor(limits: HoldLimits) {
    this.#limits = limits;
    this.#holdMs = limits.holdMsMax;
  }

  /** One-sided output asks for a checkpoint after this long. */
  get holdMs(): number {
    return this.#holdMs;
  }

  sample(lagMs: number): void {
    if (lagMs !== this.#lastMs) {
      this.#lastMs = lagMs;
      const bucket = lagMs < FIRST_MS ? 0 : 1 + Math.floor(Math.log(lagMs / FIRST_MS) / LOG_GROWTH);
      this.#lastBucket = bucket < BUCKETS ? bucket : BUCKETS - 1;
    }
    this.#counts[this.#lastBucket] = this.#counts[this.#lastBucket]! + 1;
    this.#total += 1;
    this.#sinceHalving += 1;
    if (this.#sinceHalving < HALF_LIFE_SAMPLES) return;
    this.#sinceHalving = 0;
    this.#total = 0;
    for (let at = 0; at < BUCKETS; at += 1) {
      this.#counts[at] = this.#counts[at]! / 2;
      this.#total += this.#counts[at]!;
    }
  }

  /** Works the hold time out anew; called by the clock, not per frame. */
  refresh(): void {
    const { holdMsMin, holdMsMax } = this.#limits;
    if (this.#total < SAMPLES_MIN) {
      this.#holdMs = holdMsMax;
      return;
    }
    const holdMs = this.quantileMs(QUANTILE) * FACTOR;
    this.#holdMs = Math.min(holdMsMax, Math.max(holdMsMin, holdMs));
  }

  /** Upper bound of the bucket that holds the quantile; 0 without samples. */
  quantileMs(quantile: number): number {
    let left = this.#total * quantile;
    if (this.#total === 0) return 0;
    for (let at = 0; at < BUCKETS; at += 1) {
      left -= this.#counts[at]!;
      if (left <= 0) return FIRST_MS * GROWTH ** at;
    }
    return FIRST_MS * GROWTH ** BUCKETS;
  }
}
