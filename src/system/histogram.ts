/** A histogram of durations for the data path: `observe` is one loop over a few bounds, nothing is allocated. */
export class Histogram {
  /** Upper bounds in milliseconds, ascending; one more bucket counts what is above the last. */
  readonly boundsMs: readonly number[];
  readonly counts: Float64Array;
  sumMs = 0;
  count = 0;

  constructor(boundsMs: readonly number[]) {
    this.boundsMs = boundsMs;
    this.counts = new Float64Array(boundsMs.length + 1);
  }

  /** One with the same bounds that counts what all of them have; at least one is given. */
  static sum(all: readonly Histogram[]): Histogram {
    const total = new Histogram(all[0]!.boundsMs);
    for (const { counts, sumMs, count } of all) {
      for (let index = 0; index < counts.length; index++) total.counts[index]! += counts[index]!;
      total.sumMs += sumMs;
      total.count += count;
    }
    return total;
  }

  observe(valueMs: number): void {
    const bounds = this.boundsMs;
    let index = 0;
    while (index < bounds.length && valueMs > bounds[index]!) index++;
    this.counts[index]!++;
    this.sumMs += valueMs;
    this.count++;
  }
}
