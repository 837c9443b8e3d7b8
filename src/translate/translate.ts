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
import { FrameKind, FrameView, TcpFlag } from '../wire/frame-view.js';
import { parseQuoted } from '../wire/quoted.js';

const SACK_BLOCK_BYTES = 8;
const SYN_ACK = TcpFlag.SYN | TcpFlag.ACK;
const quoted = new FrameView();

/** A client frame for the secondary. */
export function toSecondary(view: FrameView, flows: FlowTable, flow: number): void {
  const { state } = flows;
  const seqDelta = (state.clientSeqDelta[flow]! + state.seqDelta[flow]!) | 0;
  const tsDelta = (state.clientTsDelta[flow]! + state.tsDelta[flow]!) | 0;
  if (view.kind !== FrameKind.TCP) {
    moveQuoted(view, -seqDelta);
    return;
  }
  if (refuse(view, state, flow, seqDelta, tsDelta)) return;
  moveTowardsGuest(view, seqDelta, tsDelta);
  clampAck(view, state, flow);
  if (answersSyn(view)) clampEcho(view, state, flow);
}

/** A client frame for today's primary. */
export function toPrimary(view: FrameView, flows: FlowTable, flow: number): void {
  const { state } = flows;
  const seqDelta = state.clientSeqDelta[flow]!;
  const tsDelta = state.clientTsDelta[flow]!;
  if (view.kind !== FrameKind.TCP) {
    moveQuoted(view, -seqDelta);
    return;
  }
  if (refuse(view, state, flow, seqDelta, tsDelta)) return;
  moveTowardsGuest(view, seqDelta, tsDelta);
}

/** A frame of the secondary for the client. */
export function fromSecondary(view: FrameView, flows: FlowTable, flow: number): void {
  if (view.kind !== FrameKind.TCP) return;
  const { state } = flows;
  const seqDelta = (state.clientSeqDelta[flow]! + state.seqDelta[flow]!) | 0;
  const tsDelta = (state.clientTsDelta[flow]! + state.tsDelta[flow]!) | 0;
  if (refuse(view, state, flow, seqDelta, tsDelta)) return;
  moveTowardsClient(view, state, flow, seqDelta, tsDelta);
}

/** A frame of today's primary for the client. */
export function fromPrimary(view: FrameView, flows: FlowTable, flow: number): void {
  if (view.kind !== FrameKind.TCP) return;
  const { state } = flows;
  const seqDelta = state.clientSeqDelta[flow]!;
  const tsDelta = state.clientTsDelta[flow]!;
  if (refuse(view, state, flow, seqDelta, tsDelta)) return;
  moveTowardsClient(view, state, flow, seqDelta, tsDelta);
}

/** A signed segment (TCP MD5, AO) would be thrown away if it were rewritten: it passes as it is, counted. */
function refuse(view: FrameView, state: FlowState, flow: number, seqDelta: number, tsDelta: number): boolean {
  if (!view.signed) return false;
  state.set(flow, FlowFlag.SIGNED);
  if (seqDelta !== 0 || tsDelta !== 0) state.signedUntouched += 1;
  return true;
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
  view: FrameView,
  state: FlowState,
  flow: number,
  seqDelta: number,
  tsDelta: number,
): void {
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

/** An ICMP error quotes the sequence number of a guest's segment, as the client got it. */
function moveQuoted(view: FrameView, delta: number): void {
  if (delta === 0 || view.icmpType < 0 || !parseQuoted(view, quoted) || quoted.kind !== FrameKind.TCP) return;
  const at = quoted.l4 + 4;
  const value = (quoted.seq + delta) >>> 0;
  if (!view.partialChecksum) {
    updateChecksum32(view.bytes, view.l4 + 2, quoted.seq, value, ((at - view.l4) & 1) !== 0);
  }
  writeU32(view.bytes, at, value);
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
