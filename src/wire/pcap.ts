/** The classic libpcap file (draft-ietf-opsawg-pcap): one header, one link type, records of 16 bytes and a frame. */
import { CAPTURED_BYTES_MAX, type Capture, type CapturedFrame, captureError } from './capture.js';

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

/** undefined when the magic number is another's. */
export function readPcap(file: Buffer): Capture | undefined {
  if (file.length < 4) return undefined;
  const isLittle = isMagic(file.readUInt32LE(0));
  if (!isLittle && !isMagic(file.readUInt32BE(0))) return undefined;
  const u32 = (at: number): number => (isLittle ? file.readUInt32LE(at) : file.readUInt32BE(at));
  const u16 = (at: number): number => (isLittle ? file.readUInt16LE(at) : file.readUInt16BE(at));
  if (file.length < FILE_HEADER_BYTES) throw captureError('the file header is cut off');
  if (u16(4) !== VERSION_MAJOR || u16(6) > VERSION_MINOR_MAX) {
    throw captureError(`pcap version ${u16(4)}.${u16(6)}`);
  }
  const recordHeaderBytes = u32(0) === MAGIC_PATCHED ? PATCHED_RECORD_HEADER_BYTES : RECORD_HEADER_BYTES;
  const fractionsPerMs = u32(0) === MAGIC_NANOSECONDS ? 1e6 : 1e3;
  const linkType = u32(20) & LINK_TYPE_MASK;
  const frames: CapturedFrame[] = [];
  let trouble: string | undefined;
  let at = FILE_HEADER_BYTES;
  while (at < file.length && trouble === undefined) {
    if (file.length - at < recordHeaderBytes) {
      trouble = 'a record header is cut off';
      break;
    }
    // up to version 2.2 the two lengths were the other way round, and in 2.3 with some writers
    const areSwapped = u16(6) < 3 || (u16(6) === 3 && u32(at + 8) > u32(at + 12));
    const capturedBytes = u32(areSwapped ? at + 12 : at + 8);
    const wireBytes = u32(areSwapped ? at + 8 : at + 12);
    const from = at + recordHeaderBytes;
    if (capturedBytes > CAPTURED_BYTES_MAX) trouble = `a record of ${capturedBytes} bytes`;
    else if (capturedBytes > file.length - from) trouble = 'the last frame is cut off';
    else {
      frames.push({
        bytes: file.subarray(from, from + capturedBytes),
        wireBytes: Math.max(wireBytes, capturedBytes),
        linkType,
        atMs: u32(at) * 1000 + u32(at + 4) / fractionsPerMs,
      });
      at = from + capturedBytes;
    }
  }
  return { format: 'pcap', linkTypes: [linkType], frames, trouble };
}

function isMagic(value: number): boolean {
  return value === MAGIC_MICROSECONDS || value === MAGIC_NANOSECONDS || value === MAGIC_PATCHED;
}
