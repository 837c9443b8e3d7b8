/**
 * The common case of TCP, decided in one go: new data in order, of a flow in which nothing is odd, that both VMs have sent,
 * cut alike or not, and of which the primary's segment shows no more than the secondary has. Whatever else there is, is
 * declined without a trace and goes the long way (tcp.ts), which says what is right.
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { readS32, readU16 } from '../wire/bytes.js';
import { differenceOf, type FrameBytes } from '../wire/frame-memory.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { TCP_HEADER_BYTES } from '../wire/numbers.js';
import { FrameMark, NONE } from './hold-store.js';
import type { Ledger } from './ledger.js';
import type { TcpGate } from './tcp-gate.js';
import type { TcpMatch } from './tcp-match.js';
import { edgeOf, type TcpState } from './tcp-state.js';

const ODD_KINDS = TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST;
const KINDS = ODD_KINDS | TcpFlag.URG | TcpFlag.ACK;
const SYNS = FlowFlag.SYN_PRIMARY | FlowFlag.SYN_SECONDARY;
/** Something was released, acknowledged and shown of the flow before; nothing beyond a hole. */
const UNDER_WAY =
  FlowFlag.BASED |
  FlowFlag.SEEN_PRIMARY |
  FlowFlag.ACKED_PRIMARY |
  FlowFlag.ACKED_SECONDARY |
  FlowFlag.ACK_SHOWN;
const JUDGED = UNDER_WAY | FlowFlag.LOOSE | FlowFlag.BLOCKED;
/** NOP, NOP, timestamps: of the 12 bytes the last 8 are TSval and TSecr. */
const STAMP_OPTIONS_BYTES = 12;
const STAMP_BYTES = 8;

export const ShortWay = {
  /** Nothing was done: the long way decides. */
  DECLINED: 0,
  /** It has left. */
  LEFT: 1,
  /** The secondary's bytes of it have not all come; those that have are verified. */
  WAITS: 2,
} as const;
export type ShortWay = (typeof ShortWay)[keyof typeof ShortWay];

/** Marks for a segment with data whose header holds no more than the short way reads of it; else 0. */
export function plainMarks(view: FrameView): number {
  if ((view.tcpFlags & KINDS) !== TcpFlag.ACK || view.payloadBytes === 0) return 0;
  const { options, optionsEnd, timestamp } = view;
  if (timestamp === 0) return options === optionsEnd ? FrameMark.PLAIN : 0;
  const isPlain = optionsEnd - options === STAMP_OPTIONS_BYTES && optionsEnd - timestamp === STAMP_BYTES;
  return isPlain ? FrameMark.PLAIN | FrameMark.STAMPED : 0;
}

export class TcpShortWay {
  readonly #ledger: Ledger;
  readonly #flows: FlowState;
  readonly #state: TcpState;
  readonly #match: TcpMatch;
  readonly #gate: TcpGate;

  constructor(ledger: Ledger, state: TcpState, match: TcpMatch, gate: TcpGate) {
    this.#ledger = ledger;
    this.#flows = ledger.state;
    this.#state = state;
    this.#match = match;
    this.#gate = gate;
  }

  /** A segment of the secondary, noted and not kept: the primary's oldest held one leaves if this is the rest of it. */
  secondary(view: FrameView, flow: number, nowMs: number): boolean {
    const flows = this.#flows;
    const { store } = this.#ledger;
    const head = flows.primaryFirst[flow]!;
    if (head === NONE || (view.tcpFlags & ODD_KINDS) !== 0) return false;
    const marks = store.marks[head]!;
    const seq = store.seq[head]!;
    const length = store.payloadBytes[head]!;
    const from = (view.seq + flows.seqDelta[flow]!) | 0;
    if ((marks & FrameMark.PLAIN) === 0 || ((from + view.payloadBytes) | 0) !== ((seq + length) | 0))
      return false;
    if (!this.#isNext(flow, seq) || from !== this.#cursor(flow, seq)) return false;
    const bytes = store.buffer(head);
    const at = store.payloadAt(head);
    const ack = store.ack[head]!;
    const window = windowOf(bytes, at, marks);
    if (!this.#gate.passes(flow, ack, window)) return false;
    const rest = at + ((from - seq) | 0);
    if (differenceOf(view.bytes, view.payload, bytes, rest, view.payloadBytes) !== -1) return false;
    this.#leave(head, flow, window, nowMs);
    return true;
  }

  /** A segment of the primary of which nothing waits: it leaves if the secondary's kept ones hold all of it. */
  primary(view: FrameView, flow: number, nowMs: number): ShortWay {
    const flows = this.#flows;
    const { store } = this.#ledger;
    const kept = flows.secondaryFirst[flow]!;
    if (kept === NONE) return ShortWay.DECLINED;
    const marks = plainMarks(view);
    const seq = view.seq | 0;
    const length = view.payloadBytes;
    if (marks === 0 || !this.#isNext(flow, seq)) return ShortWay.DECLINED;
    const way = this.#verify(flow, seq, view.bytes, view.payload, length);
    if (way !== ShortWay.LEFT) return way;
    if (!this.#gate.passes(flow, view.ack, view.window)) return ShortWay.DECLINED;
    this.#ledger.lag.sample(nowMs - store.atMs(kept));
    this.#note(flow, seq, view.bytes, view.payload, length, view.ack | 0, view.window, marks);
    this.#ledger.release(view, flow, 'matched', 0);
    return ShortWay.LEFT;
  }

  /** The primary's oldest held segment: it leaves if the secondary's kept ones hold all of it. */
  held(head: number, flow: number, nowMs: number): ShortWay {
    const { store } = this.#ledger;
    const marks = store.marks[head]!;
    const seq = store.seq[head]!;
    const length = store.payloadBytes[head]!;
    if ((marks & FrameMark.PLAIN) === 0 || !this.#isNext(flow, seq)) return ShortWay.DECLINED;
    const bytes = store.buffer(head);
    const at = store.payloadAt(head);
    const way = this.#verify(flow, seq, bytes, at, length);
    if (way !== ShortWay.LEFT) return way;
    const ack = store.ack[head]!;
    const window = windowOf(bytes, at, marks);
    if (!this.#gate.passes(flow, ack, window)) return ShortWay.DECLINED;
    this.#leave(head, flow, window, nowMs);
    return ShortWay.LEFT;
  }

  /** Holds the primary's next bytes against the secondary's kept ones, from `headCursor` on. LEFT: they may leave. */
  #verify(flow: number, seq: number, bytes: FrameBytes, at: number, length: number): ShortWay {
    const flows = this.#flows;
    const { store } = this.#ledger;
    const flags = flows.flags[flow]!;
    const end = (seq + length) | 0;
    let cursor = this.#cursor(flow, seq);
    while (((end - cursor) | 0) > 0) {
      const frame = this.#match.covering(flow, cursor);
      if (frame === NONE) {
        if ((flags & FlowFlag.FIN_SECONDARY) !== 0) return ShortWay.DECLINED;
        flows.flags[flow] = flags | FlowFlag.HEAD_BEGUN;
        flows.headCursor[flow] = cursor;
        return ShortWay.WAITS;
      }
      const skip = (cursor - this.#match.dataPosition(flow, frame)) | 0;
      const common = Math.min((end - cursor) | 0, store.payloadBytes[frame]! - skip);
      const from = at + ((cursor - seq) | 0);
      if (differenceOf(bytes, from, store.buffer(frame), store.payloadAt(frame) + skip, common) !== -1) {
        return ShortWay.DECLINED;
      }
      cursor = (cursor + common) | 0;
    }
    return ShortWay.LEFT;
  }

  /** How far the primary's first segment, which begins at `seq`, has been verified. */
  #cursor(flow: number, seq: number): number {
    return this.#flows.has(flow, FlowFlag.HEAD_BEGUN) ? this.#flows.headCursor[flow]! : seq;
  }

  /** Is `seq` where the flow goes on, and nothing else to be thought of? Nobody can have acknowledged more than `released`. */
  #isNext(flow: number, seq: number): boolean {
    const flows = this.#flows;
    const flags = flows.flags[flow]!;
    if ((flags & JUDGED) !== UNDER_WAY || this.#ledger.buffersOnly) return false;
    if ((flags & FlowFlag.PAIRED) === 0 && (flags & SYNS) !== 0) return false;
    if (flows.released[flow] !== seq || flows.endPrimary[flow] !== seq) return false;
    return flows.owedFrame[flow] === NONE;
  }

  /** The primary's oldest held segment is the secondary's too. */
  #leave(head: number, flow: number, window: number, nowMs: number): void {
    const { store } = this.#ledger;
    const heldMs = nowMs - store.atMs(head);
    const seq = store.seq[head]!;
    const length = store.payloadBytes[head]!;
    this.#ledger.lag.sample(heldMs);
    this.#note(
      flow,
      seq,
      store.buffer(head),
      store.payloadAt(head),
      length,
      store.ack[head]!,
      window,
      store.marks[head]!,
    );
    this.#ledger.releaseHeld(head, flow, 'matched', heldMs);
    this.#ledger.dropFirst(head, flow);
  }

  /** The segment of the primary, whose payload lies at `bytes[at]`, is about to be shown. */
  #note(
    flow: number,
    seq: number,
    bytes: FrameBytes,
    at: number,
    length: number,
    ack: number,
    window: number,
    marks: number,
  ): void {
    const flows = this.#flows;
    const end = (seq + length) | 0;
    this.#ledger.record.append(flow, seq, bytes, at, length);
    flows.endPrimary[flow] = end;
    flows.released[flow] = end;
    flows.headCursor[flow] = end;
    const edge = edgeOf(ack, window, flows.scalePrimary(flow));
    this.#state.noteAckPrimary(flow, ack, window, edge);
    if ((marks & FrameMark.STAMPED) !== 0) this.#state.noteStampShown(flow, readS32(bytes, at - STAMP_BYTES));
    this.#state.noteAckShown(flow, ack, edge);
  }
}

/** The window field of a plain segment, by where its payload lies. */
function windowOf(bytes: FrameBytes, payload: number, marks: number): number {
  const optionsBytes = (marks & FrameMark.STAMPED) !== 0 ? STAMP_OPTIONS_BYTES : 0;
  return readU16(bytes, payload - optionsBytes - TCP_HEADER_BYTES + 14);
}
