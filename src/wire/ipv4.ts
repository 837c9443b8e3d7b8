import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { IPV4_HEADER_BYTES } from './numbers.js';
import { GsoType, vnetGsoType } from './vnet-header.js';

export const IPV4_MORE_FRAGMENTS = 0x2000;
export const IPV4_FRAGMENT_OFFSET_MASK = 0x1fff;
/** Largest length the 16-bit field can state; a super-frame beyond it states 0 (Linux "BIG TCP"). */
export const IP_TOTAL_BYTES_MAX = 65_535;

/** May an IP length field of 0 mean "to the end of the frame"? Only for a super-frame. */
export function isSuperFrame(view: FrameView, ipBytes: number): boolean {
  if (ipBytes > IP_TOTAL_BYTES_MAX) return true;
  if (view.vnetHeaderBytes === 0) return false;
  return vnetGsoType(view.bytes, view.start - view.vnetHeaderBytes) !== GsoType.NONE;
}

/**
 * IPv4 (RFC 791). Fills ipVersion, l3, l3End, ipProtocol and l4. Returns the kind when the packet is malformed
 * or a fragment, or -1 when the payload is to be parsed.
 */
export function parseIpv4(view: FrameView): FrameKind | -1 {
  const { bytes, end, network } = view;
  const room = end - network;
  if (room < IPV4_HEADER_BYTES || bytes[network]! >>> 4 !== 4) return FrameKind.MALFORMED;
  const headerBytes = (bytes[network]! & 0x0f) * 4;
  let totalBytes = readU16(bytes, network + 2);
  if (totalBytes === 0 && isSuperFrame(view, room)) totalBytes = room;
  if (headerBytes < IPV4_HEADER_BYTES || totalBytes < headerBytes || totalBytes > room) {
    return FrameKind.MALFORMED;
  }
  view.ipVersion = 4;
  view.l3 = network;
  view.l3End = network + totalBytes;
  view.l4 = network + headerBytes;
  view.ipProtocol = bytes[network + 9]!;
  const fragment = readU16(bytes, network + 6) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET_MASK);
  if (fragment === 0) return -1;
  const offset = (fragment & IPV4_FRAGMENT_OFFSET_MASK) * 8;
  return offset + totalBytes > IP_TOTAL_BYTES_MAX ? FrameKind.MALFORMED : FrameKind.FRAGMENT;
}
