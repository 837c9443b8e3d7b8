/**
 * The common case of TCP, decided in one go: new data in order, of a flow in which nothing is odd, that both VMs cut into
 * the same segment, and of which the primary's shows no more than the secondary has. Whatever else there is, is declined
 * without a trace and goes the long way (tcp.ts), which says what is right.
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { readS32, readU16 } from '../wire/bytes.js';
import { differenceOf, type FrameBytes } from '../wire/frame-memory.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { TCP_HEADER_BYTES } from '../wire/numbers.js';
import { FrameMark, NONE } from './hold-store.js';
import type { Ledger } from './ledger.js';
import type { TcpGate } from './tcp-gate.js';
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
  readonly #gate: TcpGate;

  constructor(ledger: Ledger, state: TcpState, gate: TcpGate) {
    this.#ledger = ledger;
    this.#flows = ledger.state;
    this.#state = state;
    this.#gate = gate;
  }

  /** A segment of the secondary, noted and not kept: the primary's oldest held one, if it is its like, leaves. */
  secondary(view: FrameView, flow: number, nowMs: number): boolean {
    const flows = this.#flows;
    const { store } = this.#ledger;
    const head = flows.primaryFirst[flow]!;
    if (head === NONE || flows.secondaryFirst[flow] !== NONE) return false;
    const marks = store.marks[head]!;
    const seq = store.seq[head]!;
    const length = store.payloadBytes[head]!;
    if ((marks & FrameMark.PLAIN) === 0 || (view.tcpFlags & ODD_KINDS) !== 0) return false;
    if (view.payloadBytes !== length || ((view.seq + flows.seqDelta[flow]!) | 0) !== seq) return false;
    const bytes = store.buffer(head);
    const at = store.payloadAt(head);
    const ack = store.ack[head]!;
    const window = windowOf(bytes, at, marks);
    if (!this.#isNext(flow, seq) || !this.#gate.passes(flow, ack, window)) return false;
    if (differenceOf(view.bytes, view.payload, bytes, at, length) !== -1) return false;
    const heldMs = nowMs - store.atMs(head);
    this.#ledger.lag.sample(heldMs);
    this.#note(flow, seq, bytes, at, length, ack, window, marks);
    this.#ledger.releaseHeld(head, flow, 'matched', heldMs);
    this.#ledger.dropFirst(head, flow);
    return true;
  }

  /** A segment of the primary of which nothing waits: it leaves if the secondary's first kept one is its like. */
  primary(view: FrameView, flow: number, nowMs: number): boolean {
    const flows = this.#flows;
    const { store } = this.#ledger;
    const kept = flows.secondaryFirst[flow]!;
    if (kept === NONE || (store.tcpFlags[kept]! & ODD_KINDS) !== 0) return false;
    const marks = plainMarks(view);
    const seq = view.seq | 0;
    const length = view.payloadBytes;
    if (marks === 0 || store.payloadBytes[kept] !== length) return false;
    if (((store.seq[kept]! + flows.seqDelta[flow]!) | 0) !== seq) return false;
    if (!this.#isNext(flow, seq) || !this.#gate.passes(flow, view.ack, view.window)) return false;
    if (differenceOf(view.bytes, view.payload, store.buffer(kept), store.payloadAt(kept), length) !== -1)
      return false;
    this.#ledger.lag.sample(nowMs - store.atMs(kept));
    this.#note(flow, seq, view.bytes, view.payload, length, view.ack | 0, view.window, marks);
    this.#ledger.release(view, flow, 'matched', 0);
    flows.clear(flow, FlowFlag.HEAD_BEGUN);
    return true;
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
    const edge = edgeOf(ack, window, flows.scalePrimary[flow]!);
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
