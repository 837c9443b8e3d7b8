/**
 * The words of colo-compare's notify_dev (QEMU net/colo-compare.c, compare_notify_rs_finalize and
 * notify_remote_frame): a big-endian 32-bit length and ASCII, which is what a chardev link carries as a frame.
 */
import type { FrameBatch, Link } from '../link/link.js';

const DO_CHECKPOINT = Buffer.from('DO_CHECKPOINT', 'ascii');
const INIT_ANSWER = Buffer.from('COLO_COMPARE_GET_XEN_INIT', 'ascii');
/** Longer than any word that is known; of a refused one this much is shown. */
const WORD_BYTES_MAX = 64;

export class CheckpointWords {
  /** Checkpoints asked for (words sent), told by the peer, words that mean nothing. */
  asked = 0;
  told = 0;
  refused = 0;
  readonly #link: Link;
  readonly #repeatMs: number;
  readonly #events: { checkpoint(): void; refused(word: string): void };
  /** When DO_CHECKPOINT is to be said again; -1: nothing is asked for. */
  #dueMs = -1;

  constructor(link: Link, repeatMs: number, events: { checkpoint(): void; refused(word: string): void }) {
    this.#link = link;
    this.#repeatMs = repeatMs;
    this.#events = events;
  }

  /** Says it at once, and again every `repeatMs` until a checkpoint is told. Requests before that are one. */
  askCheckpoint(nowMs: number): void {
    if (this.#dueMs !== -1) return;
    this.#dueMs = nowMs;
    this.tick(nowMs);
  }

  tick(nowMs: number): void {
    if (this.#dueMs === -1 || nowMs < this.#dueMs || this.#link.state !== 'up') return;
    this.#dueMs = nowMs + this.#repeatMs;
    this.asked++;
    this.#say(DO_CHECKPOINT);
  }

  receive(batch: FrameBatch): void {
    for (let index = 0; index < batch.count; index++) {
      const offset = batch.offsets[index]!;
      const length = Math.min(batch.lengths[index]!, WORD_BYTES_MAX);
      this.#hear(batch.slab.toString('latin1', offset, offset + length));
    }
  }

  #hear(word: string): void {
    switch (word) {
      case 'COLO_USERSPACE_PROXY_INIT':
        this.#say(INIT_ANSWER);
        return;
      case 'COLO_CHECKPOINT':
        this.told++;
        this.#dueMs = -1;
        this.#events.checkpoint();
        return;
      default:
        this.refused++;
        this.#events.refused(word);
    }
  }

  #say(word: Buffer): void {
    this.#link.send(word, 0, word.length, 0);
    this.#link.flush();
  }
}
