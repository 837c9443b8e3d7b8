import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { ICMP_HEADER_BYTES, Icmpv4Type, Icmpv6Type } from './numbers.js';

/** Neighbour messages carry a target address after the header (RFC 4861 4.3, 4.4). */
const NEIGHBOUR_BYTES_MIN = 24;

/** ICMP over IPv4 (RFC 792). The payload begins after the 8-byte header. */
export function parseIcmp(view: FrameView): FrameKind {
  if (!parseHeader(view)) return FrameKind.MALFORMED;
  if (view.icmpType === Icmpv4Type.ECHO || view.icmpType === Icmpv4Type.ECHO_REPLY) readEchoIdentifier(view);
  return FrameKind.ICMP;
}

/** ICMPv6 (RFC 4443), sorted into ND, group membership and the rest. */
export function parseIcmpv6(view: FrameView): FrameKind {
  if (!parseHeader(view)) return FrameKind.MALFORMED;
  switch (view.icmpType) {
    case Icmpv6Type.ECHO:
    case Icmpv6Type.ECHO_REPLY:
      readEchoIdentifier(view);
      return FrameKind.ICMPV6;
    case Icmpv6Type.NEIGHBOUR_SOLICITATION:
    case Icmpv6Type.NEIGHBOUR_ADVERTISEMENT:
      return view.l3End - view.l4 < NEIGHBOUR_BYTES_MIN ? FrameKind.MALFORMED : FrameKind.ND;
    case Icmpv6Type.ROUTER_SOLICITATION:
      return FrameKind.ND;
    case Icmpv6Type.MLD_QUERY:
    case Icmpv6Type.MLD_REPORT:
    case Icmpv6Type.MLD_DONE:
    case Icmpv6Type.MLD2_REPORT:
      return FrameKind.GROUP_MEMBERSHIP;
    default:
      return FrameKind.ICMPV6;
  }
}

function parseHeader(view: FrameView): boolean {
  const { bytes, l4, l3End } = view;
  if (l3End - l4 < ICMP_HEADER_BYTES) return false;
  view.icmpType = bytes[l4]!;
  view.icmpCode = bytes[l4 + 1]!;
  view.payload = l4 + ICMP_HEADER_BYTES;
  view.payloadBytes = l3End - view.payload;
  return true;
}

function readEchoIdentifier(view: FrameView): void {
  view.sourcePort = readU16(view.bytes, view.l4 + 4);
  view.destinationPort = view.sourcePort;
}
