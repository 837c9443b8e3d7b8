import type { TcpFields, TcpOptions } from '../wire/build.js';
import { verifyIpv4Checksum, verifyL4Checksum } from '../wire/checksum.js';
import type { FrameView } from '../wire/frame-view.js';
import { TcpFlag } from '../wire/frame-view.js';
import { addressKey } from './stack-state.js';
import type { TcpConnection, TcpSegment } from './tcp-state.js';

/** What of a TCP frame is not IP's: for `buildTcp`. */
type SegmentFields = Omit<TcpFields, 'source' | 'destination'>;

export function isSound(view: FrameView): boolean {
  if (view.ipVersion === 4 && !verifyIpv4Checksum(view.bytes, view.l3)) return false;
  return verifyL4Checksum(view);
}

export function destinationKey(view: FrameView): string {
  const [at, length] = view.ipVersion === 4 ? [view.l3 + 16, 4] : [view.l3 + 24, 16];
  return addressKey(view.bytes.subarray(at, at + length));
}

/** A copy of the source address. */
export function sourceOf(view: FrameView): Uint8Array {
  const [at, length] = view.ipVersion === 4 ? [view.l3 + 12, 4] : [view.l3 + 8, 16];
  return Uint8Array.prototype.slice.call(view.bytes, at, at + length);
}

/** A copy of the payload. */
export function payloadOf(view: FrameView): Uint8Array {
  return Uint8Array.prototype.slice.call(view.bytes, view.payload, view.payload + view.payloadBytes);
}

export function segmentFields(connection: TcpConnection, segment: TcpSegment): SegmentFields {
  const { seq, ack, flags, window, payload, mss, windowScale, sackPermitted, timestamps, sack } = segment;
  const options: { -readonly [K in keyof TcpOptions]: TcpOptions[K] } = {};
  if (mss !== undefined) options.mss = mss;
  if (sackPermitted !== undefined) options.sackPermitted = sackPermitted;
  if (windowScale !== undefined) options.windowScale = windowScale;
  if (timestamps !== undefined) options.timestamp = timestamps;
  if (sack !== undefined) options.sack = sack.map(({ from, to }): [number, number] => [from, to]);
  const { localPort: sourcePort, remotePort: destinationPort } = connection;
  return { sourcePort, destinationPort, seq, ack, flags, window, options, payload };
}

/** The reset that answers a segment for no connection (RFC 9293 section 3.10.7.1). */
export function refusalFields(view: FrameView): SegmentFields {
  const acks = (view.tcpFlags & TcpFlag.ACK) !== 0;
  return {
    sourcePort: view.destinationPort,
    destinationPort: view.sourcePort,
    seq: acks ? view.ack : 0,
    ack: acks ? 0 : (view.seq + view.seqLength()) >>> 0,
    flags: acks ? TcpFlag.RST : TcpFlag.RST | TcpFlag.ACK,
    window: 0,
  };
}
