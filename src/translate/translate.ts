/**
 * Rewriting TCP between the sequence and timestamp spaces of client, primary and secondary, in place (traps T4, T5, T7,
 * T10). What a guest sends has its seq and TSval moved; what a client sends has its ack, SACK blocks and TSecr moved
 * back. The client's own sequence numbers are the same for everybody. Checksums are kept right incrementally.
 *
 * Two tables per flow: *client* (client minus today's primary) and *pair* (primary minus secondary).
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import type { FlowTable } from '../flow/flow-table.js';
import { readU32, writeU32 } from '../wire/bytes.js';
import { updateChecksum32 } from '../wire/checksum.js';
import { parseTcpFragment } from '../wire/fragment.js';
import { FrameKind, FrameView, TcpFlag } from '../wire/frame-view.js';
import { parseQuoted, QUOTED_ACK_BYTES, QUOTED_CHECKSUM_BYTES, QUOTED_FLAGS_BYTES } from '../wire/quoted.js';

const SACK_BLOCK_BYTES = 8;
const SYN_ACK = TcpFlag.SYN | TcpFlag.ACK;
const quoted = new FrameView();
const inFragment = new FrameView();

/** A client frame for the secondary. */
export function toSecondary(view: FrameView, flows: FlowTable, flow: number): void {
  const { state } = flows;
  const seqDelta = (state.clientSeqDelta[flow]! + state.seqDelta[flow]!) | 0;
  const tsDelta = (state.clientTsDelta[flow]! + state.tsDelta[flow]!) | 0;
  const segment = segmentToGuest(view, state, flow, seqDelta, tsDelta);
  if (segment === null) return;
  clampAck(segment, state, flow);
  if (answersSyn(segment)) clampEcho(segment, state, flow);
}

/** A client frame for today's primary. */
export function toPrimary(view: FrameView, flows: FlowTable, flow: number): void {
  const { state } = flows;
  segmentToGuest(view, state, flow, state.clientSeqDelta[flow]!, state.clientTsDelta[flow]!);
}

/** A frame of the secondary for the client. */
export function fromSecondary(view: FrameView, flows: FlowTable, flow: number): void {
  const { state } = flows;
  const seqDelta = (state.clientSeqDelta[flow]! + state.seqDelta[flow]!) | 0;
  const tsDelta = (state.clientTsDelta[flow]! + state.tsDelta[flow]!) | 0;
  moveTowardsClient(view, state, flow, seqDelta, tsDelta);
}

/** A frame of today's primary for the client. */
export function fromPrimary(view: FrameView, flows: FlowTable, flow: number): void {
  const { state } = flows;
  moveTowardsClient(view, state, flow, state.clientSeqDelta[flow]!, state.clientTsDelta[flow]!);
}

/** Rewrites a client frame for a guest; returns the segment in it, null when there is none or it passes as it is. */
function segmentToGuest(
  view: FrameView,
  state: FlowState,
  flow: number,
  seqDelta: number,
  tsDelta: number,
): FrameView | null {
  if (view.icmpType >= 0) {
    moveQuotedSeq(view, -seqDelta);
    return null;
  }
  const segment = rewritable(view, state, flow, seqDelta, tsDelta);
  if (segment !== null) moveTowardsGuest(segment, seqDelta, tsDelta);
  return segment;
}

/**
 * The segment that the frame is, or whose header its first fragment holds; null when it passes as it is. A signed one
 * (TCP MD5, AO) would be thrown away if it were rewritten; of one cut within its header nobody could rewrite the rest.
 * Both are counted.
 */
function rewritable(
  view: FrameView,
  state: FlowState,
  flow: number,
  seqDelta: number,
  tsDelta: number,
): FrameView | null {
  let segment = view;
  if (view.kind !== FrameKind.TCP) {
    if (!parseTcpFragment(view, inFragment)) return null;
    segment = inFragment;
  }
  const isMoved = seqDelta !== 0 || tsDelta !== 0;
  if (segment.kind !== FrameKind.TCP) {
    if (isMoved) state.fragmentsUntouched += 1;
    return null;
  }
  if (!segment.signed) return segment;
  state.set(flow, FlowFlag.SIGNED);
  if (isMoved) state.signedUntouched += 1;
  return null;
}

function moveTowardsGuest(view: FrameView, seqDelta: number, tsDelta: number): void {
  if ((view.tcpFlags & TcpFlag.ACK) !== 0) {
    if (seqDelta !== 0) view.ack = moveField(view, view.l4 + 8, -seqDelta);
    // without ACK, TSecr means nothing (RFC 7323 3.2)
    if (view.timestamp !== 0 && tsDelta !== 0) moveField(view, view.timestamp + 4, -tsDelta);
  }
  if (view.sackBlocks === 0 || seqDelta === 0) return;
  const end = view.sack + view.sackBlocks * SACK_BLOCK_BYTES;
  for (let at = view.sack; at < end; at += 4) moveField(view, at, -seqDelta);
}

function moveTowardsClient(
  frame: FrameView,
  state: FlowState,
  flow: number,
  seqDelta: number,
  tsDelta: number,
): void {
  if (frame.icmpType >= 0) {
    moveQuotedAck(frame, seqDelta);
    return;
  }
  const view = rewritable(frame, state, flow, seqDelta, tsDelta);
  if (view === null) return;
  // a RST that answers no connection has seq 0 of nobody's space (RFC 9293 3.5.2)
  const inNoSpace = (view.tcpFlags & TcpFlag.RST) !== 0 && view.seq === 0;
  if (seqDelta !== 0 && !inNoSpace) view.seq = moveField(view, view.l4 + 4, seqDelta);
  if (view.timestamp === 0) return;
  let stamp = (readU32(view.bytes, view.timestamp) + tsDelta) | 0;
  const behind = state.has(flow, FlowFlag.TIMESTAMP_SHOWN) ? (state.tsShown[flow]! - stamp) | 0 : 0;
  if (behind > 0) {
    // the client drops what seems older than what it has seen (PAWS): from here on the flow's clock runs ahead by that
    state.clientTsDelta[flow] = state.clientTsDelta[flow]! + behind;
    stamp = (stamp + behind) | 0;
  }
  state.tsShown[flow] = stamp;
  state.set(flow, FlowFlag.TIMESTAMP_SHOWN);
  setField(view, view.timestamp, stamp >>> 0);
}

/** Run-ahead: Linux throws away, data and all, a segment that acknowledges what was not sent yet. */
function clampAck(view: FrameView, state: FlowState, flow: number): void {
  if ((view.tcpFlags & TcpFlag.ACK) === 0 || !state.has(flow, FlowFlag.SEEN_SECONDARY)) return;
  const end = state.endSecondary[flow]! >>> 0;
  if (((view.ack - end) | 0) <= 0) return;
  setField(view, view.l4 + 8, end);
  view.ack = end;
}

/** The client answers a SYN of the guest: to be translated for the secondary even where the two spaces are one. */
export function answersSyn(view: FrameView): boolean {
  return (view.tcpFlags & SYN_ACK) === SYN_ACK;
}

/**
 * The answer may be to a SYN that the primary has repeated. The secondary repeats its own when its own time has come, so
 * what the echo becomes may lie in its future, and Linux resets a connection over that (PAWSACTIVEREJECTED, trap T10).
 * The time of its first SYN is always right.
 */
function clampEcho(view: FrameView, state: FlowState, flow: number): void {
  if (view.timestamp === 0 || !state.has(flow, FlowFlag.TIMESTAMP_SYN_SECONDARY)) return;
  const first = state.tsSynSecondary[flow]! >>> 0;
  const at = view.timestamp + 4;
  if (((readU32(view.bytes, at) - first) | 0) > 0) setField(view, at, first);
}

/** A client's ICMP error quotes the sequence number of a guest's segment, as the client got it. */
function moveQuotedSeq(view: FrameView, delta: number): void {
  if (delta === 0 || !parseQuoted(view, quoted) || quoted.kind !== FrameKind.TCP) return;
  setQuoted(view, quoted.l4 + 4, quoted.seq, (quoted.seq + delta) >>> 0);
}

/** A guest's ICMP error quotes the acknowledgement number of a client's segment, as the guest got it. */
function moveQuotedAck(view: FrameView, delta: number): void {
  if (delta === 0 || !parseQuoted(view, quoted) || quoted.kind !== FrameKind.TCP) return;
  const quotedBytes = quoted.payloadBytes;
  if (quotedBytes < QUOTED_ACK_BYTES) return;
  if (quotedBytes >= QUOTED_FLAGS_BYTES && (quoted.tcpFlags & TcpFlag.ACK) === 0) return;
  setQuoted(view, quoted.l4 + 8, quoted.ack, (quoted.ack + delta) >>> 0);
}

/** The quoted checksum, if it is there, takes the change in, and so leaves that of the error as it was (RFC 5508 4.2). */
function setQuoted(view: FrameView, at: number, old: number, value: number): void {
  const { bytes, l4 } = view;
  if (quoted.payloadBytes >= QUOTED_CHECKSUM_BYTES) updateChecksum32(bytes, quoted.l4 + 16, old, value);
  else if (!view.partialChecksum) updateChecksum32(bytes, l4 + 2, old, value, ((at - l4) & 1) !== 0);
  writeU32(bytes, at, value);
}

function moveField(view: FrameView, at: number, delta: number): number {
  const value = (readU32(view.bytes, at) + delta) >>> 0;
  setField(view, at, value);
  return value;
}

/** Writes a 32-bit field of the TCP header. A partial checksum covers the pseudo-header alone and stays (T18). */
function setField(view: FrameView, at: number, value: number): void {
  const old = readU32(view.bytes, at);
  if (old === value) return;
  if (!view.partialChecksum) {
    updateChecksum32(view.bytes, view.l4 + 16, old, value, ((at - view.l4) & 1) !== 0);
  }
  writeU32(view.bytes, at, value);
}
