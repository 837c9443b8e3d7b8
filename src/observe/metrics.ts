/**
 * Prometheus metrics of one pair. Nothing is counted here: each scrape reads one PairStatus and copies its
 * plain numbers, so the data path never sees a label.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram as PromHistogram, Registry } from 'prom-client';
import type { PairStatus } from '../pair/status.js';
import { type HistogramMetric, METRICS, type NumberMetric } from './metric-table.js';

export interface BuildInfo {
  readonly version: string;
}

export class PairMetrics {
  readonly contentType: string = Registry.PROMETHEUS_CONTENT_TYPE;
  readonly #registry = new Registry();
  readonly #readStatus: () => PairStatus | Promise<PairStatus>;
  #status: PairStatus | undefined;

  constructor(readStatus: () => PairStatus | Promise<PairStatus>, build: BuildInfo) {
    this.#readStatus = readStatus;
    for (const metric of METRICS) {
      if (metric.kind === 'histogram') this.#addHistogram(metric);
      else this.#addNumbers(metric);
    }
    new Gauge({
      name: 'colo_proxy_build_info',
      help: 'Always 1; the labels tell what is running.',
      labelNames: ['version', 'node'],
      registers: [this.#registry],
    }).set({ version: build.version, node: process.version }, 1);
    collectDefaultMetrics({ register: this.#registry });
  }

  /** The exposition text. Concurrent scrapes share a status: it is read once at the start of each. */
  async scrape(): Promise<string> {
    this.#status = await this.#readStatus();
    return this.#registry.metrics();
  }

  #addNumbers(metric: NumberMetric): void {
    const definition = {
      name: metric.name,
      help: metric.help,
      labelNames: [...metric.labelNames],
      registers: [this.#registry],
    };
    const samples = () => metric.read(this.#status!);
    if (metric.kind === 'gauge') {
      new Gauge({
        ...definition,
        collect() {
          this.reset();
          for (const { labels = {}, value } of samples()) this.set(labels, value);
        },
      });
    } else {
      new Counter({
        ...definition,
        collect() {
          this.reset();
          for (const { labels = {}, value } of samples()) this.inc(labels, value);
        },
      });
    }
  }

  #addHistogram(metric: HistogramMetric): void {
    this.#registry.registerMetric(new CopiedHistogram(metric, () => this.#status!));
  }
}

/** A Prometheus histogram whose buckets are copied from one of system/histogram.ts; milliseconds become seconds. */
class CopiedHistogram extends PromHistogram {
  readonly #metric: HistogramMetric;
  readonly #status: () => PairStatus;

  constructor(metric: HistogramMetric, status: () => PairStatus) {
    super({ name: metric.name, help: metric.help, registers: [] });
    this.#metric = metric;
    this.#status = status;
  }

  /** What prom-client calls for the text form and, through `get`, for all others. */
  async getForPromString() {
    const { name, help, kind } = this.#metric;
    const source = this.#metric.read(this.#status());
    const values = [];
    let cumulative = 0;
    for (let index = 0; index < source.counts.length; index++) {
      cumulative += source.counts[index]!;
      const boundMs = source.boundsMs[index];
      const le = boundMs === undefined ? '+Inf' : boundMs / 1000;
      values.push({ labels: { le }, value: cumulative, metricName: `${name}_bucket` });
    }
    values.push({ labels: {}, value: source.sumMs / 1000, metricName: `${name}_sum` });
    values.push({ labels: {}, value: source.count, metricName: `${name}_count` });
    return { name, help, type: kind, values, aggregator: 'sum' };
  }
}
