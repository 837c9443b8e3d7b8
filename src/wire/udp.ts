import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { IP_TOTAL_BYTES_MAX } from './ipv4.js';
import { UDP_HEADER_BYTES } from './numbers.js';

/**
 * UDP (RFC 768). The payload ends where the UDP length says; what follows inside the IP packet is the surplus
 * area of RFC 9868. Length 0 means "all of it" only beyond what the field can state (RFC 2675).
 */
export function parseUdp(view: FrameView): FrameKind {
  const { bytes, l4, l3End } = view;
  const room = l3End - l4;
  if (room < UDP_HEADER_BYTES) return FrameKind.MALFORMED;
  let length = readU16(bytes, l4 + 4);
  if (length === 0 && room > IP_TOTAL_BYTES_MAX) length = room;
  if (length < UDP_HEADER_BYTES || length > room) return FrameKind.MALFORMED;
  view.sourcePort = readU16(bytes, l4);
  view.destinationPort = readU16(bytes, l4 + 2);
  view.payload = l4 + UDP_HEADER_BYTES;
  view.payloadBytes = length - UDP_HEADER_BYTES;
  return FrameKind.UDP;
}
