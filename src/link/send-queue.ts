/**
 * Frames waiting to be handed to the kernel, back to back in one slab: each is preceded by `prefixBytes`
 * (a vnet header or a stream's length word), so that a stream can be written with one call and a batch of
 * datagrams with another. Bounded in frames and bytes; a frame that does not fit is the caller's to count.
 */
import { allocateFrameBytes, copyBytes, type FrameBytes } from '../wire/frame-memory.js';

export class SendQueue {
  readonly prefixBytes: number;
  readonly #bytesMax: number;
  readonly #framesMax: number;
  /** Grows to `bytesMax` on demand. Offsets and lengths are those of the frames, without their prefix. */
  slab: FrameBytes;
  offsets: Int32Array;
  lengths: Int32Array;
  #head = 0;
  #tail = 0;
  /** One past the last byte used in the slab. */
  #end = 0;

  constructor(options: { prefixBytes: number; bytesMax: number; framesMax: number }) {
    this.prefixBytes = options.prefixBytes;
    this.#bytesMax = options.bytesMax;
    this.#framesMax = options.framesMax;
    this.slab = allocateFrameBytes(Math.min(options.bytesMax, 64 * 1024));
    const slots = Math.min(options.framesMax, 256);
    this.offsets = new Int32Array(slots);
    this.lengths = new Int32Array(slots);
  }

  get count(): number {
    return this.#tail - this.#head;
  }

  /** Index of the oldest frame in `offsets` and `lengths`; the frames are `head` to `head + count - 1`. */
  get head(): number {
    return this.#head;
  }

  /** Where the oldest frame's prefix begins. */
  get startOffset(): number {
    return this.#head === this.#tail ? this.#end : this.offsets[this.#head]! - this.prefixBytes;
  }

  /** Bytes waiting, prefixes included. */
  get bytes(): number {
    return this.#end - this.startOffset;
  }

  /**
   * Makes room for a frame of `length` bytes and returns its offset in `slab`, or -1 when the queue is full.
   * The caller writes the frame there and the prefix directly before it, before any other call.
   */
  reserve(length: number): number {
    const bytes = this.prefixBytes + length;
    if (this.count >= this.#framesMax || this.bytes + bytes > this.#bytesMax) return -1;
    if (this.#head === this.#tail) this.clear();
    if (this.#end + bytes > this.slab.length || this.#tail === this.offsets.length) this.#makeRoom(bytes);
    const offset = this.#end + this.prefixBytes;
    this.offsets[this.#tail] = offset;
    this.lengths[this.#tail] = length;
    this.#tail++;
    this.#end += bytes;
    return offset;
  }

  /** Forgets the oldest `frames` frames. */
  dropFront(frames: number): void {
    this.#head += frames;
    if (this.#head >= this.#tail) this.clear();
  }

  /** Forgets the oldest frames that are wholly among the first `bytes` bytes, prefixes included; returns how many. */
  dropBytes(bytes: number): number {
    const { count } = this;
    if (bytes === this.bytes) {
      this.clear();
      return count;
    }
    const end = this.startOffset + bytes;
    let frames = 0;
    while (frames < count && this.offsets[this.#head + frames]! + this.lengths[this.#head + frames]! <= end)
      frames++;
    this.dropFront(frames);
    return frames;
  }

  /** Forgets the newest frames until `frames` are left. */
  truncate(frames: number): void {
    if (frames >= this.count) return;
    this.#tail = this.#head + frames;
    if (frames === 0) this.clear();
    else this.#end = this.offsets[this.#tail - 1]! + this.lengths[this.#tail - 1]!;
  }

  clear(): void {
    this.#head = 0;
    this.#tail = 0;
    this.#end = 0;
  }

  /** Moves what waits to the front, and grows what is still too small: rare, so its cost is spread over many frames. */
  #makeRoom(bytes: number): void {
    const start = this.startOffset;
    const used = this.#end - start;
    const count = this.count;
    let slab = this.slab;
    if (used + bytes > slab.length / 2) {
      slab = allocateFrameBytes(Math.min(this.#bytesMax, Math.max(2 * slab.length, used + bytes)));
    }
    copyBytes(this.slab, start, slab, 0, used);
    let { offsets, lengths } = this;
    if (count + 1 > offsets.length / 2) {
      offsets = new Int32Array(Math.min(this.#framesMax, 2 * offsets.length));
      lengths = new Int32Array(offsets.length);
    }
    for (let index = 0; index < count; index++) {
      offsets[index] = this.offsets[this.#head + index]! - start;
      lengths[index] = this.lengths[this.#head + index]!;
    }
    this.slab = slab;
    this.offsets = offsets;
    this.lengths = lengths;
    this.#head = 0;
    this.#tail = count;
    this.#end = used;
  }
}
