/** A scrape of the proxy's metrics (Prometheus text format). */
export class Metrics {
  /** @type {{name: string, labels: Record<string, string>, value: number}[]} */
  #samples = [];

  /** @param {string} text */
  constructor(text) {
    for (const line of text.split('\n')) {
      const match = /^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)$/i.exec(line);
      if (!match) continue;
      const [, name, labelText = '', value] = match;
      const labels = Object.fromEntries(
        [...labelText.matchAll(/(\w+)="([^"]*)"/g)].map(([, k, v]) => [k, v]),
      );
      this.#samples.push({ name, labels, value: Number(value) });
    }
  }

  /** Sum of the samples of a metric that have these labels. Throws when the proxy has no such metric. */
  sum(name, labels = {}) {
    const samples = this.#samples.filter((sample) => sample.name === `colo_proxy_${name}`);
    if (samples.length === 0) throw new Error(`no metric colo_proxy_${name}`);
    return samples
      .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
      .reduce((total, { value }) => total + value, 0);
  }

  /**
   * A quantile of what a histogram has counted since `before`, linear within its bucket; NaN when nothing was.
   * @param {Metrics} before @param {number} share of 1
   */
  quantileSince(before, name, share) {
    const bucket = (metrics, le) => metrics.sum(`${name}_bucket`, { le });
    const bounds = this.#samples
      .filter((sample) => sample.name === `colo_proxy_${name}_bucket`)
      .map(({ labels }) => labels.le);
    const counts = bounds.map((le) => bucket(this, le) - bucket(before, le));
    const wanted = share * counts.at(-1);
    const index = counts.findIndex((count) => count > 0 && count >= wanted);
    if (index < 0) return Number.NaN;
    const [low, high] = [Number(bounds[index - 1] ?? 0), Number(bounds[index].replace('+Inf', 'Infinity'))];
    const below = counts[index - 1] ?? 0;
    return Number.isFinite(high) ? low + ((high - low) * (wanted - below)) / (counts[index] - below) : low;
  }

  /** The label value for which a one-of-many gauge is 1. */
  current(name, label) {
    const sample = this.#samples.find((one) => one.name === `colo_proxy_${name}` && one.value === 1);
    return sample?.labels[label];
  }

  get state() {
    return this.current('protection_state', 'state');
  }

  get carrier() {
    return this.current('carrier', 'vm');
  }

  get epoch() {
    return this.sum('epoch');
  }

  get checkpoints() {
    return this.sum('checkpoints_total');
  }

  /** Non-zero samples of one metric as "label=value, ..." for a table. */
  text(name) {
    return this.#samples
      .filter((sample) => sample.name === `colo_proxy_${name}` && sample.value !== 0)
      .map(({ labels, value }) => `${Object.values(labels).join('/') || name} ${value}`)
      .join(', ');
  }
}
