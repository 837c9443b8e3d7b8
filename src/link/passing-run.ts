/**
 * Frames that leave a stream as they came from another: back to back in the slab they were received in, each behind its
 * length word. They are written from there, in one piece.
 */
import { readU32 } from '../wire/bytes.js';
import { copyBytes, type FrameBytes } from '../wire/frame-memory.js';
import { FRAME_LENGTH_BYTES } from './framing.js';
import type { SendQueue } from './send-queue.js';

export class PassingRun {
  /** Where they lie, the length words included. */
  slab: FrameBytes | undefined;
  start = 0;
  end = 0;
  frames = 0;
  readonly #settle: () => void;

  /** @param settle is called when the slab is about to be written to: the run must have ended when it returns. */
  constructor(settle: () => void) {
    this.#settle = settle;
  }

  get bytes(): number {
    return this.end - this.start;
  }

  /** Does the frame lie where the run goes on? Then it is part of it. */
  goesOn(bytes: FrameBytes, offset: number, length: number): boolean {
    const at = offset - FRAME_LENGTH_BYTES;
    if (bytes !== this.slab || at !== this.end || readU32(bytes, at) !== length) return false;
    this.end = offset + length;
    this.frames++;
    return true;
  }

  /** Begins a run with the frame, if it lies in a slab of received frames behind its length word. */
  begins(bytes: FrameBytes, offset: number, length: number): boolean {
    const at = offset - FRAME_LENGTH_BYTES;
    if (bytes.beforeOverwriting === undefined || at < 0 || readU32(bytes, at) !== length) return false;
    bytes.beforeOverwriting.add(this.#settle);
    this.slab = bytes;
    this.start = at;
    this.end = offset + length;
    this.frames = 1;
    return true;
  }

  /** The first `bytes` bytes have been written: forgets the frames that are whole among them and returns how many. */
  written(bytes: number): number {
    if (bytes === this.bytes) return this.#forget();
    const end = this.start + bytes;
    const before = this.frames;
    for (let next = this.#afterFirst(); next <= end; next = this.#afterFirst()) {
      this.start = next;
      this.frames--;
    }
    return before - this.frames;
  }

  /** Copies its frames into the queue and forgets them; returns how many did not fit. */
  moveTo(queue: SendQueue): number {
    let refused = 0;
    while (this.frames > 0) {
      const next = this.#afterFirst();
      const length = next - this.start;
      const at = queue.reserve(length - FRAME_LENGTH_BYTES);
      if (at === -1) refused++;
      else copyBytes(this.slab!, this.start, queue.slab, at - FRAME_LENGTH_BYTES, length);
      this.start = next;
      this.frames--;
    }
    this.#forget();
    return refused;
  }

  clear(): void {
    this.#forget();
  }

  #afterFirst(): number {
    return this.start + FRAME_LENGTH_BYTES + readU32(this.slab!, this.start);
  }

  #forget(): number {
    const { frames } = this;
    this.slab?.beforeOverwriting?.delete(this.#settle);
    this.slab = undefined;
    this.start = 0;
    this.end = 0;
    this.frames = 0;
    return frames;
  }
}
