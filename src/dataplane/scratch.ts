import { VNET_HEADER_BYTES, type VnetHeaderBytes } from '../link/link.js';
import { allocateFrameBytes, copyBytes } from '../wire/frame-memory.js';

/** One frame's worth of bytes to rewrite in, shared by everything that runs in the data plane's thread. */
const FRAME_BYTES_MAX = 128 * 1024;
export const SCRATCH_HEADROOM_BYTES = VNET_HEADER_BYTES;
const scratch = allocateFrameBytes(SCRATCH_HEADROOM_BYTES + FRAME_BYTES_MAX);

/**
 * Copies a frame with its vnet header to the scratch buffer, where it begins at SCRATCH_HEADROOM_BYTES. Valid
 * until the next call. `length` is at most 128 KiB: links never hand out more.
 */
export function copyToScratch(
  bytes: Buffer,
  offset: number,
  length: number,
  vnetHeaderBytes: VnetHeaderBytes,
): Buffer {
  const at = SCRATCH_HEADROOM_BYTES - vnetHeaderBytes;
  copyBytes(bytes, offset - vnetHeaderBytes, scratch, at, vnetHeaderBytes + length);
  return scratch;
}
