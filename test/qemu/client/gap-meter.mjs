/** The largest silence between two signs of life. */
export class GapMeter {
  msMax = 0;
  /** When the largest one ended, in milliseconds since 1970. */
  endedAtMs = 0;
  #last = performance.now();

  mark() {
    const now = performance.now();
    const ms = now - this.#last;
    if (ms > this.msMax) {
      this.msMax = ms;
      this.endedAtMs = performance.timeOrigin + now;
    }
    this.#last = now;
  }
}
