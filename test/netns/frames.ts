/** Frames and slabs for tests of ports. */
import { createHash } from 'node:crypto';
import type { FramePort } from '../../native/index.js';

const SLOT_BYTES = 66_000;
const SLOTS = 32;

/** A frame copied out of a batch. */
export interface ReceivedFrame {
  bytes: Buffer;
  /** Its vnet header; empty on a port without. */
  vnetHeader: Buffer;
}

const slab = Buffer.alloc(SLOT_BYTES * SLOTS);
const offsets = new Int32Array(SLOTS);
const lengths = new Int32Array(SLOTS);

/** Everything that waits, copied. */
export function receiveAll(port: FramePort): ReceivedFrame[] {
  const frames: ReceivedFrame[] = [];
  for (;;) {
    const count = port.receive(slab, offsets, lengths, SLOT_BYTES, SLOTS);
    for (let i = 0; i < count; i++) {
      const start = offsets[i];
      frames.push({
        bytes: Buffer.from(slab.subarray(start, start + lengths[i])),
        vnetHeader: Buffer.from(slab.subarray(start - port.vnetHeaderBytes, start)),
      });
    }
    if (count === 0) return frames;
  }
}

/** Sends the same bytes `count` times in one call; a vnet header, if given, goes before each. */
export function sendFrame(
  port: FramePort,
  frame: Buffer,
  count = 1,
  vnetHeader: Buffer = Buffer.alloc(0),
): number {
  const bytes = Buffer.concat([vnetHeader, frame]);
  const starts = new Int32Array(count).fill(vnetHeader.length);
  const sizes = new Int32Array(count).fill(frame.length);
  return port.send(bytes, starts, sizes, vnetHeader.length as 0 | 10, 0, count);
}

export function mac(last: number): Buffer {
  return Buffer.from([0x52, 0x54, 0x00, 0x77, 0x00, last]);
}

export const BROADCAST = Buffer.alloc(6, 0xff);

/** Ethernet with any EtherType; `tags` are TPID, TCI pairs, outermost first. */
export function ethernet(
  destination: Buffer,
  source: Buffer,
  etherType: number,
  payload: Buffer,
  tags: readonly (readonly [tpid: number, tci: number])[] = [],
): Buffer {
  const words = [...tags.flat(), etherType];
  const header = Buffer.alloc(words.length * 2);
  words.forEach((word, i) => {
    header.writeUInt16BE(word, i * 2);
  });
  return Buffer.concat([destination, source, header, payload]);
}

/** 0x88b5: an EtherType for local experiments (IEEE 802), which no stack answers. */
export function probe(
  payloadBytes: number,
  fill = 0x5a,
  tags: readonly (readonly [number, number])[] = [],
): Buffer {
  return ethernet(mac(2), mac(1), 0x88b5, Buffer.alloc(payloadBytes, fill), tags);
}

export function isProbe(frame: ReceivedFrame): boolean {
  const type = frame.bytes.readUInt16BE(12);
  const inner = type === 0x8100 || type === 0x88a8 ? frame.bytes.subarray(16) : frame.bytes.subarray(12);
  return inner.includes(Buffer.from([0x88, 0xb5]));
}

export interface VnetHeader {
  flags: number;
  gsoType: number;
  headerLength: number;
  gsoSize: number;
  checksumStart: number;
  checksumOffset: number;
}

export const VnetFlag = { NEEDS_CSUM: 1, DATA_VALID: 2 } as const;
export const VnetGso = { NONE: 0, TCPV4: 1, TCPV6: 4 } as const;

export function encodeVnetHeader(header: VnetHeader): Buffer {
  const bytes = Buffer.alloc(10);
  bytes[0] = header.flags;
  bytes[1] = header.gsoType;
  bytes.writeUInt16LE(header.headerLength, 2);
  bytes.writeUInt16LE(header.gsoSize, 4);
  bytes.writeUInt16LE(header.checksumStart, 6);
  bytes.writeUInt16LE(header.checksumOffset, 8);
  return bytes;
}

export function decodeVnetHeader(bytes: Buffer): VnetHeader {
  return {
    flags: bytes[0],
    gsoType: bytes[1],
    headerLength: bytes.readUInt16LE(2),
    gsoSize: bytes.readUInt16LE(4),
    checksumStart: bytes.readUInt16LE(6),
    checksumOffset: bytes.readUInt16LE(8),
  };
}

/** One's complement sum of big-endian words, folded, not inverted. */
export function sum(bytes: Buffer, initial = 0): number {
  let total = initial;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

/**
 * IPv4/TCP from 10.9.0.1:5000 to 10.9.0.2:80. `partial`: the checksum field holds the pseudo-header's sum only,
 * as a sender leaves it that hands the rest to the hardware; else it is complete.
 */
export function tcpFrame(
  payload: Buffer,
  partial: boolean,
  tags: readonly (readonly [number, number])[] = [],
): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(5000, 0);
  tcp.writeUInt16BE(80, 2);
  tcp.writeUInt32BE(1, 4);
  tcp.writeUInt32BE(1, 8);
  tcp[12] = 0x50;
  tcp[13] = 0x18;
  tcp.writeUInt16BE(0xffff, 14);
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip.writeUInt16BE(40 + payload.length, 2);
  ip[6] = 0x40;
  ip[8] = 64;
  ip[9] = 6;
  Buffer.from([10, 9, 0, 1, 10, 9, 0, 2]).copy(ip, 12);
  ip.writeUInt16BE(~sum(ip) & 0xffff, 10);
  const pseudo = Buffer.concat([ip.subarray(12, 20), Buffer.from([0, 6, 0, 0])]);
  pseudo.writeUInt16BE(20 + payload.length, 10);
  const pseudoSum = sum(pseudo);
  tcp.writeUInt16BE(partial ? pseudoSum : ~sum(Buffer.concat([tcp, payload]), pseudoSum) & 0xffff, 16);
  return ethernet(mac(2), mac(1), 0x0800, Buffer.concat([ip, tcp, payload]), tags);
}

/** Frames as short texts, `length:digest`, so that a failed comparison can be read. */
export function prints(frames: readonly (Buffer | ReceivedFrame)[]): string[] {
  return frames.map((frame) => {
    const bytes = Buffer.isBuffer(frame) ? frame : frame.bytes;
    return `${bytes.length}:${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}`;
  });
}

/** Polls until `condition` is true; fails by throwing after `limitMs`. */
export async function until(condition: () => boolean, what: string, limitMs = 10_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
