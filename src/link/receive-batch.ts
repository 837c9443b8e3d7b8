import { allocateFrameBytes, type FrameBytes } from '../wire/frame-memory.js';
import type { FrameBatch, VnetHeaderBytes } from './link.js';

/** A batch that a link fills again and again: the same slab and columns for every batch. */
export class ReceiveBatch implements FrameBatch {
  slab: FrameBytes;
  offsets: Int32Array;
  lengths: Int32Array;
  count = 0;
  /** Of all its frames. */
  bytes = 0;
  readonly vnetHeaderBytes: VnetHeaderBytes;

  constructor(slabBytes: number, framesMax: number, vnetHeaderBytes: VnetHeaderBytes) {
    this.slab = allocateFrameBytes(slabBytes);
    this.offsets = new Int32Array(framesMax);
    this.lengths = new Int32Array(framesMax);
    this.vnetHeaderBytes = vnetHeaderBytes;
  }
}
