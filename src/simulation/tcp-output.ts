import { TcpFlag } from '../wire/frame-view.js';
import { seqAdd, seqAfter, seqDiff, seqMax } from '../wire/sequence.js';
import { peek } from './byte-queue.js';
import type { SeqRange, TcpConnection, TcpHost, TcpSegment } from './tcp-state.js';
import { NEVER } from './tcp-state.js';

const EMPTY = new Uint8Array(0);
/** Kind, length and two of padding. */
const SACK_HEADER_BYTES = 4;
const SACK_BLOCK_BYTES = 8;
const SACK_BLOCKS_MAX = 3; // beside timestamps (RFC 2018 section 3)

/** Opens the connection from this side. */
export function sendSyn(host: TcpHost, connection: TcpConnection): void {
  connection.phase = 'syn-sent';
  connection.sndNxt = connection.sndMax = seqAdd(connection.iss, 1);
  connection.synTimestamp = host.timestamp();
  emit(host, connection, connection.iss, TcpFlag.SYN, EMPTY);
  armResend(host, connection);
}

/** Answers a SYN. */
export function sendSynAck(host: TcpHost, connection: TcpConnection): void {
  connection.phase = 'syn-received';
  connection.sndNxt = connection.sndMax = seqAdd(connection.iss, 1);
  emit(host, connection, connection.iss, TcpFlag.SYN | TcpFlag.ACK, EMPTY);
  armResend(host, connection);
}

/** Sends what window and congestion control allow, and an ACK if one is owed and nothing carried it. */
export function output(host: TcpHost, connection: TcpConnection): void {
  if (
    connection.phase === 'syn-sent' ||
    connection.phase === 'syn-received' ||
    connection.phase === 'closed'
  ) {
    return;
  }
  sendNewData(host, connection);
  // Never from where a timeout went back to: a peer that has received more takes no ACK from there (RFC 9293 3.10.7.4).
  if (connection.ackNow) emit(host, connection, connection.sndMax, TcpFlag.ACK, EMPTY);
  if (connection.resendAtMs === NEVER && hasUnfinished(connection)) armResend(host, connection);
}

function sendNewData(host: TcpHost, connection: TcpConnection): void {
  if (connection.phase === 'fin-wait-2' || connection.phase === 'time-wait') return;
  const window = Math.min(connection.cwnd, connection.sndWindow);
  for (;;) {
    const offset = seqDiff(connection.sndNxt, connection.sndUna);
    const unsent = connection.out.bytes - offset;
    if (unsent < 0) return; // the FIN is out
    const room = window - offset;
    const mss = payloadBytesMax(connection);
    let length = Math.min(mss, unsent, room);
    // Silly window (RFC 9293 3.8.6.2.1): a short piece of longer data waits while something is in flight.
    if (length < Math.min(mss, unsent) && offset > 0) return;
    if (length > 1 && jitters(host)) length = 1 + Math.floor(host.random() * length);
    const fin = connection.finQueued && length === unsent && room >= length;
    if (length <= 0 && !fin) return;
    sendRange(host, connection, connection.sndNxt, length, fin);
    connection.sndNxt = seqAdd(connection.sndNxt, length + (fin ? 1 : 0));
    connection.sndMax = seqMax(connection.sndMax, connection.sndNxt);
    if (fin) return;
  }
}

function jitters(host: TcpHost): boolean {
  return host.options.segmentJitter > 0 && host.random() < host.options.segmentJitter;
}

/** One segment of queued data from `seq` on; also used to resend. */
function sendRange(
  host: TcpHost,
  connection: TcpConnection,
  seq: number,
  length: number,
  fin: boolean,
): void {
  const offset = seqDiff(seq, connection.sndUna);
  const payload = peek(connection.out, offset, length);
  const last = offset + payload.length === connection.out.bytes;
  const flags = TcpFlag.ACK | (fin ? TcpFlag.FIN : 0) | (last && payload.length > 0 ? TcpFlag.PSH : 0);
  if (fin) enterFinSent(connection);
  // Karn's rule: only what was sent once is timed.
  const once = !seqAfter(connection.sndMax, seq);
  if (once && connection.timedAtMs < 0) {
    connection.timedSeq = seqAdd(seq, payload.length);
    connection.timedAtMs = host.nowMs();
  } else if (!once) {
    connection.timedAtMs = -1;
  }
  emit(host, connection, seq, flags, payload);
  if (connection.resendAtMs === NEVER) armResend(host, connection);
}

function enterFinSent(connection: TcpConnection): void {
  if (connection.phase === 'established') connection.phase = 'fin-wait-1';
  else if (connection.phase === 'close-wait') connection.phase = 'last-ack';
}

/** The first hole at or after `from`: one segment of it, not over what the peer has (SACK). False when none. */
export function resendHole(host: TcpHost, connection: TcpConnection, from: number): boolean {
  let seq = seqMax(from, connection.sndUna);
  let limit = connection.sndMax;
  for (const block of connection.sacked) {
    if (seqAfter(block.from, seq)) {
      limit = block.from;
      break;
    }
    if (seqAfter(block.to, seq)) seq = block.to;
  }
  const offset = seqDiff(seq, connection.sndUna);
  const length = Math.min(payloadBytesMax(connection), seqDiff(limit, seq), connection.out.bytes - offset);
  const fin = connection.finQueued && offset + Math.max(0, length) === connection.out.bytes;
  const finSent = fin && seqDiff(connection.sndMax, connection.sndUna) > connection.out.bytes;
  if (length <= 0 && !finSent) return false;
  sendRange(host, connection, seq, Math.max(0, length), finSent);
  connection.resendNxt = seqAdd(seq, Math.max(0, length) + (finSent ? 1 : 0));
  return true;
}

/** One byte into a closed window (RFC 9293 3.8.6.1), so that a lost window update cannot stop the connection. */
export function sendProbe(host: TcpHost, connection: TcpConnection): void {
  sendRange(host, connection, connection.sndUna, 1, false);
  connection.sndNxt = seqMax(connection.sndNxt, seqAdd(connection.sndUna, 1));
  connection.sndMax = seqMax(connection.sndMax, connection.sndNxt);
}

/** Data, a SYN or a FIN that the peer has not acknowledged, or data that waits for window. */
export function hasUnfinished(connection: TcpConnection): boolean {
  return connection.sndUna !== connection.sndMax || connection.out.bytes > 0;
}

export function armResend(host: TcpHost, connection: TcpConnection): void {
  connection.resendAtMs = host.nowMs() + connection.rtoMs;
}

/** Resets the peer. `seq` is where it expects us. */
export function sendReset(host: TcpHost, connection: TcpConnection): void {
  emit(host, connection, connection.sndNxt, TcpFlag.RST | TcpFlag.ACK, EMPTY);
}

function emit(
  host: TcpHost,
  connection: TcpConnection,
  seq: number,
  flags: number,
  payload: Uint8Array,
): void {
  const syn = (flags & TcpFlag.SYN) !== 0;
  const acks = (flags & TcpFlag.ACK) !== 0;
  const segment: TcpSegment = {
    seq,
    ack: acks ? connection.rcvNxt : 0,
    flags,
    window: acks || syn ? advertise(connection, syn) : 0,
    payload,
  };
  if (syn) {
    segment.mss = connection.ipVersion === 4 ? host.options.mssV4 : host.options.mssV6;
    if (connection.rcvScale >= 0) segment.windowScale = connection.rcvScale;
    if (connection.sackPermitted) segment.sackPermitted = true;
  }
  if (connection.timestamps) segment.timestamps = { value: host.timestamp(), echo: connection.tsRecent };
  if (acks && !syn && connection.sackPermitted && connection.early.length > 0) {
    segment.sack = sackBlocks(connection);
  }
  if (acks) {
    connection.ackOwed = 0;
    connection.ackNow = false;
    connection.ackAtMs = NEVER;
  }
  host.send(connection, segment);
}

/** The window field, and the right edge it promises: never left of what was promised before. */
function advertise(connection: TcpConnection, syn: boolean): number {
  const free = Math.max(0, connection.rcvBufferBytes - connection.unread.bytes);
  if (syn) {
    const window = Math.min(65_535, free);
    connection.rcvEdge = seqAdd(connection.rcvNxt, window);
    return window;
  }
  const scale = Math.max(0, connection.rcvScale);
  const promised = Math.max(0, seqDiff(connection.rcvEdge, connection.rcvNxt));
  const field = Math.min(65_535, Math.max(free >>> scale, Math.ceil(promised / 2 ** scale)));
  connection.rcvEdge = seqAdd(connection.rcvNxt, Math.max(promised, field * 2 ** scale));
  return field;
}

/** How much further the window would open if the peer were told now. */
export function windowGain(connection: TcpConnection): number {
  const free = connection.rcvBufferBytes - connection.unread.bytes;
  return free - Math.max(0, seqDiff(connection.rcvEdge, connection.rcvNxt));
}

/** SACK blocks take their room from the payload, or the frame would be too long for the link (RFC 6691). */
function payloadBytesMax(connection: TcpConnection): number {
  if (!connection.sackPermitted || connection.early.length === 0) return connection.mss;
  return connection.mss - SACK_HEADER_BYTES - SACK_BLOCK_BYTES * sackBlocks(connection).length;
}

function sackBlocks(connection: TcpConnection): SeqRange[] {
  const blocks: SeqRange[] = [];
  for (const piece of connection.early) {
    const to = seqAdd(piece.seq, piece.bytes.length);
    const last = blocks.at(-1);
    if (last !== undefined && last.to === piece.seq) last.to = to;
    else blocks.push({ from: piece.seq, to });
  }
  return blocks.slice(-SACK_BLOCKS_MAX).reverse();
}
