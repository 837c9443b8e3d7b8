import type { CheckpointRecord } from '../checkpoint/ports.js';
import type { Divergence } from '../compare/verdict.js';
import { Histogram } from '../system/histogram.js';

const PAUSE_BOUNDS_MS = [1, 2.5, 5, 10, 15, 25, 50, 100, 250, 500, 1000, 2500, 5000];

/** What has happened to the pair, for status and metrics. */
export class PairHistory {
  /** Checkpoints loaded since the start, over all secondaries. */
  epoch = 0;
  readonly pause = new Histogram(PAUSE_BOUNDS_MS);
  readonly failovers = { 'primary-lost': 0, 'secondary-lost': 0 };
  lastCheckpoint: CheckpointRecord | null = null;
  lastDivergence: Divergence | null = null;

  checkpointDone(record: CheckpointRecord): void {
    this.epoch++;
    this.pause.observe(record.pauseMs);
    this.lastCheckpoint = { ...record, epoch: this.epoch };
  }
}
