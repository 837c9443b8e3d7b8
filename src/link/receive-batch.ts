import { allocateFrameBytes, type FrameBytes } from '../wire/frame-memory.js';
import type { FrameBatch, LinkHandler, VnetHeaderBytes } from './link.js';

/** What a handler says of slabs it was given. */
export type SlabKeeper = Pick<LinkHandler, 'keeps' | 'overwriting'>;

/**
 * A batch that a link fills again and again. While frames of its slab are kept it takes another one, so that few of
 * them ever have to be copied; there are two.
 */
export class ReceiveBatch implements FrameBatch {
  slab: FrameBytes;
  offsets: Int32Array;
  lengths: Int32Array;
  count = 0;
  /** Of all its frames. */
  bytes = 0;
  readonly vnetHeaderBytes: VnetHeaderBytes;
  keeper: SlabKeeper = {};
  #other: FrameBytes | undefined;

  constructor(slabBytes: number, framesMax: number, vnetHeaderBytes: VnetHeaderBytes) {
    this.slab = newSlab(slabBytes);
    this.offsets = new Int32Array(framesMax);
    this.lengths = new Int32Array(framesMax);
    this.vnetHeaderBytes = vnetHeaderBytes;
  }

  /** `slab` may be written to from its beginning on. */
  renewSlab(): void {
    if (this.keeper.keeps?.(this.slab) === true) {
      const other = this.#other ?? newSlab(this.slab.length);
      this.#other = this.slab;
      this.slab = other;
      this.keeper.overwriting?.(other);
    }
    for (const leave of this.slab.beforeOverwriting!) leave();
  }
}

function newSlab(bytes: number): FrameBytes {
  const slab = allocateFrameBytes(bytes);
  slab.beforeOverwriting = new Set();
  return slab;
}
