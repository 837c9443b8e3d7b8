import { readU16, readU32 } from './bytes.js';
import { FrameKind, type FrameView, TcpFlag } from './frame-view.js';
import { TCP_HEADER_BYTES, TcpOption } from './numbers.js';

/** A larger shift is used as 14 by every receiver (RFC 7323 2.3). */
const WINDOW_SCALE_MAX = 14;
const SACK_BLOCK_BYTES = 8;

/** TCP (RFC 9293). `tcpFlags` holds all eight flags of byte 13, ECE and CWR included. */
export function parseTcp(view: FrameView): FrameKind {
  const { bytes, l4, l3End } = view;
  const room = l3End - l4;
  if (room < TCP_HEADER_BYTES) return FrameKind.MALFORMED;
  const headerBytes = (bytes[l4 + 12]! >>> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || headerBytes > room) return FrameKind.MALFORMED;
  view.sourcePort = readU16(bytes, l4);
  view.destinationPort = readU16(bytes, l4 + 2);
  view.seq = readU32(bytes, l4 + 4);
  view.ack = readU32(bytes, l4 + 8);
  view.tcpFlags = bytes[l4 + 13]!;
  view.window = readU16(bytes, l4 + 14);
  view.options = l4 + TCP_HEADER_BYTES;
  view.optionsEnd = l4 + headerBytes;
  view.payload = l4 + headerBytes;
  view.payloadBytes = room - headerBytes;
  if (headerBytes > TCP_HEADER_BYTES) parseOptions(view);
  return FrameKind.TCP;
}

/**
 * A list that contradicts itself ends where it does so: what came before it stands, as in Linux's
 * tcp_parse_options. An option of a wrong length is passed over; of a repeated one the last counts.
 */
function parseOptions(view: FrameView): void {
  const { bytes, optionsEnd } = view;
  const isSyn = (view.tcpFlags & TcpFlag.SYN) !== 0;
  let at = view.options;
  while (at < optionsEnd) {
    const kind = bytes[at]!;
    if (kind === TcpOption.END) return;
    if (kind === TcpOption.NOP) {
      at++;
      continue;
    }
    if (at + 1 >= optionsEnd) return;
    const length = bytes[at + 1]!;
    if (length < 2 || at + length > optionsEnd) return;
    switch (kind) {
      case TcpOption.TIMESTAMP:
        if (length === 10) view.timestamp = at + 2;
        break;
      case TcpOption.SACK:
        if (length >= 2 + SACK_BLOCK_BYTES && (length - 2) % SACK_BLOCK_BYTES === 0) {
          view.sack = at + 2;
          view.sackBlocks = (length - 2) / SACK_BLOCK_BYTES;
        }
        break;
      case TcpOption.MSS:
        if (isSyn && length === 4) view.mss = readU16(bytes, at + 2);
        break;
      case TcpOption.WINDOW_SCALE:
        if (isSyn && length === 3) view.windowScale = Math.min(bytes[at + 2]!, WINDOW_SCALE_MAX);
        break;
      case TcpOption.SACK_PERMITTED:
        if (isSyn && length === 2) view.sackPermitted = true;
        break;
      case TcpOption.MD5:
      case TcpOption.AO:
        view.signed = true;
        break;
    }
    at += length;
  }
}
