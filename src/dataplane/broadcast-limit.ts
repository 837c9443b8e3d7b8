/**
 * A token bucket for broadcast and multicast frames from the client side: both VMs must take each of them, so a
 * storm on the segment would starve the pair. One second's worth may come at once.
 */
export class BroadcastLimit {
  readonly #perSecondMax: number;
  #tokens: number;
  #lastMs = 0;

  constructor(perSecondMax: number) {
    this.#perSecondMax = perSecondMax;
    this.#tokens = perSecondMax;
  }

  /** True when one more frame may pass now. */
  take(nowMs: number): boolean {
    const elapsedMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.#tokens = Math.min(this.#perSecondMax, this.#tokens + (elapsedMs * this.#perSecondMax) / 1000);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
