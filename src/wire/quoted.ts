/** The packet an ICMP or ICMPv6 error quotes: the beginning of what the error's sender had received. */
import { readU16, readU32 } from './bytes.js';
import { fragmentOffset } from './fragment.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { walkExtensionHeaders } from './ipv6.js';
import {
  ICMP_HEADER_BYTES,
  Icmpv4Type,
  Icmpv6Type,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  IpProtocol,
} from './numbers.js';
import { resetView } from './parse.js';

/** Every error quotes at least this much of the L4 header (RFC 792). */
const QUOTED_L4_BYTES_MIN = 8;
/** So much of a TCP header must be quoted for its acknowledgement number, flags and checksum to be there. */
export const QUOTED_ACK_BYTES = 12;
export const QUOTED_FLAGS_BYTES = 14;
export const QUOTED_CHECKSUM_BYTES = 18;

export function isIcmpError(view: FrameView): boolean {
  const type = view.icmpType;
  if (view.kind === FrameKind.ICMP) {
    return (
      type === Icmpv4Type.UNREACHABLE ||
      type === Icmpv4Type.SOURCE_QUENCH ||
      type === Icmpv4Type.REDIRECT ||
      type === Icmpv4Type.TIME_EXCEEDED ||
      type === Icmpv4Type.PARAMETER_PROBLEM
    );
  }
  // RFC 4443 2.1: types below 128 are errors; a redirect quotes only in an option and is not read
  return (
    view.kind === FrameKind.ICMPV6 && type >= Icmpv6Type.UNREACHABLE && type <= Icmpv6Type.PARAMETER_PROBLEM
  );
}

/**
 * Fills `quoted` from the packet inside the error `view`: VLAN, IP version, addresses (by `l3`), protocol, `l4`, ports or
 * echo identifier, and for TCP `seq` at `l4 + 4`, and `ack` and `tcpFlags` as far as quoted. `l3End` is the end of what is
 * quoted, which may be shorter than the packet was: `payloadBytes` tells whether ack (12 bytes), flags (14) or checksum
 * (18) are there. Its direction is the opposite of the error's. Returns false, with `quoted` MALFORMED, when the frame is no error or quotes too little.
 */
export function parseQuoted(view: FrameView, quoted: FrameView): boolean {
  resetView(quoted);
  quoted.bytes = view.bytes;
  quoted.start = view.start;
  quoted.end = view.end;
  quoted.vnetHeaderBytes = 0;
  if (!isIcmpError(view) || !parseQuotedLayers(view, quoted)) {
    resetView(quoted);
    return false;
  }
  return true;
}

function parseQuotedLayers(view: FrameView, quoted: FrameView): boolean {
  const { bytes, payload, l3End } = view;
  const room = l3End - payload;
  const version = view.ipVersion;
  const headerBytesMin = version === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
  if (room < headerBytesMin + QUOTED_L4_BYTES_MIN || bytes[payload]! >>> 4 !== version) return false;
  quoted.etherType = view.etherType;
  quoted.vlan = view.vlan;
  quoted.network = payload;
  quoted.ipVersion = version;
  quoted.l3 = payload;
  quoted.l3End = l3End;
  let isFragment = false;
  if (version === 4) {
    const headerBytes = (bytes[payload]! & 0x0f) * 4;
    if (headerBytes < IPV4_HEADER_BYTES) return false;
    quoted.l4 = payload + headerBytes;
    quoted.ipProtocol = bytes[payload + 9]!;
    // the first fragment has the ports; only later ones do not
    isFragment = fragmentOffset(quoted) !== 0;
  } else {
    const kind = walkExtensionHeaders(quoted);
    if (kind === FrameKind.MALFORMED) return false;
    isFragment = kind === FrameKind.FRAGMENT && fragmentOffset(quoted) !== 0;
  }
  if (l3End - quoted.l4 < QUOTED_L4_BYTES_MIN) return false;
  quoted.payload = quoted.l4;
  quoted.payloadBytes = l3End - quoted.l4;
  quoted.kind = isFragment ? FrameKind.FRAGMENT : readQuotedTransport(quoted);
  return true;
}

function readQuotedTransport(quoted: FrameView): FrameKind {
  const { bytes, l4, ipProtocol, ipVersion } = quoted;
  if (ipProtocol === IpProtocol.TCP || ipProtocol === IpProtocol.UDP) {
    quoted.sourcePort = readU16(bytes, l4);
    quoted.destinationPort = readU16(bytes, l4 + 2);
    if (ipProtocol === IpProtocol.UDP) return FrameKind.UDP;
    quoted.seq = readU32(bytes, l4 + 4);
    if (quoted.payloadBytes >= QUOTED_ACK_BYTES) quoted.ack = readU32(bytes, l4 + 8);
    if (quoted.payloadBytes >= QUOTED_FLAGS_BYTES) quoted.tcpFlags = bytes[l4 + 13]!;
    return FrameKind.TCP;
  }
  const isIcmpv4 = ipVersion === 4 && ipProtocol === IpProtocol.ICMP;
  if (!isIcmpv4 && !(ipVersion === 6 && ipProtocol === IpProtocol.ICMPV6)) return FrameKind.IP_OTHER;
  quoted.icmpType = bytes[l4]!;
  quoted.icmpCode = bytes[l4 + 1]!;
  const types = isIcmpv4 ? Icmpv4Type : Icmpv6Type;
  if (quoted.icmpType === types.ECHO || quoted.icmpType === types.ECHO_REPLY) {
    quoted.sourcePort = readU16(bytes, l4 + ICMP_HEADER_BYTES - 4);
    quoted.destinationPort = quoted.sourcePort;
  }
  return isIcmpv4 ? FrameKind.ICMP : FrameKind.ICMPV6;
}
