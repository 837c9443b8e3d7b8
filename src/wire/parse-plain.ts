/**
 * The frames that nearly all are: no VLAN tag, IPv4 without options or fragments, and TCP with no option but timestamps
 * as every stack lays them out (RFC 7323 appendix A), or UDP. They are parsed in one go; the layers' own parsers say what
 * is right, and do all others.
 */
import { readS32, readU16, readU32 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import {
  ETHERNET_HEADER_BYTES,
  EtherType,
  IPV4_HEADER_BYTES,
  IpProtocol,
  TCP_HEADER_BYTES,
  UDP_HEADER_BYTES,
} from './numbers.js';

const VERSION_4_NO_OPTIONS = 0x45;
const L4 = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
/** NOP, NOP, kind 8, length 10. */
const TIMESTAMP_LAYOUT = 0x0101080a;
const TIMESTAMP_OPTIONS_BYTES = 12;
/** More fragments, and the fragment's offset. */
const FRAGMENT_BITS = 0x3fff;

/**
 * Fills every field of `view` but its bounds, which are set, and returns true; or false, and then nothing is to be
 * relied on.
 */
export function parsePlain(view: FrameView): boolean {
  const { bytes, start, end } = view;
  const l3 = start + ETHERNET_HEADER_BYTES;
  const l4 = start + L4;
  if (end < l4 + UDP_HEADER_BYTES || readU16(bytes, l3 - 2) !== EtherType.IPV4) return false;
  if (bytes[l3] !== VERSION_4_NO_OPTIONS || (readU16(bytes, l3 + 6) & FRAGMENT_BITS) !== 0) return false;
  const l3End = l3 + readU16(bytes, l3 + 2);
  if (l3End > end) return false;
  const protocol = bytes[l3 + 9]!;
  const isPlain =
    protocol === IpProtocol.TCP
      ? parsePlainTcp(view, l4, l3End)
      : protocol === IpProtocol.UDP && parsePlainUdp(view, l4, l3End);
  if (!isPlain) return false;
  view.etherType = EtherType.IPV4;
  view.vlan = 0;
  view.network = l3;
  view.ipVersion = 4;
  view.l3 = l3;
  view.l3End = l3End;
  view.ipProtocol = protocol;
  view.l4 = l4;
  view.sourcePort = readU16(bytes, l4);
  view.destinationPort = readU16(bytes, l4 + 2);
  view.sack = 0;
  view.sackBlocks = 0;
  view.mss = -1;
  view.windowScale = -1;
  view.sackPermitted = false;
  view.signed = false;
  view.icmpType = -1;
  view.icmpCode = -1;
  view.partialChecksum = false;
  return true;
}

function parsePlainTcp(view: FrameView, l4: number, l3End: number): boolean {
  const { bytes } = view;
  const options = l4 + TCP_HEADER_BYTES;
  if (options > l3End) return false;
  const headerBytes = (bytes[l4 + 12]! >>> 4) * 4;
  const payload = l4 + headerBytes;
  if (headerBytes !== TCP_HEADER_BYTES) {
    if (headerBytes !== TCP_HEADER_BYTES + TIMESTAMP_OPTIONS_BYTES || payload > l3End) return false;
    if (readS32(bytes, options) !== TIMESTAMP_LAYOUT) return false;
    view.timestamp = options + 4;
  } else {
    view.timestamp = 0;
  }
  view.kind = FrameKind.TCP;
  view.seq = readU32(bytes, l4 + 4);
  view.ack = readU32(bytes, l4 + 8);
  view.tcpFlags = bytes[l4 + 13]!;
  view.window = readU16(bytes, l4 + 14);
  view.options = options;
  view.optionsEnd = payload;
  view.payload = payload;
  view.payloadBytes = l3End - payload;
  return true;
}

function parsePlainUdp(view: FrameView, l4: number, l3End: number): boolean {
  const datagramBytes = readU16(view.bytes, l4 + 4);
  if (datagramBytes < UDP_HEADER_BYTES || l4 + datagramBytes > l3End) return false;
  view.kind = FrameKind.UDP;
  view.seq = 0;
  view.ack = 0;
  view.tcpFlags = 0;
  view.window = 0;
  view.options = 0;
  view.optionsEnd = 0;
  view.timestamp = 0;
  view.payload = l4 + UDP_HEADER_BYTES;
  view.payloadBytes = datagramBytes - UDP_HEADER_BYTES;
  return true;
}
