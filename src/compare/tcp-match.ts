/**
 * Is what a segment of the primary carries the same as what the secondary has produced? Positions, not packets, are
 * compared (T12): payload byte by byte, SYN and FIN as one position each, RST as an event with a position.
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { differenceOf } from '../wire/frame-memory.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { NONE } from './hold-store.js';
import { EXCERPT_BYTES, excerpt, type Ledger } from './ledger.js';
import { type TcpState, urgentPosition } from './tcp-state.js';
import type { DivergenceReason } from './verdict.js';

export const Match = {
  SAME: 0,
  /** The secondary has not produced it yet. */
  WAIT: 1,
  /** The secondary has produced something else: reported, the flow is blocked until a commit. */
  CONTRADICTED: 2,
} as const;
export type Match = (typeof Match)[keyof typeof Match];

/** Kept frames looked at for one position; a guest that sends more out of order than this waits for a checkpoint. */
const SEARCH_FRAMES_MAX = 4096;
const NO_BYTES = new Uint8Array(0);

export class TcpMatch {
  readonly #ledger: Ledger;
  readonly #state: FlowState;
  readonly #tcpState: TcpState;

  constructor(ledger: Ledger, tcpState: TcpState) {
    this.#ledger = ledger;
    this.#state = ledger.state;
    this.#tcpState = tcpState;
  }

  /** Goes on from where the last call for the same segment stopped (`headCursor`). */
  check(view: FrameView, flow: number, nowMs: number): Match {
    if ((view.tcpFlags & TcpFlag.RST) !== 0) {
      return this.resetOfSecondary(view, flow) === NONE ? Match.WAIT : Match.SAME;
    }
    const match = view.seqLength() === 0 ? Match.SAME : this.#matchStream(view, flow, nowMs);
    if (match !== Match.SAME || (view.tcpFlags & TcpFlag.URG) === 0) return match;
    return this.#isUrgentKnown(view, flow) ? Match.SAME : Match.WAIT;
  }

  /** The secondary has called as much urgent as the primary does; what was shown before needs no second word (T12). */
  #isUrgentKnown(view: FrameView, flow: number): boolean {
    const state = this.#state;
    const position = urgentPosition(view);
    if (((position - state.released[flow]!) | 0) <= 0) return true;
    if (!state.has(flow, FlowFlag.URGENT_SECONDARY)) return false;
    return ((state.urgentSecondary[flow]! + state.seqDelta[flow]! - position) | 0) >= 0;
  }

  #matchStream(view: FrameView, flow: number, nowMs: number): Match {
    const state = this.#state;
    if (!state.has(flow, FlowFlag.HEAD_BEGUN)) {
      state.set(flow, FlowFlag.HEAD_BEGUN);
      state.headCursor[flow] = view.seq;
    }
    const isSyn = (view.tcpFlags & TcpFlag.SYN) !== 0;
    if (isSyn && state.headCursor[flow] === (view.seq | 0)) {
      const match = this.#matchSyn(view, flow, nowMs);
      if (match !== Match.SAME) return match;
      state.headCursor[flow] = view.seq + 1;
    }
    const dataSeq = (view.seq + (isSyn ? 1 : 0)) | 0;
    const match = this.#matchData(view, flow, dataSeq, nowMs);
    if (match !== Match.SAME || (view.tcpFlags & TcpFlag.FIN) === 0) return match;
    return this.#matchFin(view, flow, (dataSeq + view.payloadBytes) | 0, nowMs);
  }

  /**
   * New data of the primary, plain, while nothing of the secondary is kept and it has not ended: it waits, and `check` need
   * not look at it. Leaves behind what `check` would.
   */
  awaitsData(flow: number, seq: number, payloadBytes: number, tcpFlags: number): boolean {
    const state = this.#state;
    if (payloadBytes === 0 || state.secondaryFirst[flow] !== NONE) return false;
    if ((tcpFlags & (TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST)) !== 0) return false;
    const flags = state.flags[flow]!;
    const isUnderWay =
      (flags & (FlowFlag.BASED | FlowFlag.SEEN_PRIMARY)) === (FlowFlag.BASED | FlowFlag.SEEN_PRIMARY);
    if (!isUnderWay || (flags & FlowFlag.FIN_SECONDARY) !== 0) return false;
    if (((seq - state.endPrimary[flow]!) | 0) < 0) return false;
    if ((flags & FlowFlag.CLIENT_ACKED) !== 0 && ((state.clientAck[flow]! - seq) | 0) > 0) return false;
    if ((flags & FlowFlag.HEAD_BEGUN) !== 0) return state.headCursor[flow] === seq;
    state.flags[flow] = flags | FlowFlag.HEAD_BEGUN;
    state.headCursor[flow] = seq;
    return true;
  }

  /** The kept RST of the secondary at the segment's position, or NONE. One that answers no connection has seq 0. */
  resetOfSecondary(view: FrameView, flow: number): number {
    const { store } = this.#ledger;
    const delta = this.#state.seqDelta[flow]!;
    const seq = view.seq | 0;
    let frame = this.#state.secondaryFirst[flow]!;
    for (let step = 0; frame !== NONE && step < SEARCH_FRAMES_MAX; step += 1, frame = store.next[frame]!) {
      if ((store.tcpFlags[frame]! & TcpFlag.RST) === 0) continue;
      const raw = store.seq[frame]!;
      if (((raw + delta) | 0) === seq || (raw === 0 && seq === 0)) return frame;
    }
    return NONE;
  }

  #matchSyn(view: FrameView, flow: number, nowMs: number): Match {
    const state = this.#state;
    if (!state.has(flow, FlowFlag.SYN_SECONDARY)) return Match.WAIT;
    if (state.has(flow, FlowFlag.PAIRED)) return Match.SAME;
    const agrees =
      view.mss === state.mssSecondary(flow) &&
      state.scalePrimary(flow) === state.scaleSecondary(flow) &&
      view.sackPermitted === state.has(flow, FlowFlag.SACK_SECONDARY) &&
      (view.timestamp !== 0) === state.has(flow, FlowFlag.TIMESTAMP_SYN_SECONDARY);
    if (!agrees) return this.#contradict('syn-options', view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
    this.#tcpState.pair(flow);
    return Match.SAME;
  }

  #matchData(view: FrameView, flow: number, dataSeq: number, nowMs: number): Match {
    const state = this.#state;
    const { record, store } = this.#ledger;
    const dataEnd = (dataSeq + view.payloadBytes) | 0;
    let cursor = state.headCursor[flow]!;
    while (((dataEnd - cursor) | 0) > 0) {
      const left = (dataEnd - cursor) | 0;
      const at = view.payload + ((cursor - dataSeq) | 0);
      const beyondClient = state.has(flow, FlowFlag.CLIENT_ACKED) ? (state.clientAck[flow]! - cursor) | 0 : 0;
      if (beyondClient > 0) {
        // the client has it and will look at nothing there again: keep-alives live here (T13)
        cursor = (cursor + Math.min(beyondClient, left)) | 0;
        continue;
      }
      if (state.recordFirst[flow] !== NONE && ((state.endPrimary[flow]! - cursor) | 0) > 0) {
        const same = record.check(flow, cursor, view.bytes, at, left);
        if (same < 0) {
          const position = (cursor - same - 1) | 0;
          const shown = record.excerpt(flow, position, EXCERPT_BYTES);
          return this.#contradictAt('retransmission', view, flow, dataSeq, position, shown, nowMs);
        }
        if (same > 0) {
          cursor = (cursor + same) | 0;
          continue;
        }
      }
      const frame = this.covering(flow, cursor);
      if (frame === NONE) {
        state.headCursor[flow] = cursor;
        if (!this.#secondaryEndedAt(flow, cursor)) return Match.WAIT;
        return this.#contradictAt('length', view, flow, dataSeq, cursor, NO_BYTES, nowMs);
      }
      const skip = (cursor - this.dataPosition(flow, frame)) | 0;
      const common = Math.min(left, store.payloadBytes[frame]! - skip);
      const buffer = store.buffer(frame);
      const keptAt = store.payloadAt(frame) + skip;
      const same = differenceOf(view.bytes, at, buffer, keptAt, common);
      if (same !== -1) {
        const other = excerpt(buffer, keptAt + same, keptAt + common);
        return this.#contradictAt('payload', view, flow, dataSeq, (cursor + same) | 0, other, nowMs);
      }
      cursor = (cursor + common) | 0;
    }
    state.headCursor[flow] = cursor;
    return Match.SAME;
  }

  #matchFin(view: FrameView, flow: number, finSeq: number, nowMs: number): Match {
    const state = this.#state;
    if (state.has(flow, FlowFlag.CLIENT_ACKED) && ((state.clientAck[flow]! - finSeq) | 0) > 0)
      return Match.SAME;
    if (state.has(flow, FlowFlag.FIN_SECONDARY)) {
      if (((state.finSecondary[flow]! + state.seqDelta[flow]!) | 0) === finSeq) return Match.SAME;
      return this.#contradict('length', view, flow, this.#offset(flow, finSeq), NO_BYTES, NO_BYTES, nowMs);
    }
    const frame = this.covering(flow, finSeq);
    if (frame === NONE) return Match.WAIT;
    const { store } = this.#ledger;
    const skip = (finSeq - this.dataPosition(flow, frame)) | 0;
    const from = store.payloadAt(frame);
    const other = excerpt(store.buffer(frame), from + skip, from + store.payloadBytes[frame]!);
    return this.#contradict('length', view, flow, this.#offset(flow, finSeq), NO_BYTES, other, nowMs);
  }

  #secondaryEndedAt(flow: number, position: number): boolean {
    const state = this.#state;
    if (!state.has(flow, FlowFlag.FIN_SECONDARY)) return false;
    return ((position - state.finSecondary[flow]! - state.seqDelta[flow]!) | 0) >= 0;
  }

  /** Position of a kept frame's first payload byte, in the primary's space. */
  dataPosition(flow: number, frame: number): number {
    const { store } = this.#ledger;
    const syn = (store.tcpFlags[frame]! >> 1) & 1;
    return (store.seq[frame]! + syn + this.#state.seqDelta[flow]!) | 0;
  }

  /** The kept frame whose payload holds `position`, or NONE. The list is in the order of positions. */
  covering(flow: number, position: number): number {
    const { store } = this.#ledger;
    const last = this.#state.secondaryLast[flow]!;
    if (last === NONE) return NONE;
    const inLast = (position - this.dataPosition(flow, last)) | 0;
    if (inLast >= 0 && inLast < store.payloadBytes[last]!) return last;
    let frame = this.#state.secondaryFirst[flow]!;
    for (let step = 0; frame !== NONE && step < SEARCH_FRAMES_MAX; step += 1, frame = store.next[frame]!) {
      const into = (position - this.dataPosition(flow, frame)) | 0;
      if (into >= 0 && into < store.payloadBytes[frame]! && (store.tcpFlags[frame]! & TcpFlag.RST) === 0)
        return frame;
    }
    return NONE;
  }

  #contradictAt(
    reason: DivergenceReason,
    view: FrameView,
    flow: number,
    dataSeq: number,
    position: number,
    other: Uint8Array,
    nowMs: number,
  ): Match {
    const at = view.payload + ((position - dataSeq) | 0);
    const own = excerpt(view.bytes, at, view.payload + view.payloadBytes);
    return this.#contradict(reason, view, flow, this.#offset(flow, position), own, other, nowMs);
  }

  #contradict(
    reason: DivergenceReason,
    view: FrameView,
    flow: number,
    offset: number,
    own: Uint8Array,
    other: Uint8Array,
    nowMs: number,
  ): Match {
    this.#state.set(flow, FlowFlag.BLOCKED);
    this.#ledger.diverge(reason, view, flow, offset, own, other, nowMs);
    return Match.CONTRADICTED;
  }

  /** Position counted from the first data byte seen. */
  #offset(flow: number, position: number): number {
    const state = this.#state;
    return state.has(flow, FlowFlag.BASED) ? (position - state.baseSeq[flow]!) >>> 0 : 0;
  }
}
