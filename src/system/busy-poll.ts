/**
 * Adaptive busy polling: while frames come, and for a little longer, the event loop does not go to sleep. A wake-up
 * costs tens of microseconds, a turn of the loop one or two; the price is up to one core.
 */
export class BusyPoll {
  readonly #forMs: number;
  readonly #now: () => number;
  #untilMs = 0;
  #isTurning = false;
  readonly #turn = (): void => {
    // with an immediate pending libuv asks the kernel for events without waiting
    if (this.#now() < this.#untilMs) setImmediate(this.#turn);
    else this.#isTurning = false;
  };

  /** @param forUs how long after the last frames the loop keeps turning. */
  constructor(forUs: number, now: () => number) {
    this.#forMs = forUs / 1000;
    this.#now = now;
  }

  /** Frames have come: more may follow soon. */
  stir(): void {
    this.#untilMs = this.#now() + this.#forMs;
    if (this.#isTurning) return;
    this.#isTurning = true;
    setImmediate(this.#turn);
  }
}
