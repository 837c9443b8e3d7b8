/**
 * What a network card does with offloads, for links that have none: completing a partial checksum and cutting a
 * super-frame (GSO) into plain frames (trap T18).
 */
import { readU16, writeU16, writeU32 } from './bytes.js';
import { checksumOf, l4End, pseudoHeaderSum, sum16, writeIpv4Checksum } from './checksum.js';
import { FrameKind, type FrameView, TcpFlag } from './frame-view.js';
import { IPV6_HEADER_BYTES, IpProtocol } from './numbers.js';
import { seqAdd } from './sequence.js';
import {
  GsoType,
  VNET_HEADER_LENGTH,
  vnetChecksumOffset,
  vnetChecksumStart,
  vnetDropChecksumRequest,
  vnetGsoBytes,
  vnetGsoType,
  vnetNeedsChecksum,
  vnetToPiece,
} from './vnet-header.js';

/** A super-frame that asks for more segments is refused: no stack sends it, and each costs a frame. */
export const SEGMENTS_MAX = 2048;

const TCP_CWR = 0x80;

/** Receives one plain frame; the bytes are valid only during the call. */
export type SegmentSink = (bytes: Buffer, offset: number, length: number) => void;

/**
 * Completes, in place, the checksum a vnet header asks for, and takes the request out of the header. True also when
 * there was nothing to do; false, with nothing changed, when the header points outside the frame. A super-frame goes to
 * segmentFrame instead.
 */
export function completeChecksum(view: FrameView): boolean {
  if (view.vnetHeaderBytes === 0) return true;
  const { bytes, start, end } = view;
  const header = start - VNET_HEADER_LENGTH;
  if (!vnetNeedsChecksum(bytes, header)) return true;
  const from = start + vnetChecksumStart(bytes, header);
  const field = from + vnetChecksumOffset(bytes, header);
  // Ethernet padding is no part of the packet; where the header points into a tunnel the frame's end must do
  const to = view.partialChecksum ? l4End(view) : end;
  if (field + 2 > to) return false;
  const value = ~sum16(bytes, from, to) & 0xffff;
  // 0xffff equals 0 in one's complement, and to UDP 0 would mean "none" (Linux skb_checksum_help does the same)
  writeU16(bytes, field, value === 0 ? 0xffff : value);
  vnetDropChecksumRequest(bytes, header);
  return true;
}

/**
 * Cuts the super-frame `view` into frames of at most gso_size payload bytes each, built in `scratch` and handed to
 * `emit` one after the other: IP lengths and ids, sequence numbers, flags and all checksums are right, VLAN tags and
 * options kept. Returns how many were emitted; 0, with nothing emitted, when the frame is not TCP or UDP of its stated
 * gso_type, is UFO, carries SYN or a signature, asks for more than SEGMENTS_MAX, or does not fit `scratch`.
 *
 * @param scratch at least headers and gso_size, 64 KiB will always do
 */
export function segmentFrame(view: FrameView, scratch: Buffer, emit: SegmentSink): number {
  if (!isCuttable(view)) return 0;
  const { bytes, start, payload, payloadBytes } = view;
  const gsoBytes = vnetGsoBytes(bytes, start - VNET_HEADER_LENGTH);
  const headerBytes = payload - start;
  const count = Math.max(1, Math.ceil(payloadBytes / gsoBytes));
  if (count > SEGMENTS_MAX || headerBytes + Math.min(gsoBytes, payloadBytes) > scratch.length) return 0;
  bytes.copy(scratch, 0, start, payload);
  for (let index = 0; index < count; index++) {
    const from = index * gsoBytes;
    const chunkBytes = Math.min(gsoBytes, payloadBytes - from);
    bytes.copy(scratch, headerBytes, payload + from, payload + from + chunkBytes);
    if (view.kind === FrameKind.TCP) writeTcpHeader(view, scratch, from, index === count - 1);
    else writeU16(scratch, view.l4 - start + 4, payload - view.l4 + chunkBytes);
    writeIpHeader(view, scratch, index, headerBytes + chunkBytes);
    writeChecksum(view, scratch, headerBytes + chunkBytes);
    emit(scratch, 0, headerBytes + chunkBytes);
  }
  return count;
}

/** The payload bytes of one segment of a TCP super-frame that can be cut in two super-frames; 0 when it cannot. */
export function pieceStep(view: FrameView): number {
  const isTcp = view.kind === FrameKind.TCP && (view.tcpFlags & TcpFlag.URG) === 0 && view.partialChecksum;
  return isTcp && isCuttable(view) ? vnetGsoBytes(view.bytes, view.start - VNET_HEADER_LENGTH) : 0;
}

/**
 * Writes to `target` the headers, the vnet header first, that the bytes [from, to) of a TCP super-frame's payload need
 * to be a frame of their own, and returns their length. `from` is a multiple of `pieceStep`. The checksum stays partial.
 */
export function writePieceHeaders(view: FrameView, from: number, to: number, target: Buffer): number {
  const { bytes, start, payload } = view;
  const gsoBytes = vnetGsoBytes(bytes, start - VNET_HEADER_LENGTH);
  const headers = target.subarray(VNET_HEADER_LENGTH);
  const headerBytes = payload - start;
  const frameBytes = headerBytes + to - from;
  bytes.copy(target, 0, start - VNET_HEADER_LENGTH, payload);
  vnetToPiece(target, 0, headerBytes, to - from <= gsoBytes);
  writeTcpHeader(view, headers, from, to === view.payloadBytes);
  writeIpHeader(view, headers, from / gsoBytes, frameBytes);
  const l4 = view.l4 - start;
  writeU16(headers, l4 + 16, pseudoHeaderSum(view, view.ipProtocol, frameBytes - l4));
  return VNET_HEADER_LENGTH + headerBytes;
}

function isCuttable(view: FrameView): boolean {
  if (view.vnetHeaderBytes === 0) return false;
  const header = view.start - VNET_HEADER_LENGTH;
  if (vnetGsoBytes(view.bytes, header) === 0) return false;
  // an IPv6 jumbo option belongs to the whole packet and must not be repeated
  const isJumbogram =
    view.ipVersion === 6 && readU16(view.bytes, view.l3 + 4) === 0 && view.l4 !== view.l3 + IPV6_HEADER_BYTES;
  if (isJumbogram) return false;
  switch (vnetGsoType(view.bytes, header)) {
    case GsoType.TCPV4:
      return view.ipVersion === 4 && isCuttableTcp(view);
    case GsoType.TCPV6:
      return view.ipVersion === 6 && isCuttableTcp(view);
    case GsoType.UDP_L4:
      return view.kind === FrameKind.UDP;
    default:
      return false;
  }
}

function isCuttableTcp(view: FrameView): boolean {
  return view.kind === FrameKind.TCP && (view.tcpFlags & TcpFlag.SYN) === 0 && !view.signed;
}

/** `from`: position of the segment's first byte in the super-frame's payload. */
function writeTcpHeader(view: FrameView, scratch: Buffer, from: number, isLast: boolean): void {
  const tcp = view.l4 - view.start;
  let flags = view.tcpFlags;
  if (!isLast) flags &= ~(TcpFlag.FIN | TcpFlag.PSH);
  if (from > 0) flags &= ~TCP_CWR;
  const urgent = readU16(view.bytes, view.l4 + 18);
  if ((flags & TcpFlag.URG) !== 0) {
    if (urgent <= from) flags &= ~TcpFlag.URG;
    writeU16(scratch, tcp + 18, Math.max(0, urgent - from));
  }
  writeU32(scratch, tcp + 4, seqAdd(view.seq, from));
  scratch[tcp + 13] = flags;
}

function writeIpHeader(view: FrameView, scratch: Buffer, index: number, frameBytes: number): void {
  const ip = view.l3 - view.start;
  if (view.ipVersion === 6) {
    writeU16(scratch, ip + 4, frameBytes - ip - IPV6_HEADER_BYTES);
    return;
  }
  writeU16(scratch, ip + 2, frameBytes - ip);
  writeU16(scratch, ip + 4, (readU16(view.bytes, view.l3 + 4) + index) & 0xffff);
  writeIpv4Checksum(scratch, ip);
}

function writeChecksum(view: FrameView, scratch: Buffer, frameBytes: number): void {
  const l4 = view.l4 - view.start;
  const isUdp = view.ipProtocol === IpProtocol.UDP;
  const field = l4 + (isUdp ? 6 : 16);
  const hasNone = isUdp && !view.partialChecksum && readU16(view.bytes, view.l4 + 6) === 0;
  if (hasNone && view.ipVersion === 4) return;
  const pseudo = pseudoHeaderSum(view, view.ipProtocol, frameBytes - l4);
  writeU16(scratch, field, 0);
  writeU16(scratch, field, checksumOf(sum16(scratch, l4, frameBytes, pseudo), view.ipProtocol));
}
