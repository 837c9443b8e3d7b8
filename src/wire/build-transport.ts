/** TCP, UDP and ICMP frames from fields; see build.ts. */
import { buildTransport, type IpFields } from './build-ip.js';
import { writeU16, writeU32 } from './bytes.js';
import {
  ICMP_HEADER_BYTES,
  Icmpv4Type,
  Icmpv6Type,
  IpProtocol,
  TcpOption,
  UDP_HEADER_BYTES,
} from './numbers.js';

export interface TcpOptions {
  readonly mss?: number;
  readonly windowScale?: number;
  readonly sackPermitted?: boolean;
  readonly timestamp?: { readonly value: number; readonly echo: number };
  /** Blocks as [left edge, right edge). */
  readonly sack?: readonly (readonly [number, number])[];
  /** MD5 digest of 16 bytes (RFC 2385). */
  readonly md5?: Uint8Array;
  readonly fastOpenCookie?: Uint8Array;
  /** Appended as they are. */
  readonly raw?: Uint8Array;
}

export interface TcpFields extends IpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack?: number;
  /** TcpFlag bits. */
  readonly flags: number;
  /** As it stands in the header, unscaled; 65535 unless given. */
  readonly window?: number;
  readonly urgent?: number;
  readonly options?: TcpOptions;
  readonly payload?: Uint8Array;
}

export function buildTcp(fields: TcpFields): Buffer {
  const options = encodeOptions(fields.options);
  const payload = fields.payload ?? Buffer.alloc(0);
  const headerBytes = 20 + options.length;
  const segment = Buffer.alloc(headerBytes + payload.length);
  writeU16(segment, 0, fields.sourcePort);
  writeU16(segment, 2, fields.destinationPort);
  writeU32(segment, 4, fields.seq);
  writeU32(segment, 8, fields.ack ?? 0);
  segment[12] = (headerBytes / 4) << 4;
  segment[13] = fields.flags;
  writeU16(segment, 14, fields.window ?? 0xffff);
  writeU16(segment, 18, fields.urgent ?? 0);
  segment.set(options, 20);
  segment.set(payload, headerBytes);
  return buildTransport(fields, IpProtocol.TCP, segment, 16);
}

/** Timestamps and SACK are preceded by two NOPs, as Linux lays them out; the list is padded with END. */
function encodeOptions(options: TcpOptions | undefined): Buffer {
  if (options === undefined) return Buffer.alloc(0);
  const list: number[] = [];
  if (options.mss !== undefined) list.push(TcpOption.MSS, 4, options.mss >>> 8, options.mss & 0xff);
  if (options.sackPermitted === true) list.push(TcpOption.SACK_PERMITTED, 2);
  if (options.timestamp !== undefined) {
    const { value, echo } = options.timestamp;
    list.push(TcpOption.NOP, TcpOption.NOP, TcpOption.TIMESTAMP, 10, ...word(value), ...word(echo));
  }
  if (options.windowScale !== undefined) {
    list.push(TcpOption.NOP, TcpOption.WINDOW_SCALE, 3, options.windowScale);
  }
  if (options.sack !== undefined) {
    list.push(TcpOption.NOP, TcpOption.NOP, TcpOption.SACK, 2 + 8 * options.sack.length);
    for (const [left, right] of options.sack) list.push(...word(left), ...word(right));
  }
  if (options.md5 !== undefined) list.push(TcpOption.MD5, 18, ...options.md5);
  if (options.fastOpenCookie !== undefined) {
    list.push(TcpOption.FAST_OPEN, 2 + options.fastOpenCookie.length, ...options.fastOpenCookie);
  }
  if (options.raw !== undefined) list.push(...options.raw);
  while (list.length % 4 !== 0) list.push(TcpOption.END);
  if (list.length > 40) throw new RangeError(`TCP options of ${list.length} bytes: 40 at most`);
  return Buffer.from(list);
}

function word(value: number): [number, number, number, number] {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

export interface UdpFields extends IpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload?: Uint8Array;
}

export function buildUdp(fields: UdpFields): Buffer {
  const payload = fields.payload ?? Buffer.alloc(0);
  const datagram = Buffer.alloc(UDP_HEADER_BYTES + payload.length);
  writeU16(datagram, 0, fields.sourcePort);
  writeU16(datagram, 2, fields.destinationPort);
  writeU16(datagram, 4, datagram.length > 0xffff ? 0 : datagram.length);
  datagram.set(payload, UDP_HEADER_BYTES);
  return buildTransport(fields, IpProtocol.UDP, datagram, 6);
}

export interface IcmpFields extends IpFields {
  readonly type: number;
  readonly code?: number;
  /** Bytes 4 to 7 of the message. */
  readonly rest?: number;
  readonly payload?: Uint8Array;
}

/** Any ICMP message, or ICMPv6 when the addresses are IPv6. */
export function buildIcmp(fields: IcmpFields): Buffer {
  const payload = fields.payload ?? Buffer.alloc(0);
  const message = Buffer.alloc(ICMP_HEADER_BYTES + payload.length);
  message[0] = fields.type;
  message[1] = fields.code ?? 0;
  writeU32(message, 4, fields.rest ?? 0);
  message.set(payload, ICMP_HEADER_BYTES);
  const isIpv6 =
    typeof fields.source === 'string' ? fields.source.includes(':') : fields.source.length === 16;
  return buildTransport(fields, isIpv6 ? IpProtocol.ICMPV6 : IpProtocol.ICMP, message, 2);
}

export interface EchoFields extends IpFields {
  readonly identifier: number;
  readonly sequence: number;
  readonly reply?: boolean;
  readonly payload?: Uint8Array;
}

/** Echo request or reply, ICMP or ICMPv6 by the addresses. */
export function buildEcho(fields: EchoFields): Buffer {
  const isIpv6 =
    typeof fields.source === 'string' ? fields.source.includes(':') : fields.source.length === 16;
  const types = isIpv6 ? Icmpv6Type : Icmpv4Type;
  return buildIcmp({
    ...fields,
    type: fields.reply === true ? types.ECHO_REPLY : types.ECHO,
    rest: fields.identifier * 65536 + fields.sequence,
  });
}
