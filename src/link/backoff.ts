import type { Clock, Timer } from '../system/clock.js';

export interface BackoffOptions {
  readonly clock: Clock;
  readonly reconnectMsMin: number;
  readonly reconnectMsMax: number;
}

/** Waits between attempts: doubled from the minimum to the maximum, back to the minimum after a success. */
export class Backoff {
  readonly #options: BackoffOptions;
  #delayMs: number;
  #timer: Timer | undefined;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#delayMs = options.reconnectMsMin;
  }

  reset(): void {
    this.#delayMs = this.#options.reconnectMsMin;
  }

  schedule(attempt: () => void): void {
    this.cancel();
    this.#timer = this.#options.clock.after(this.#delayMs, attempt);
    this.#delayMs = Math.min(2 * this.#delayMs, this.#options.reconnectMsMax);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
