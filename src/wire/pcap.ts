/** The classic libpcap file (draft-ietf-opsawg-pcap): one header, one link type, records of 16 bytes and a frame. */
import { CAPTURED_BYTES_MAX, type CaptureDecoder, type CaptureRecord, captureError } from './capture.js';

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
/** Alexey Kuznetsov's patched libpcap: 8 bytes more in every record's header. */
const MAGIC_PATCHED = 0xa1b2cd34;
const PATCHED_RECORD_HEADER_BYTES = 24;
const VERSION_MAJOR = 2;
const VERSION_MINOR_MAX = 4;
/** The upper bits of the link type tell about FCS. */
const LINK_TYPE_MASK = 0x03ffffff;

export class PcapDecoder implements CaptureDecoder {
  readonly format = 'pcap';
  readonly linkTypes: readonly number[];
  readonly #isLittle: boolean;
  readonly #versionMinor: number;
  readonly #recordHeaderBytes: number;
  readonly #fractionsPerMs: number;
  #isInHeader = true;

  /** undefined when the magic number is another's. Throws COLO_ERR_CAPTURE when it is one and cannot be read. */
  static of(header: Buffer): PcapDecoder | undefined {
    if (header.length < 4) return undefined;
    const isLittle = isMagic(header.readUInt32LE(0));
    if (!isLittle && !isMagic(header.readUInt32BE(0))) return undefined;
    if (header.length < FILE_HEADER_BYTES) throw captureError('the file header is cut off');
    return new PcapDecoder(header, isLittle);
  }

  private constructor(header: Buffer, isLittle: boolean) {
    this.#isLittle = isLittle;
    const magic = this.#u32(header, 0);
    const versionMajor = this.#u16(header, 4);
    this.#versionMinor = this.#u16(header, 6);
    if (versionMajor !== VERSION_MAJOR || this.#versionMinor > VERSION_MINOR_MAX) {
      throw captureError(`pcap version ${versionMajor}.${this.#versionMinor}`);
    }
    this.#recordHeaderBytes = magic === MAGIC_PATCHED ? PATCHED_RECORD_HEADER_BYTES : RECORD_HEADER_BYTES;
    this.#fractionsPerMs = magic === MAGIC_NANOSECONDS ? 1e6 : 1e3;
    this.linkTypes = [this.#u32(header, 20) & LINK_TYPE_MASK];
  }

  record(bytes: Buffer, at: number): CaptureRecord | 'incomplete' | { readonly trouble: string } {
    if (this.#isInHeader) {
      this.#isInHeader = false;
      return { recordBytes: FILE_HEADER_BYTES, frame: null };
    }
    const leftBytes = bytes.length - at;
    if (leftBytes < this.#recordHeaderBytes) return 'incomplete';
    const [first, second] = [this.#u32(bytes, at + 8), this.#u32(bytes, at + 12)];
    // up to version 2.2 the two lengths were the other way round, and in 2.3 with some writers
    const areSwapped = this.#versionMinor < 3 || (this.#versionMinor === 3 && first > second);
    const [capturedBytes, wireBytes] = areSwapped ? [second, first] : [first, second];
    if (capturedBytes > CAPTURED_BYTES_MAX) return { trouble: `a record of ${capturedBytes} bytes` };
    const recordBytes = this.#recordHeaderBytes + capturedBytes;
    if (leftBytes < recordBytes) return 'incomplete';
    const frame = {
      bytes: bytes.subarray(at + this.#recordHeaderBytes, at + recordBytes),
      wireBytes: Math.max(wireBytes, capturedBytes),
      linkType: this.linkTypes[0]!,
      atMs: this.#u32(bytes, at) * 1000 + this.#u32(bytes, at + 4) / this.#fractionsPerMs,
    };
    return { recordBytes, frame };
  }

  cutOff(leftBytes: number): string {
    return leftBytes < this.#recordHeaderBytes ? 'a record header is cut off' : 'the last frame is cut off';
  }

  #u32(bytes: Buffer, at: number): number {
    return this.#isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
  }

  #u16(bytes: Buffer, at: number): number {
    return this.#isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at);
  }
}

function isMagic(value: number): boolean {
  return value === MAGIC_MICROSECONDS || value === MAGIC_NANOSECONDS || value === MAGIC_PATCHED;
}
