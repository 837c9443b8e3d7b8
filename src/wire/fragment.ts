/** Fields of a FrameView whose kind is FRAGMENT. Its data is `payload`, `payloadBytes` long. */
import { readU16, readU32 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { IPV4_FRAGMENT_OFFSET_MASK, IPV4_MORE_FRAGMENTS } from './ipv4.js';
import { IPV6_FRAGMENT_HEADER_BYTES, IPV6_FRAGMENT_OFFSET_MASK, IPV6_MORE_FRAGMENTS } from './ipv6.js';
import { IpProtocol } from './numbers.js';
import { resetView } from './parse.js';
import { parseTcp } from './tcp.js';

/** Every fragment but the last carries at least this much (RFC 791): ports and sequence number of TCP. */
const TCP_BYTES_MIN = 8;

/** Where the fragment's data belongs in the whole payload, in bytes. */
export function fragmentOffset(view: FrameView): number {
  if (view.ipVersion === 4) return (readU16(view.bytes, view.l3 + 6) & IPV4_FRAGMENT_OFFSET_MASK) * 8;
  return readU16(view.bytes, view.l4 - IPV6_FRAGMENT_HEADER_BYTES + 2) & IPV6_FRAGMENT_OFFSET_MASK;
}

export function hasMoreFragments(view: FrameView): boolean {
  if (view.ipVersion === 4) return (readU16(view.bytes, view.l3 + 6) & IPV4_MORE_FRAGMENTS) !== 0;
  return (readU16(view.bytes, view.l4 - IPV6_FRAGMENT_HEADER_BYTES + 2) & IPV6_MORE_FRAGMENTS) !== 0;
}

/** Identification: 16 bits in IPv4, 32 in IPv6. */
export function fragmentId(view: FrameView): number {
  if (view.ipVersion === 4) return readU16(view.bytes, view.l3 + 4);
  return readU32(view.bytes, view.l4 - IPV6_FRAGMENT_HEADER_BYTES + 4);
}

/**
 * Fills `segment` from the beginning of a TCP segment in the first fragment `view`: a segment (kind TCP) whose payload is
 * what the fragment holds of it, or, when not even the whole header is there (RFC 1858), its ports alone (kind FRAGMENT).
 * Returns false, with `segment` MALFORMED, when the frame is anything else.
 */
export function parseTcpFragment(view: FrameView, segment: FrameView): boolean {
  resetView(segment);
  if (view.kind !== FrameKind.FRAGMENT || view.ipProtocol !== IpProtocol.TCP) return false;
  if (view.payloadBytes < TCP_BYTES_MIN || fragmentOffset(view) !== 0) return false;
  segment.bytes = view.bytes;
  segment.start = view.start;
  segment.end = view.end;
  segment.vnetHeaderBytes = view.vnetHeaderBytes;
  segment.etherType = view.etherType;
  segment.vlan = view.vlan;
  segment.network = view.network;
  segment.ipVersion = view.ipVersion;
  segment.l3 = view.l3;
  segment.l3End = view.l3End;
  segment.ipProtocol = view.ipProtocol;
  segment.l4 = view.l4;
  segment.partialChecksum = view.partialChecksum;
  if (parseTcp(segment) === FrameKind.TCP) {
    segment.kind = FrameKind.TCP;
    return true;
  }
  segment.kind = FrameKind.FRAGMENT;
  segment.sourcePort = readU16(view.bytes, view.l4);
  segment.destinationPort = readU16(view.bytes, view.l4 + 2);
  return true;
}
