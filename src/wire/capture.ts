/** Packet captures as libpcap and Wireshark write them: reading, whole files at a time. Never on the per-frame path. */
import { ColoError } from '../errors.js';
import { readPcap } from './pcap.js';
import { readPcapng } from './pcapng.js';

/** LINKTYPE_ETHERNET (tcpdump.org/linktypes.html). */
export const LINK_TYPE_ETHERNET = 1;

export interface CapturedFrame {
  /** What was captured, which may be less than the frame was. */
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

/** Longest frame believed; a longer length is a broken file (libpcap's MAXIMUM_SNAPLEN). */
export const CAPTURED_BYTES_MAX = 262_144;

export function captureError(reason: string): ColoError {
  return new ColoError('COLO_ERR_CAPTURE', `cannot read the capture: ${reason}`);
}

/**
 * Reads a capture. What follows a broken record is left out and `trouble` says so.
 *
 * @throws ColoError COLO_ERR_CAPTURE when the beginning is no capture at all.
 */
export function readCapture(file: Buffer): Capture {
  const capture = readPcap(file) ?? readPcapng(file);
  if (capture === undefined) throw captureError('neither pcap nor pcapng');
  return capture;
}
