/**
 * The memory that frames should lie in, so that copying and comparing them is cheap (byte-kernels.ts): one for all
 * links and comparators of a thread. It is an advantage, not a need: what lies elsewhere is copied and compared as well.
 */
import { type ByteKernels, openByteKernels } from './byte-kernels.js';

/** A part of the memory, or any other buffer. */
export interface FrameBytes extends Buffer {
  /** Where in the memory byte 0 lies; undefined: elsewhere. */
  frameAddress?: number;
  /** Of a slab that links receive in: to be called before other frames are written to it. */
  beforeOverwriting?: Set<() => void> | undefined;
}

const MEMORY_BYTES = 512 * 1024 * 1024;
const ALIGNMENT_BYTES = 64;

/** null: it cannot be had, for a limit on address space. */
let memory: ArrayBuffer | null | undefined;
let kernels: ByteKernels;
let usedBytes = 0;

/**
 * `bytes` bytes of any content for as long as the thread lives: for what is allocated once, and kept. When the memory is
 * used up, or cannot be had, an ordinary buffer.
 */
export function allocateFrameBytes(bytes: number): FrameBytes {
  if (memory === undefined) open();
  const address = usedBytes;
  if (memory === null || memory === undefined || address + bytes > MEMORY_BYTES) {
    return Buffer.allocUnsafeSlow(bytes);
  }
  usedBytes = Math.ceil((address + bytes) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  const buffer: FrameBytes = Buffer.from(memory, address, bytes);
  buffer.frameAddress = address;
  buffer.beforeOverwriting = undefined;
  return buffer;
}

function open(): void {
  try {
    ({ memory, kernels } = openByteKernels(MEMORY_BYTES));
  } catch {
    memory = null;
  }
}

/** As `source.copy(target, at, from, from + length)`, but a range that does not lie inside its buffer throws RangeError. */
export function copyBytes(
  source: FrameBytes,
  from: number,
  target: FrameBytes,
  at: number,
  length: number,
): void {
  checkRange(source, from, length);
  checkRange(target, at, length);
  const sourceAddress = source.frameAddress;
  const targetAddress = target.frameAddress;
  if (sourceAddress === undefined || targetAddress === undefined) {
    source.copy(target, at, from, from + length);
    return;
  }
  kernels.copy(targetAddress + at, sourceAddress + from, length);
}

/** Index of the first byte in which two ranges of `length` bytes differ, or -1. RangeError as with `copyBytes`. */
export function differenceOf(a: FrameBytes, aAt: number, b: FrameBytes, bAt: number, length: number): number {
  checkRange(a, aAt, length);
  checkRange(b, bAt, length);
  const aAddress = a.frameAddress;
  const bAddress = b.frameAddress;
  if (aAddress !== undefined && bAddress !== undefined) {
    return kernels.firstDifference(aAddress + aAt, bAddress + bAt, length);
  }
  if (a.compare(b, bAt, bAt + length, aAt, aAt + length) === 0) return -1;
  let index = 0;
  while (a[aAt + index] === b[bAt + index]) index += 1;
  return index;
}

/** Beyond a buffer lies another's memory. */
function checkRange(buffer: FrameBytes, at: number, length: number): void {
  if (!(at >= 0 && length >= 0 && at + length <= buffer.length))
    throw new RangeError('a range outside of its buffer');
}
