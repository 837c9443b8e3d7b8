/** pcapng (draft-ietf-opsawg-pcapng): blocks, of which sections, interfaces and packets are read, the rest passed over. */
import {
  CAPTURED_BYTES_MAX,
  type CaptureDecoder,
  type CapturedFrame,
  type CaptureRecord,
} from './capture.js';

const BlockType = {
  SECTION_HEADER: 0x0a0d0d0a,
  INTERFACE: 1,
  /** Obsolete, still found in old files. */
  PACKET: 2,
  SIMPLE_PACKET: 3,
  ENHANCED_PACKET: 6,
} as const;

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Type, length, and the length again at the end. */
const BLOCK_BYTES_MIN = 12;
const BLOCK_BYTES_MAX = 16 * 1024 * 1024;
const INTERFACES_MAX = 4096;
const OPTION_END = 0;
const OPTION_COMMENT = 1;
const OPTION_INTERFACE_NAME = 2;
const OPTION_TIME_RESOLUTION = 9;
const DEFAULT_UNITS_PER_MS = 1e3;

interface Interface {
  readonly linkType: number;
  readonly snapBytes: number;
  readonly unitsPerMs: number;
  readonly name: string | undefined;
}

type Trouble = { readonly trouble: string };

export class PcapngDecoder implements CaptureDecoder {
  readonly format = 'pcapng';
  readonly linkTypes: number[] = [];
  /** The piece that is being read. */
  #bytes: Buffer = Buffer.alloc(0);
  #isLittle = true;
  #interfaces: Interface[] = [];

  /** undefined when the file does not begin with a section header. */
  static of(header: Buffer): PcapngDecoder | undefined {
    const isSection = header.length >= 4 && header.readUInt32BE(0) === BlockType.SECTION_HEADER;
    return isSection ? new PcapngDecoder() : undefined;
  }

  record(bytes: Buffer, at: number): CaptureRecord | 'incomplete' | Trouble {
    this.#bytes = bytes;
    const recordBytes = this.#blockBytes(at);
    if (typeof recordBytes !== 'number') return recordBytes;
    const read = this.#readBlock(at, at + recordBytes);
    return read !== null && 'trouble' in read ? read : { recordBytes, frame: read };
  }

  cutOff(leftBytes: number): string {
    return leftBytes < BLOCK_BYTES_MIN ? 'a block header is cut off' : 'the last block is cut off';
  }

  #u32(at: number): number {
    return this.#isLittle ? this.#bytes.readUInt32LE(at) : this.#bytes.readUInt32BE(at);
  }

  #u16(at: number): number {
    return this.#isLittle ? this.#bytes.readUInt16LE(at) : this.#bytes.readUInt16BE(at);
  }

  /** Length of the block at `at`. A section header also settles the byte order. */
  #blockBytes(at: number): number | 'incomplete' | Trouble {
    const bytes = this.#bytes;
    const leftBytes = bytes.length - at;
    if (leftBytes < BLOCK_BYTES_MIN) return 'incomplete';
    if (bytes.readUInt32BE(at) === BlockType.SECTION_HEADER) {
      if (bytes.readUInt32LE(at + 8) === BYTE_ORDER_MAGIC) this.#isLittle = true;
      else if (bytes.readUInt32BE(at + 8) === BYTE_ORDER_MAGIC) this.#isLittle = false;
      else return { trouble: 'a section without byte order' };
    }
    const blockBytes = this.#u32(at + 4);
    if (blockBytes < BLOCK_BYTES_MIN || blockBytes % 4 !== 0 || blockBytes > BLOCK_BYTES_MAX) {
      return { trouble: `a block of ${blockBytes} bytes` };
    }
    if (blockBytes > leftBytes) return 'incomplete';
    if (this.#u32(at + blockBytes - 4) !== blockBytes) return { trouble: 'a block whose two lengths differ' };
    return blockBytes;
  }

  #readBlock(at: number, end: number): CapturedFrame | Trouble | null {
    const body = at + 8;
    const bodyEnd = end - 4;
    switch (this.#u32(at)) {
      case BlockType.SECTION_HEADER:
        this.#interfaces = [];
        return bodyEnd - body < 16 || this.#u16(body + 4) !== 1
          ? { trouble: 'an unknown pcapng version' }
          : null;
      case BlockType.INTERFACE:
        return this.#readInterface(body, bodyEnd);
      case BlockType.ENHANCED_PACKET:
        if (bodyEnd - body < 20) return { trouble: 'a packet block cut off' };
        return this.#readFrame(this.#u32(body), body + 4, body + 20, bodyEnd);
      case BlockType.PACKET:
        if (bodyEnd - body < 20) return { trouble: 'a packet block cut off' };
        return this.#readFrame(this.#u16(body), body + 4, body + 20, bodyEnd);
      case BlockType.SIMPLE_PACKET:
        return this.#readSimple(body, bodyEnd);
      default:
        return null;
    }
  }

  #readInterface(body: number, bodyEnd: number): Trouble | null {
    if (bodyEnd - body < 8) return { trouble: 'an interface block cut off' };
    if (this.#interfaces.length === INTERFACES_MAX)
      return { trouble: `more than ${INTERFACES_MAX} interfaces` };
    const linkType = this.#u16(body);
    if (!this.linkTypes.includes(linkType)) this.linkTypes.push(linkType);
    this.#interfaces.push({
      linkType,
      snapBytes: this.#u32(body + 4),
      unitsPerMs: this.#unitsPerMs(body + 8, bodyEnd),
      name: this.#text(body + 8, bodyEnd, OPTION_INTERFACE_NAME),
    });
    return null;
  }

  /** Where an option's value lies, or undefined. */
  #option(options: number, end: number, wanted: number): { at: number; bytes: number } | undefined {
    let at = options;
    while (end - at >= 4) {
      const code = this.#u16(at);
      const bytes = this.#u16(at + 2);
      if (code === OPTION_END || bytes > end - at - 4) return undefined;
      if (code === wanted) return { at: at + 4, bytes };
      at += 4 + padded(bytes);
    }
    return undefined;
  }

  #text(options: number, end: number, wanted: number): string | undefined {
    const found = this.#option(options, end, wanted);
    return found && this.#bytes.toString('utf8', found.at, found.at + found.bytes);
  }

  /** From the option if_tsresol: a power of ten, or of two when the top bit is set. */
  #unitsPerMs(options: number, end: number): number {
    const found = this.#option(options, end, OPTION_TIME_RESOLUTION);
    if (found?.bytes !== 1) return DEFAULT_UNITS_PER_MS;
    const resolution = this.#bytes[found.at]!;
    return ((resolution & 0x80) !== 0 ? 2 ** (resolution & 0x7f) : 10 ** resolution) / 1000;
  }

  /** `fields`: timestamp high and low, captured length, original length. */
  #readFrame(index: number, fields: number, data: number, bodyEnd: number): CapturedFrame | Trouble {
    const source = this.#interfaces[index];
    if (source === undefined) return { trouble: `a packet of interface ${index}, which is not there` };
    const capturedBytes = this.#u32(fields + 8);
    if (capturedBytes > CAPTURED_BYTES_MAX || capturedBytes > bodyEnd - data) {
      return { trouble: `a packet of ${capturedBytes} bytes` };
    }
    const comment = this.#text(data + padded(capturedBytes), bodyEnd, OPTION_COMMENT);
    return {
      bytes: this.#bytes.subarray(data, data + capturedBytes),
      wireBytes: Math.max(this.#u32(fields + 12), capturedBytes),
      atMs: (this.#u32(fields) * 2 ** 32 + this.#u32(fields + 4)) / source.unitsPerMs,
      linkType: source.linkType,
      ...(source.name === undefined ? {} : { source: source.name }),
      ...(comment === undefined ? {} : { comment }),
    };
  }

  /** Without a time, of the first interface. */
  #readSimple(body: number, bodyEnd: number): CapturedFrame | Trouble {
    const source = this.#interfaces[0];
    if (source === undefined || bodyEnd - body < 4) return { trouble: 'a simple packet without interface' };
    const wireBytes = this.#u32(body);
    const limit = source.snapBytes === 0 ? CAPTURED_BYTES_MAX : source.snapBytes;
    const capturedBytes = Math.min(wireBytes, limit, bodyEnd - body - 4);
    const from = body + 4;
    return {
      bytes: this.#bytes.subarray(from, from + capturedBytes),
      wireBytes,
      atMs: 0,
      linkType: source.linkType,
    };
  }
}

function padded(bytes: number): number {
  return bytes + ((4 - (bytes % 4)) % 4);
}
