/** From bytes to a FrameView: one protocol a file, dispatched here. O(1) but for option lists, which are bounded. */
import { parseArp } from './arp.js';
import { parseEthernet } from './ethernet.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { parseIcmp, parseIcmpv6 } from './icmp.js';
import { parseIpv4 } from './ipv4.js';
import { parseIpv6 } from './ipv6.js';
import { EtherType, ICMP_HEADER_BYTES, IpProtocol } from './numbers.js';
import { parsePlain } from './parse-plain.js';
import { parseTcp } from './tcp.js';
import { parseUdp } from './udp.js';
import { vnetChecksumStart, vnetNeedsChecksum } from './vnet-header.js';

/**
 * Fills every field of `view` from the frame at [start, start + length) and returns its kind. Any bytes will do:
 * nothing is thrown, nothing outside the frame (and the vnet header before it) is read, every offset stored lies inside
 * the frame. Of a MALFORMED frame only bytes, start, end and vnetHeaderBytes are set (trap T33).
 *
 * @param vnetHeaderBytes 10 when a vnet header lies directly before `start`.
 */
export function parseFrame(
  bytes: Buffer,
  start: number,
  length: number,
  vnetHeaderBytes: 0 | 10,
  view: FrameView,
): FrameKind {
  view.bytes = bytes;
  view.start = start;
  view.end = start + length;
  view.vnetHeaderBytes = vnetHeaderBytes;
  if (start < vnetHeaderBytes || length < 0 || view.end > bytes.length) {
    resetView(view);
    return FrameKind.MALFORMED;
  }
  const kind = parsePlain(view) ? view.kind : parseAny(view);
  if (vnetHeaderBytes !== 0 && view.l4 !== 0) {
    const header = start - vnetHeaderBytes;
    view.partialChecksum =
      vnetNeedsChecksum(bytes, header) && vnetChecksumStart(bytes, header) === view.l4 - start;
  }
  return kind;
}

/** Layer by layer: what `parsePlain` does of some frames, of any. The bounds are set. */
export function parseAny(view: FrameView): FrameKind {
  resetView(view);
  const kind = parseLayers(view);
  if (kind === FrameKind.MALFORMED) resetView(view);
  else view.kind = kind;
  return kind;
}

function parseLayers(view: FrameView): FrameKind {
  const linkKind = parseEthernet(view);
  if (linkKind !== -1) return linkKind;
  switch (view.etherType) {
    case EtherType.IPV4:
      return parseIpPayload(view, parseIpv4(view));
    case EtherType.IPV6:
      return parseIpPayload(view, parseIpv6(view));
    case EtherType.ARP:
      return parseArp(view);
    case EtherType.RARP:
    case EtherType.LLDP:
      return FrameKind.LINK_CONTROL;
    default:
      return FrameKind.OTHER;
  }
}

function parseIpPayload(view: FrameView, ipKind: FrameKind | -1): FrameKind {
  if (ipKind === FrameKind.MALFORMED) return ipKind;
  view.payload = view.l4;
  view.payloadBytes = view.l3End - view.l4;
  if (ipKind !== -1) return ipKind;
  switch (view.ipProtocol) {
    case IpProtocol.TCP:
      return parseTcp(view);
    case IpProtocol.UDP:
      return parseUdp(view);
    case IpProtocol.ICMP:
      return view.ipVersion === 4 ? parseIcmp(view) : FrameKind.IP_OTHER;
    case IpProtocol.ICMPV6:
      return view.ipVersion === 6 ? parseIcmpv6(view) : FrameKind.IP_OTHER;
    case IpProtocol.IGMP:
      if (view.ipVersion !== 4) return FrameKind.IP_OTHER;
      return view.payloadBytes < ICMP_HEADER_BYTES ? FrameKind.MALFORMED : FrameKind.GROUP_MEMBERSHIP;
    default:
      return FrameKind.IP_OTHER;
  }
}

/** Every field to "nothing known", but the frame's own bounds. */
export function resetView(view: FrameView): void {
  view.kind = FrameKind.MALFORMED;
  view.etherType = 0;
  view.vlan = 0;
  view.network = 0;
  view.ipVersion = 0;
  view.l3 = 0;
  view.l3End = 0;
  view.ipProtocol = -1;
  view.l4 = 0;
  view.payload = 0;
  view.payloadBytes = 0;
  view.sourcePort = 0;
  view.destinationPort = 0;
  view.seq = 0;
  view.ack = 0;
  view.tcpFlags = 0;
  view.window = 0;
  view.options = 0;
  view.optionsEnd = 0;
  view.timestamp = 0;
  view.sack = 0;
  view.sackBlocks = 0;
  view.mss = -1;
  view.windowScale = -1;
  view.sackPermitted = false;
  view.signed = false;
  view.icmpType = -1;
  view.icmpCode = -1;
  view.partialChecksum = false;
}
