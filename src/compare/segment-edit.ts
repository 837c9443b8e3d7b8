/**
 * Changes to a TCP segment in place, its checksum kept right incrementally (RFC 1624). A partial checksum covers only
 * the pseudo-header, which none of these fields is in, so it stays as it is (T18).
 */
import { readU16, readU32, writeU16, writeU32 } from '../wire/bytes.js';
import { fold, sum16, updateChecksum16, updateChecksum32 } from '../wire/checksum.js';
import type { FrameView } from '../wire/frame-view.js';
import { TcpOption } from '../wire/numbers.js';

const CHECKSUM_AT = 16;
const SACK_BLOCK_BYTES = 8;

export function setAck(view: FrameView, ack: number): void {
  const at = view.l4 + 8;
  if (!view.partialChecksum) updateChecksum32(view.bytes, view.l4 + CHECKSUM_AT, view.ack, ack);
  writeU32(view.bytes, at, ack);
  view.ack = ack >>> 0;
}

/** @param window the field as sent, unscaled. */
export function setWindow(view: FrameView, window: number): void {
  if (!view.partialChecksum) updateChecksum16(view.bytes, view.l4 + CHECKSUM_AT, view.window, window);
  writeU16(view.bytes, view.l4 + 14, window);
  view.window = window;
}

/**
 * Keeps of the segment's SACK blocks what `covered` lets stand: `covered(left, right)` returns how much of a block, from
 * its left edge on, both VMs hold; 0 drops the block. What is dropped becomes NOPs.
 */
export function shrinkSack(view: FrameView, covered: (left: number, right: number) => number): void {
  const { bytes } = view;
  const option = view.sack - 2;
  const optionEnd = view.sack + view.sackBlocks * SACK_BLOCK_BYTES;
  // sums of even-aligned ranges: an odd first byte is taken in from the byte before it
  const from = option - ((option - view.l4) & 1);
  const to = optionEnd + ((optionEnd - view.l4) & 1);
  const before = sum16(bytes, from, to);
  let kept = 0;
  for (let block = 0; block < view.sackBlocks; block += 1) {
    const at = view.sack + block * SACK_BLOCK_BYTES;
    const left = readU32(bytes, at);
    const length = covered(left, readU32(bytes, at + 4));
    if (length <= 0) continue;
    writeU32(bytes, view.sack + kept * SACK_BLOCK_BYTES, left);
    writeU32(bytes, view.sack + kept * SACK_BLOCK_BYTES + 4, left + length);
    kept += 1;
  }
  if (kept > 0) bytes[option + 1] = 2 + kept * SACK_BLOCK_BYTES;
  bytes.fill(TcpOption.NOP, kept > 0 ? view.sack + kept * SACK_BLOCK_BYTES : option, optionEnd);
  if (!view.partialChecksum) {
    const at = view.l4 + CHECKSUM_AT;
    const sum = (~readU16(bytes, at) & 0xffff) + (~before & 0xffff) + sum16(bytes, from, to);
    writeU16(bytes, at, ~fold(sum) & 0xffff);
  }
  view.sackBlocks = kept;
  if (kept === 0) view.sack = 0;
}
