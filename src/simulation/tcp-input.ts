import type { FrameView } from '../wire/frame-view.js';
import { TcpFlag } from '../wire/frame-view.js';
import { seqAdd, seqAfter, seqDiff, seqMax } from '../wire/sequence.js';
import { append, discard } from './byte-queue.js';
import { armResend, hasUnfinished, output, resendHole, sendReset, sendSynAck } from './tcp-output.js';
import type { CloseReason, SeqRange, TcpConnection, TcpHost } from './tcp-state.js';
import { NEVER } from './tcp-state.js';

const EARLY_PIECES_MAX = 256;
const DUPLICATE_ACKS = 3; // RFC 5681 section 3.2
const FAST_ACK_SEGMENTS = 2; // RFC 9293 section 3.8.6.3

/** Handles one segment of an existing connection (RFC 9293 section 3.10.7), then sends what became possible. */
export function segmentArrives(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  if (connection.phase === 'syn-sent') synSentArrives(host, connection, view);
  else if (acceptable(host, connection, view)) acceptedArrives(host, connection, view);
  if (connection.phase !== 'closed') output(host, connection);
}

/** A SYN for a listening port: the connection is new. */
export function synArrives(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  learnOptions(connection, view, host.options.windowScale);
  takePeerSyn(connection, view);
  sendSynAck(host, connection);
}

function synSentArrives(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  const acks = (view.tcpFlags & TcpFlag.ACK) !== 0;
  if (acks && view.ack !== connection.sndNxt) return;
  if ((view.tcpFlags & TcpFlag.RST) !== 0) {
    if (acks) close(host, connection, 'refused');
    return;
  }
  if ((view.tcpFlags & TcpFlag.SYN) === 0) return;
  if (acks && view.timestamp !== 0 && connection.timestamps && !echoIsOurs(host, connection, view)) {
    sendReset(host, connection); // as Linux does (PAWSACTIVEREJECTED, trap T10)
    close(host, connection, 'reset');
    return;
  }
  learnOptions(connection, view, host.options.windowScale);
  takePeerSyn(connection, view);
  if (!acks) {
    sendSynAck(host, connection); // both opened at once
    return;
  }
  takeAck(host, connection, view);
  establish(host, connection, view);
  connection.ackNow = true;
}

function echoIsOurs(host: TcpHost, connection: TcpConnection, view: FrameView): boolean {
  const echo = view.bytes.readUInt32BE(view.timestamp + 4);
  // As Linux: between the SYN's own and now, by whatever clock this host has by now.
  return seqDiff(echo, connection.synTimestamp) >= 0 && seqDiff(host.timestamp(), echo) >= 0;
}

function learnOptions(connection: TcpConnection, view: FrameView, ownScale: number): void {
  connection.timestamps &&= view.timestamp !== 0;
  connection.sackPermitted &&= view.sackPermitted;
  connection.sndScale = Math.max(0, Math.min(14, view.windowScale));
  connection.rcvScale = view.windowScale >= 0 ? ownScale : -1;
  const peerMss = view.mss > 0 ? Math.max(64, view.mss) : connection.ipVersion === 4 ? 536 : 1220;
  connection.mss = Math.min(connection.mss, peerMss) - (connection.timestamps ? 12 : 0);
  connection.cwnd = 10 * connection.mss;
}

function takePeerSyn(connection: TcpConnection, view: FrameView): void {
  connection.irs = view.seq;
  connection.rcvNxt = seqAdd(view.seq, 1);
  connection.rcvEdge = connection.rcvNxt;
  connection.sndWindow = view.window; // a SYN's window is never scaled
  connection.sndWl1 = view.seq;
  connection.sndWl2 = view.ack;
  if (connection.timestamps) connection.tsRecent = view.bytes.readUInt32BE(view.timestamp);
}

function establish(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  connection.phase = 'established';
  connection.sndWl1 = view.seq;
  connection.sndWl2 = view.ack;
  host.connected(connection);
}

/** Sequence check, PAWS, RST and SYN. What is not acceptable is answered with an ACK and dropped. */
function acceptable(host: TcpHost, connection: TcpConnection, view: FrameView): boolean {
  const reset = (view.tcpFlags & TcpFlag.RST) !== 0;
  if (connection.timestamps && view.timestamp !== 0 && !reset) {
    if (seqAfter(connection.tsRecent, view.bytes.readUInt32BE(view.timestamp))) return refuse(connection); // PAWS
  }
  const window = Math.max(0, seqDiff(connection.rcvEdge, connection.rcvNxt));
  const begins = seqDiff(view.seq, connection.rcvNxt);
  const ends = begins + view.seqLength();
  const inWindow = begins <= window && ends >= 0 && (ends > 0 || view.seqLength() === 0);
  if (!inWindow) {
    if (reset) return false;
    const synAgain = connection.phase === 'syn-received' && (view.tcpFlags & TcpFlag.SYN) !== 0;
    if (synAgain && view.seq === connection.irs) {
      sendSynAck(host, connection);
      return false;
    }
    return refuse(connection);
  }
  if (reset) {
    if (view.seq !== connection.rcvNxt) return refuse(connection); // RFC 5961 section 3
    // In TIME-WAIT both sides have everything: an old duplicate the peer resets changes nothing (RFC 1337).
    close(host, connection, connection.phase === 'time-wait' ? 'finished' : 'reset');
    return false;
  }
  if ((view.tcpFlags & TcpFlag.SYN) !== 0) {
    // Both opened at once: the peer's SYN-ACK repeats its SYN one position before the window.
    if (connection.phase !== 'syn-received' || view.seq !== connection.irs) return refuse(connection);
  }
  return (view.tcpFlags & TcpFlag.ACK) !== 0;
}

function refuse(connection: TcpConnection): false {
  connection.ackNow = true;
  return false;
}

function acceptedArrives(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  if (connection.phase === 'syn-received') {
    if (view.ack !== connection.sndMax) {
      sendReset(host, connection);
      close(host, connection, 'reset');
      return;
    }
    takeAck(host, connection, view);
    takeWindow(connection, view);
    establish(host, connection, view);
  } else if (seqAfter(view.ack, connection.sndMax)) {
    // An ACK of what was never sent: Linux drops the segment with its data. This is what makes a secondary
    // that is behind its primary stall.
    connection.ackNow = true;
    return;
  } else {
    takeAck(host, connection, view);
    takeWindow(connection, view);
  }
  takeData(host, connection, view);
  takeFin(host, connection);
}

function takeAck(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  const acked = seqDiff(view.ack, connection.sndUna);
  takeSack(connection, view);
  if (acked <= 0) {
    if (connection.sndWindow === 0) connection.timeouts = 0; // a closed window is no dead peer
    if (acked === 0) countDuplicate(host, connection, view);
    return;
  }
  measureRoundTrip(host, connection, view);
  const syn = connection.phase === 'syn-sent' || connection.phase === 'syn-received' ? 1 : 0;
  const data = Math.min(acked - syn, connection.out.bytes);
  const finAcked = acked - syn > connection.out.bytes && finWasSent(connection);
  discard(connection.out, data);
  connection.sndUna = view.ack;
  connection.sndNxt = seqMax(connection.sndNxt, view.ack);
  connection.sacked = connection.sacked.filter((block) => seqAfter(block.to, view.ack));
  connection.timeouts = 0;
  growWindow(connection, data);
  if (connection.recovering) {
    if (!seqAfter(connection.recover, view.ack)) connection.recovering = false;
    else resendHole(host, connection, seqMax(connection.resendNxt, view.ack));
  }
  connection.dupAcks = 0;
  if (hasUnfinished(connection)) armResend(host, connection);
  else connection.resendAtMs = NEVER;
  if (finAcked) finAcknowledged(host, connection);
  if (data > 0 && connection.out.bytes < host.options.sendBufferBytesMax) host.writable(connection);
}

function finWasSent(connection: TcpConnection): boolean {
  return ['fin-wait-1', 'closing', 'last-ack'].includes(connection.phase);
}

function finAcknowledged(host: TcpHost, connection: TcpConnection): void {
  if (connection.phase === 'fin-wait-1') connection.phase = 'fin-wait-2';
  else if (connection.phase === 'closing') enterTimeWait(host, connection);
  else if (connection.phase === 'last-ack') close(host, connection, 'finished');
}

function growWindow(connection: TcpConnection, acked: number): void {
  if (connection.recovering) return;
  if (connection.cwnd < connection.ssthresh) connection.cwnd += Math.min(acked, 2 * connection.mss);
  else connection.cwnd += Math.max(1, Math.floor((connection.mss * connection.mss) / connection.cwnd));
  connection.cwnd = Math.min(connection.cwnd, 0x4000_0000);
}

function countDuplicate(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  const duplicate =
    view.payloadBytes === 0 &&
    connection.sndUna !== connection.sndMax &&
    (view.tcpFlags & (TcpFlag.SYN | TcpFlag.FIN)) === 0 &&
    view.window * 2 ** connection.sndScale === connection.sndWindow;
  if (!duplicate) return;
  connection.dupAcks++;
  if (connection.recovering) {
    const last = connection.sacked.at(-1);
    if (last !== undefined && seqAfter(last.from, connection.resendNxt)) {
      resendHole(host, connection, connection.resendNxt);
    }
  } else if (connection.dupAcks === DUPLICATE_ACKS && seqAfter(connection.sndUna, connection.recover)) {
    const flight = seqDiff(connection.sndMax, connection.sndUna);
    connection.ssthresh = Math.max(flight / 2, 2 * connection.mss);
    connection.cwnd = connection.ssthresh;
    connection.recovering = true;
    connection.recover = connection.sndMax;
    resendHole(host, connection, connection.sndUna);
  }
}

function takeSack(connection: TcpConnection, view: FrameView): void {
  if (!connection.sackPermitted) return;
  for (let index = 0; index < view.sackBlocks; index++) {
    const from = view.bytes.readUInt32BE(view.sack + 8 * index);
    const to = view.bytes.readUInt32BE(view.sack + 8 * index + 4);
    const sane = seqAfter(from, connection.sndUna) && seqAfter(to, from) && !seqAfter(to, connection.sndMax);
    if (sane) connection.sacked = mergeRange(connection.sacked, { from, to });
  }
}

function mergeRange(ranges: SeqRange[], added: SeqRange): SeqRange[] {
  const merged = { ...added };
  const rest: SeqRange[] = [];
  for (const range of ranges) {
    if (seqAfter(merged.from, range.to) || seqAfter(range.from, merged.to)) {
      rest.push(range);
    } else {
      if (seqAfter(merged.from, range.from)) merged.from = range.from;
      if (seqAfter(range.to, merged.to)) merged.to = range.to;
    }
  }
  rest.push(merged);
  return rest.sort((a, b) => seqDiff(a.from, b.from));
}

/** RFC 6298, from the echoed timestamp where there is one. */
function measureRoundTrip(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  let sampleMs = -1;
  if (connection.timestamps && view.timestamp !== 0) {
    sampleMs = seqDiff(host.timestamp(), view.bytes.readUInt32BE(view.timestamp + 4));
  } else if (connection.timedAtMs >= 0 && !seqAfter(connection.timedSeq, view.ack)) {
    sampleMs = host.nowMs() - connection.timedAtMs;
    connection.timedAtMs = -1;
  }
  if (sampleMs < 0 || sampleMs > 60_000) return;
  if (connection.srttMs === 0) {
    connection.srttMs = sampleMs;
    connection.rttvarMs = sampleMs / 2;
  } else {
    connection.rttvarMs += (Math.abs(connection.srttMs - sampleMs) - connection.rttvarMs) / 4;
    connection.srttMs += (sampleMs - connection.srttMs) / 8;
  }
  const rtoMs = connection.srttMs + Math.max(1, 4 * connection.rttvarMs);
  connection.rtoMs = Math.min(host.options.rtoMsMax, Math.max(host.options.rtoMsMin, rtoMs));
}

function takeWindow(connection: TcpConnection, view: FrameView): void {
  const newer =
    seqAfter(view.seq, connection.sndWl1) ||
    (view.seq === connection.sndWl1 && !seqAfter(connection.sndWl2, view.ack));
  if (!newer) return;
  connection.sndWindow = view.window * 2 ** connection.sndScale;
  connection.sndWl1 = view.seq;
  connection.sndWl2 = view.ack;
}

function takeData(host: TcpHost, connection: TcpConnection, view: FrameView): void {
  if (connection.phase === 'closed') return;
  // RFC 7323 section 4.3: only a segment that begins at or before what was last acknowledged.
  if (connection.timestamps && view.timestamp !== 0 && !seqAfter(view.seq, connection.rcvNxt)) {
    connection.tsRecent = view.bytes.readUInt32BE(view.timestamp);
  }
  const syn = (view.tcpFlags & TcpFlag.SYN) !== 0 ? 1 : 0;
  const seq = seqAdd(view.seq, syn);
  if ((view.tcpFlags & TcpFlag.FIN) !== 0) connection.finSeq = seqAdd(seq, view.payloadBytes);
  if (view.seqLength() - syn > 0) oweAck(host, connection, seq === connection.rcvNxt);
  if (view.payloadBytes === 0) return;
  const skip = Math.max(0, seqDiff(connection.rcvNxt, seq));
  const room = seqDiff(connection.rcvEdge, seq);
  const end = Math.min(view.payloadBytes, room);
  if (skip >= end) return;
  const bytes = Uint8Array.prototype.slice.call(view.bytes, view.payload + skip, view.payload + end);
  keepPiece(connection, seqAdd(seq, skip), bytes);
  let grown = 0;
  while (connection.early.length > 0 && !seqAfter(connection.early[0]!.seq, connection.rcvNxt)) {
    const piece = connection.early.shift()!;
    const fresh = piece.bytes.subarray(seqDiff(connection.rcvNxt, piece.seq));
    append(connection.unread, fresh);
    connection.rcvNxt = seqAdd(connection.rcvNxt, fresh.length);
    grown += fresh.length;
  }
  if (grown > 0) host.readable(connection);
}

/** Inserts one piece in order, cut where its neighbours already have the bytes. */
function keepPiece(connection: TcpConnection, seq: number, bytes: Uint8Array): void {
  const early = connection.early;
  let at = early.length;
  while (at > 0 && seqAfter(early[at - 1]!.seq, seq)) at--;
  if (at > 0) {
    const before = early[at - 1]!;
    const overlap = seqDiff(seqAdd(before.seq, before.bytes.length), seq);
    if (overlap >= bytes.length) return;
    if (overlap > 0) {
      bytes = bytes.subarray(overlap);
      seq = seqAdd(seq, overlap);
    }
  }
  while (at < early.length && seqDiff(early[at]!.seq, seq) < bytes.length) {
    const after = early[at]!;
    const end = seqDiff(seqAdd(after.seq, after.bytes.length), seq);
    if (end > bytes.length) {
      bytes = bytes.subarray(0, seqDiff(after.seq, seq));
      break;
    }
    early.splice(at, 1);
  }
  if (bytes.length > 0 && early.length < EARLY_PIECES_MAX) early.splice(at, 0, { seq, bytes });
}

/** Out of order, and with delayed ACKs off, at once; else every second segment or after `delayedAckMs`. */
function oweAck(host: TcpHost, connection: TcpConnection, inOrder: boolean): void {
  connection.ackOwed++;
  const { delayedAckMs } = host.options;
  if (!inOrder || delayedAckMs === 0 || connection.ackOwed >= FAST_ACK_SEGMENTS) connection.ackNow = true;
  else if (connection.ackAtMs === NEVER) connection.ackAtMs = host.nowMs() + delayedAckMs;
}

function takeFin(host: TcpHost, connection: TcpConnection): void {
  if (connection.phase === 'closed' || connection.peerClosed) return;
  if (connection.finSeq < 0 || connection.finSeq !== connection.rcvNxt) return;
  connection.rcvNxt = seqAdd(connection.rcvNxt, 1);
  connection.peerClosed = true;
  connection.ackNow = true;
  if (connection.phase === 'established') connection.phase = 'close-wait';
  else if (connection.phase === 'fin-wait-1') connection.phase = 'closing';
  else if (connection.phase === 'fin-wait-2') enterTimeWait(host, connection);
  host.peerClosed(connection);
}

function enterTimeWait(host: TcpHost, connection: TcpConnection): void {
  connection.phase = 'time-wait';
  connection.resendAtMs = NEVER;
  connection.closeAtMs = host.nowMs() + host.options.timeWaitMs;
}

/** Ends the connection and tells its user once. */
export function close(host: TcpHost, connection: TcpConnection, reason: CloseReason): void {
  if (connection.phase === 'closed') return;
  connection.phase = 'closed';
  connection.resendAtMs = connection.ackAtMs = connection.closeAtMs = connection.wakeAtMs = NEVER;
  host.closed(connection, reason);
}
