/** The largest silence between two signs of life. */
export class GapMeter {
  msMax = 0;
  #last = performance.now();

  mark() {
    const now = performance.now();
    this.msMax = Math.max(this.msMax, now - this.#last);
    this.#last = now;
  }
}
