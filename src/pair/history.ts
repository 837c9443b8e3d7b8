import type { CheckpointRecord } from '../checkpoint/ports.js';
import type { Divergence } from '../compare/verdict.js';
import { Histogram } from '../system/histogram.js';

const ASK_BOUNDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500];
const PAUSE_BOUNDS_MS = [1, 2.5, 5, 10, 15, 25, 50, 100, 250, 500, 1000, 2500, 5000];

/** What has happened to the pair, for status and metrics. */
export class PairHistory {
  /** Checkpoints loaded since the start, over all secondaries. */
  epoch = 0;
  /** From the closing of the gate until the primary is asked: both VMs take what was fed to them. */
  readonly ask = new Histogram(ASK_BOUNDS_MS);
  /** From there to its REQUEST. */
  readonly request = new Histogram(ASK_BOUNDS_MS);
  readonly pause = new Histogram(PAUSE_BOUNDS_MS);
  readonly failovers = { 'primary-lost': 0, 'secondary-lost': 0 };
  lastCheckpoint: CheckpointRecord | null = null;
  lastDivergence: Divergence | null = null;

  checkpointDone(record: CheckpointRecord): void {
    this.epoch++;
    const { begunAtMs, askedAtMs, requestSeenAtMs } = record;
    if (askedAtMs > 0) {
      this.ask.observe(askedAtMs - begunAtMs);
      this.request.observe(requestSeenAtMs - askedAtMs);
    }
    this.pause.observe(record.pauseMs);
    this.lastCheckpoint = { ...record, epoch: this.epoch };
  }
}
