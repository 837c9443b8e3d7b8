import type { ColoError } from '../errors.js';
import type { CheckpointCause, CheckpointRecord } from './ports.js';

/** That a checkpoint is wanted, since when, and who waits for it. */
export class CheckpointRequest {
  readonly cause: CheckpointCause;
  /** Clock time in milliseconds. */
  readonly atMs: number;
  #waiters: Array<{ done: (record: CheckpointRecord) => void; failed: (error: ColoError) => void }> = [];

  constructor(cause: CheckpointCause, atMs: number) {
    this.cause = cause;
    this.atMs = atMs;
  }

  /** Resolves when the checkpoint has been loaded; rejects when it was given up for good. */
  wait(): Promise<CheckpointRecord> {
    return new Promise((done, failed) => this.#waiters.push({ done, failed }));
  }

  loaded(record: CheckpointRecord): void {
    for (const waiter of this.#waiters.splice(0)) waiter.done(record);
  }

  failed(error: ColoError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.failed(error);
  }
}
