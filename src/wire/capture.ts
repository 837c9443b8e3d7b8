/**
 * Packet captures as libpcap and Wireshark write them, read as they come: what is kept is one record, however large
 * the file. Never on the per-frame path.
 */
import { ColoError } from '../errors.js';
import { PcapDecoder } from './pcap.js';
import { PcapngDecoder } from './pcapng.js';

/** LINKTYPE_ETHERNET (tcpdump.org/linktypes.html). */
export const LINK_TYPE_ETHERNET = 1;

export interface CapturedFrame {
  /** What was captured, which may be less than the frame was. Lies in the bytes that were read. */
  readonly bytes: Buffer;
  /** Length of the frame on the wire. */
  readonly wireBytes: number;
  /** Milliseconds since 1970, with a fraction. */
  readonly atMs: number;
  /** Of the interface it was captured on: LINK_TYPE_ETHERNET and others. */
  readonly linkType: number;
  /** pcapng: name of that interface, and the comment on the frame. */
  readonly source?: string;
  readonly comment?: string;
}

export interface Capture {
  readonly format: 'pcap' | 'pcapng';
  /** Of every interface, in order, without repetition. libpcap refuses a file that mixes them; this does not. */
  readonly linkTypes: readonly number[];
  readonly frames: readonly CapturedFrame[];
  /** Why reading ended before the file did: what libpcap says after the last good frame. */
  readonly trouble: string | undefined;
}

/** What lies at one place of a capture. */
export interface CaptureRecord {
  /** From its beginning to the next one's. */
  readonly recordBytes: number;
  /** null: it is something else than a frame. */
  readonly frame: CapturedFrame | null;
}

/** One format, record after record. */
export interface CaptureDecoder {
  readonly format: 'pcap' | 'pcapng';
  readonly linkTypes: readonly number[];
  /** `incomplete`: not all of it is there yet; a string: what is wrong with it. */
  record(bytes: Buffer, at: number): CaptureRecord | 'incomplete' | { readonly trouble: string };
  /** What is cut off when the file ends with `leftBytes` of a record. */
  cutOff(leftBytes: number): string;
}

/** Longest frame believed; a longer length is a broken file (libpcap's MAXIMUM_SNAPLEN). */
export const CAPTURED_BYTES_MAX = 262_144;
/** The longest file header: what must be there to know the format. */
const FORMAT_BYTES = 24;

export function captureError(reason: string): ColoError {
  return new ColoError('COLO_ERR_CAPTURE', `cannot read the capture: ${reason}`);
}

/** A capture that comes in pieces. */
export class CaptureReader {
  /** What is read after a broken record is left out, and this says so. */
  trouble: string | undefined;
  #decoder: CaptureDecoder | undefined;
  #left: Buffer = Buffer.alloc(0);

  /** undefined until the first bytes are there. */
  get decoder(): CaptureDecoder | undefined {
    return this.#decoder;
  }

  /**
   * The frames that are whole with this piece. They lie in it: it must not be written to afterwards.
   *
   * @throws ColoError COLO_ERR_CAPTURE when the beginning is no capture at all.
   */
  *take(piece: Buffer): Generator<CapturedFrame> {
    if (this.trouble !== undefined) return;
    const bytes = this.#left.length === 0 ? piece : Buffer.concat([this.#left, piece]);
    if (this.#decoder === undefined && bytes.length < FORMAT_BYTES) {
      this.#left = bytes;
      return;
    }
    this.#decoder ??= decoderOf(bytes);
    yield* this.#records(this.#decoder, bytes);
  }

  /** There is no more. Throws as `take`. */
  *end(): Generator<CapturedFrame> {
    if (this.#decoder === undefined) {
      this.#decoder = decoderOf(this.#left);
      yield* this.#records(this.#decoder, this.#left);
    }
    if (this.#left.length > 0) this.trouble ??= this.#decoder.cutOff(this.#left.length);
    // without a single interface the broken record was the beginning
    if (this.#decoder.linkTypes.length === 0) throw captureError(this.trouble ?? 'it names no interface');
  }

  *#records(decoder: CaptureDecoder, bytes: Buffer): Generator<CapturedFrame> {
    let at = 0;
    this.#left = bytes;
    while (at < bytes.length) {
      const record = decoder.record(bytes, at);
      if (record === 'incomplete') break;
      if ('trouble' in record) {
        this.trouble = record.trouble;
        this.#left = Buffer.alloc(0);
        return;
      }
      at += record.recordBytes;
      if (record.frame !== null) yield record.frame;
    }
    this.#left = bytes.subarray(at);
  }
}

/** A capture that is in memory as a whole. Throws as CaptureReader. */
export function readCapture(file: Buffer): Capture {
  const reader = new CaptureReader();
  const frames = [...reader.take(file), ...reader.end()];
  const { format, linkTypes } = reader.decoder!;
  return { format, linkTypes, frames, trouble: reader.trouble };
}

function decoderOf(bytes: Buffer): CaptureDecoder {
  const decoder = PcapDecoder.of(bytes) ?? PcapngDecoder.of(bytes);
  if (decoder === undefined) throw captureError('neither pcap nor pcapng');
  return decoder;
}
