/**
 * Comparing TCP: the primary's segments leave in its order, each when the secondary has produced what it carries and
 * has shown what it acknowledges (the release predicate, traps T1 to T5 and T10 to T14).
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { NONE, Side } from './hold-store.js';
import type { Ledger } from './ledger.js';
import { OwedAck } from './owed-ack.js';
import { TcpFront } from './tcp-front.js';
import { Gate, TcpGate } from './tcp-gate.js';
import { Match, TcpMatch } from './tcp-match.js';
import { plainMarks, ShortWay, TcpShortWay } from './tcp-short-way.js';
import { keptEnd, TcpState } from './tcp-state.js';
import { type ReleaseReason, Verdict } from './verdict.js';

/** What the primary's oldest held segment of a flow waits for. */
export const Waiting = {
  NOTHING: 0,
  /** The secondary's bytes. */
  CONTENT: 1,
  /** The secondary's acknowledgement or window: never a reason for an early checkpoint (T2). */
  ACKNOWLEDGEMENT: 2,
  /** A commit. */
  COMMIT: 3,
} as const;
export type Waiting = (typeof Waiting)[keyof typeof Waiting];

/** Frames walked to find the place of one that came out of order. */
const REORDER_FRAMES_MAX = 1024;
const NO_BYTES = new Uint8Array(0);

export class TcpComparator {
  readonly state: TcpState;
  readonly #ledger: Ledger;
  readonly #flows: FlowState;
  readonly #match: TcpMatch;
  readonly #gate: TcpGate;
  readonly #owed: OwedAck;
  readonly #short: TcpShortWay;
  readonly #front: TcpFront;
  /** The flow whose oldest held frame was verified in part since the last `releaseBegun`. */
  #begun = NONE;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#flows = ledger.state;
    this.state = new TcpState(ledger);
    this.#match = new TcpMatch(ledger, this.state);
    this.#gate = new TcpGate(ledger.state);
    this.#owed = new OwedAck(ledger, this.state, this.#gate);
    this.#short = new TcpShortWay(ledger, this.state, this.#match, this.#gate);
    this.#front = new TcpFront(ledger);
  }

  /** The frame leaves uncompared. What it shows may be retransmitted when protection has begun. */
  watch(view: FrameView, flow: number): void {
    this.#begin(view, flow);
    this.#recordBytes(view, flow);
    this.state.notePrimary(view, flow);
    this.state.noteShown(view, flow);
    const end = (view.seq + view.seqLength()) | 0;
    if (((end - this.#flows.released[flow]!) | 0) > 0) this.#flows.released[flow] = end;
  }

  /** The frame leaves by a rule, whatever the secondary says. Positions are noted: a failover goes on from them. */
  waivePrimary(view: FrameView, flow: number): void {
    this.#begin(view, flow);
    this.state.notePrimary(view, flow);
    this.state.noteShown(view, flow);
    const end = (view.seq + view.seqLength()) | 0;
    if (((end - this.#flows.released[flow]!) | 0) > 0) this.#flows.released[flow] = end;
    this.#pairSyns(flow);
  }

  /** The secondary's side of a waived flow: thrown away, but its connection lives on translated client frames. */
  waiveSecondary(view: FrameView, flow: number): void {
    if ((view.tcpFlags & TcpFlag.SYN) !== 0) this.state.beginSecondary(view, flow);
    this.state.noteSecondary(view, flow);
    this.#pairSyns(flow);
  }

  #pairSyns(flow: number): void {
    const both = FlowFlag.SYN_PRIMARY | FlowFlag.SYN_SECONDARY;
    const flags = this.#flows.flags[flow]!;
    if ((flags & FlowFlag.PAIRED) === 0 && (flags & both) === both) this.state.pair(flow);
  }

  primary(view: FrameView, flow: number, nowMs: number): Verdict {
    const flows = this.#flows;
    const isFirst = flows.primaryFirst[flow] === NONE;
    const way = isFirst ? this.#short.primary(view, flow, nowMs) : ShortWay.DECLINED;
    if (way === ShortWay.LEFT) {
      this.#dropShown(flow);
      return Verdict.RELEASE;
    }
    const mayLeave =
      isFirst &&
      way === ShortWay.DECLINED &&
      !this.#isStuck(flow) &&
      !this.#match.awaitsData(flow, view.seq | 0, view.payloadBytes, view.tcpFlags);
    if (mayLeave) {
      const kept = flows.secondaryFirst[flow]!;
      if (this.#judge(view, flow, 0, nowMs) === Waiting.NOTHING) {
        if (kept !== NONE && view.payloadBytes > 0) {
          this.#ledger.lag.sample(nowMs - this.#ledger.store.atMs(kept));
        }
        this.#leave(view, flow, this.#reason(view, flow), 0);
        flows.clear(flow, FlowFlag.HEAD_BEGUN);
        return Verdict.RELEASE;
      }
    }
    const frame = this.#ledger.hold(view, flow, nowMs);
    if (frame === NONE) {
      if (isFirst) flows.clear(flow, FlowFlag.HEAD_BEGUN);
      return Verdict.DIVERGED;
    }
    this.#ledger.store.marks[frame] = plainMarks(view);
    this.#noteBegun(flow, nowMs);
    return flows.has(flow, FlowFlag.BLOCKED) ? Verdict.DIVERGED : Verdict.HOLD;
  }

  secondary(view: FrameView, flow: number, nowMs: number): void {
    const isSyn = (view.tcpFlags & TcpFlag.SYN) !== 0;
    if (isSyn && !this.state.beginSecondary(view, flow)) {
      this.#flows.set(flow, FlowFlag.BLOCKED);
      this.#ledger.diverge('flags', view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
      return;
    }
    this.state.noteSecondary(view, flow);
    const hasContent = view.seqLength() > 0 || (view.tcpFlags & TcpFlag.RST) !== 0;
    if (!hasContent) this.#keepAck(view, flow, nowMs);
    else if (this.#short.secondary(view, flow, nowMs)) {
      this.#dropShown(flow);
      if (this.#flows.primaryFirst[flow] === NONE) return;
    } else this.#keep(view, flow, nowMs);
    if (this.settle(flow, nowMs) === Waiting.CONTENT) this.#noteBegun(flow, nowMs);
    if (this.#flows.owedFrame[flow] !== NONE && !this.#isStuck(flow)) this.#owed.settle(flow);
  }

  #noteBegun(flow: number, nowMs: number): void {
    if (this.#begun === flow || !this.#front.isBegun(flow)) return;
    this.releaseBegun(nowMs);
    this.#begun = flow;
  }

  /** To be called after each batch: what is verified of a super-frame leaves, in whole segments. */
  releaseBegun(nowMs: number): void {
    const flow = this.#begun;
    this.#begun = NONE;
    if (flow === NONE || this.#isStuck(flow)) return;
    const view = this.#front.open(flow);
    if (view === undefined) return;
    const heldMs = nowMs - this.#ledger.store.atMs(this.#flows.primaryFirst[flow]!);
    if (this.#judge(view, flow, heldMs, nowMs) !== Waiting.NOTHING) return;
    this.#front.shorten(view);
    this.#ledger.lag.sample(heldMs);
    this.#leave(view, flow, this.#reason(view, flow), heldMs);
    this.#front.drop(flow);
  }

  fromClient(view: FrameView, flow: number): void {
    const flows = this.#flows;
    if ((view.tcpFlags & TcpFlag.SYN) !== 0) this.state.noteClientSyn(view, flow);
    if ((view.tcpFlags & TcpFlag.FIN) !== 0) flows.set(flow, FlowFlag.CLIENT_FIN);
    if ((view.tcpFlags & TcpFlag.RST) !== 0) flows.set(flow, FlowFlag.RESET);
    if ((view.tcpFlags & TcpFlag.ACK) === 0 || !flows.has(flow, FlowFlag.SEEN_PRIMARY)) return;
    const ack = (view.ack - flows.clientSeqDelta[flow]!) | 0;
    // nobody can have more than was shown
    if (((flows.endPrimary[flow]! - ack) | 0) < 0) return;
    if (flows.has(flow, FlowFlag.CLIENT_ACKED) && ((ack - flows.clientAck[flow]!) | 0) <= 0) return;
    flows.set(flow, FlowFlag.CLIENT_ACKED);
    flows.clientAck[flow] = ack;
    this.#ledger.record.trim(flow, ack);
    if (!flows.has(flow, FlowFlag.BASED) || ((ack - flows.released[flow]!) | 0) <= 0) return;
    flows.released[flow] = ack;
    this.#trimSecondary(flow);
  }

  /** Releases what may leave now, oldest first, and says what the next one waits for. */
  settle(flow: number, nowMs: number): Waiting {
    const { store } = this.#ledger;
    const flows = this.#flows;
    for (;;) {
      if (this.#isStuck(flow)) return Waiting.COMMIT;
      const frame = flows.primaryFirst[flow]!;
      if (frame === NONE) return Waiting.NOTHING;
      const { seq, payloadBytes, tcpFlags } = store;
      if (this.#match.awaitsData(flow, seq[frame]!, payloadBytes[frame]!, tcpFlags[frame]!))
        return Waiting.CONTENT;
      const way = this.#short.held(frame, flow, nowMs);
      if (way === ShortWay.WAITS) return Waiting.CONTENT;
      if (way === ShortWay.LEFT) {
        this.#dropShown(flow);
        continue;
      }
      const view = this.#ledger.open(frame);
      const heldMs = nowMs - store.atMs(frame);
      const waiting = this.#judge(view, flow, heldMs, nowMs);
      if (waiting !== Waiting.NOTHING) return waiting;
      this.#ledger.lag.sample(heldMs);
      this.#leave(view, flow, this.#reason(view, flow), heldMs);
      this.#ledger.dropFirst(frame, flow);
    }
  }

  /** Nothing of the flow leaves before a commit. */
  #isStuck(flow: number): boolean {
    return this.#ledger.buffersOnly || this.#flows.has(flow, FlowFlag.BLOCKED);
  }

  /** A held frame leaves unjudged: a loaded checkpoint covers it, or the secondary is gone. The caller forgets it. */
  release(view: FrameView, flow: number, reason: ReleaseReason, heldMs: number): void {
    this.#begin(view, flow);
    this.#leave(view, flow, reason, heldMs);
  }

  /** An acknowledgement that was shown lowered is shown in full: both VMs are one now, or one is left. */
  releaseOwed(flow: number): void {
    this.#owed.releaseNow(flow);
  }

  /** Does the kept frame carry anything that no client has seen? */
  isUnseen(frame: number): boolean {
    const { store } = this.#ledger;
    const flows = this.#flows;
    const flow = store.flow[frame]!;
    if (!flows.has(flow, FlowFlag.BASED) || (store.tcpFlags[frame]! & TcpFlag.RST) !== 0) return true;
    return ((keptEnd(this.#ledger, frame) + flows.seqDelta[flow]! - flows.released[flow]!) | 0) > 0;
  }

  /** Does the kept pure acknowledgement tell the client anything of a connection it knows? */
  isUnseenAck(frame: number): boolean {
    const flows = this.#flows;
    const flow = this.#ledger.store.flow[frame]!;
    if (!flows.has(flow, FlowFlag.ACK_SHOWN)) return false;
    return ((this.#ledger.store.ack[frame]! - flows.ackShown[flow]!) | 0) > 0;
  }

  #judge(view: FrameView, flow: number, heldMs: number, nowMs: number): Waiting {
    this.#begin(view, flow);
    const match = this.#match.check(view, flow, nowMs);
    if (match === Match.CONTRADICTED) return Waiting.COMMIT;
    if (match === Match.WAIT) return Waiting.CONTENT;
    const sackPatient = heldMs < this.#ledger.limits.reorderMsMax;
    const gate = this.#gate.measure(view, flow, sackPatient);
    if (gate === Gate.WAIT) return Waiting.ACKNOWLEDGEMENT;
    // a newer segment of the primary settles what was owed, or owes anew
    this.#ledger.dropSolitary(this.#flows.owedFrame, flow);
    if (gate === Gate.LOWER) {
      if (this.#gate.holdsBack(view)) this.#owed.owe(view, flow, nowMs);
      this.#gate.lower(view);
    }
    return Waiting.NOTHING;
  }

  /** The primary's frame has come to its turn: it may begin a connection, or be the first that is seen of one. */
  #begin(view: FrameView, flow: number): void {
    if (this.state.beginsPrimary(view, flow)) this.state.beginPrimary(view, flow);
    const flows = this.#flows;
    if (flows.has(flow, FlowFlag.BASED)) return;
    flows.set(flow, FlowFlag.BASED);
    flows.released[flow] = view.seq;
    flows.baseSeq[flow] = view.seq;
  }

  #reason(view: FrameView, flow: number): ReleaseReason {
    if ((view.tcpFlags & TcpFlag.RST) !== 0) return 'matched';
    if (view.seqLength() === 0) return 'nothing-new';
    const fresh = (view.seq + view.seqLength() - this.#flows.released[flow]!) | 0;
    return fresh > 0 ? 'matched' : 'retransmission';
  }

  #leave(view: FrameView, flow: number, reason: ReleaseReason, heldMs: number): void {
    if ((view.tcpFlags & TcpFlag.RST) !== 0) {
      const partner = this.#match.resetOfSecondary(view, flow);
      if (partner !== NONE) this.#ledger.dropSecondary(partner, flow);
    }
    this.#recordBytes(view, flow);
    this.state.notePrimary(view, flow);
    this.state.noteShown(view, flow);
    this.#ledger.release(view, flow, reason, heldMs);
    if (view.seqLength() > 0) this.#markReleased(view, flow);
    this.#dropShownAck(flow);
  }

  /** Payload that is shown for the first time goes on record. */
  #recordBytes(view: FrameView, flow: number): void {
    if (view.payloadBytes === 0) return;
    const flows = this.#flows;
    const dataSeq = (view.seq + ((view.tcpFlags >> 1) & 1)) | 0;
    let skip = (flows.released[flow]! - dataSeq) | 0;
    if (flows.has(flow, FlowFlag.LOOSE) && ((dataSeq - flows.looseFrom[flow]!) | 0) >= 0) {
      skip = Math.max(skip, (flows.looseTo[flow]! - dataSeq) | 0);
    }
    if (skip < 0) skip = 0;
    if (skip >= view.payloadBytes) return;
    this.#ledger.record.append(
      flow,
      dataSeq + skip,
      view.bytes,
      view.payload + skip,
      view.payloadBytes - skip,
    );
  }

  #markReleased(view: FrameView, flow: number): void {
    const flows = this.#flows;
    const from = view.seq | 0;
    const to = (from + view.seqLength()) | 0;
    if (((from - flows.released[flow]!) | 0) > 0) {
      // beyond a hole; of several such ranges one is remembered, the client's acknowledgements heal the rest
      const touches =
        flows.has(flow, FlowFlag.LOOSE) &&
        ((from - flows.looseTo[flow]!) | 0) <= 0 &&
        ((to - flows.looseFrom[flow]!) | 0) >= 0;
      if (!touches || ((from - flows.looseFrom[flow]!) | 0) < 0) flows.looseFrom[flow] = from;
      if (!touches || ((to - flows.looseTo[flow]!) | 0) > 0) flows.looseTo[flow] = to;
      flows.set(flow, FlowFlag.LOOSE);
      this.#trimLoose(flow);
      return;
    }
    if (((to - flows.released[flow]!) | 0) > 0) flows.released[flow] = to;
    if (flows.has(flow, FlowFlag.LOOSE) && ((flows.looseFrom[flow]! - flows.released[flow]!) | 0) <= 0) {
      if (((flows.looseTo[flow]! - flows.released[flow]!) | 0) > 0)
        flows.released[flow] = flows.looseTo[flow]!;
      flows.clear(flow, FlowFlag.LOOSE);
    }
    this.#trimSecondary(flow);
  }

  /** What the client has been shown need not be kept. A RST stays until its like has come. */
  #trimSecondary(flow: number): void {
    const { store } = this.#ledger;
    const flows = this.#flows;
    // positions of the two sides cannot be held against each other before both SYNs are known
    if (!this.#comparable(flow)) return;
    let frame = flows.secondaryFirst[flow]!;
    while (frame !== NONE) {
      const next = store.next[frame]!;
      if ((store.tcpFlags[frame]! & TcpFlag.RST) === 0) {
        const left = (keptEnd(this.#ledger, frame) + flows.seqDelta[flow]! - flows.released[flow]!) | 0;
        if (left > 0) return;
        this.#ledger.dropSecondary(frame, flow);
      }
      frame = next;
    }
  }

  /** Beyond a hole, what lies whole in the range that was shown has served; kept, it would seem one-sided. */
  #trimLoose(flow: number): void {
    const { store } = this.#ledger;
    const flows = this.#flows;
    if (!this.#comparable(flow)) return;
    const delta = flows.seqDelta[flow]!;
    let frame = flows.secondaryFirst[flow]!;
    while (frame !== NONE) {
      const next = store.next[frame]!;
      const from = (store.seq[frame]! + delta) | 0;
      if (((from - flows.looseTo[flow]!) | 0) >= 0) return;
      const isWithin =
        ((from - flows.looseFrom[flow]!) | 0) >= 0 &&
        ((flows.looseTo[flow]! - keptEnd(this.#ledger, frame) - delta) | 0) >= 0;
      if (isWithin && (store.tcpFlags[frame]! & TcpFlag.RST) === 0) this.#ledger.dropSecondary(frame, flow);
      frame = next;
    }
  }

  #comparable(flow: number): boolean {
    const flags = this.#flows.flags[flow]!;
    if ((flags & FlowFlag.BASED) === 0) return false;
    return (flags & FlowFlag.PAIRED) !== 0 || (flags & (FlowFlag.SYN_PRIMARY | FlowFlag.SYN_SECONDARY)) === 0;
  }

  #keep(view: FrameView, flow: number, nowMs: number): void {
    const { store } = this.#ledger;
    const flows = this.#flows;
    if ((view.tcpFlags & TcpFlag.RST) === 0 && this.#comparable(flow)) {
      const from = (view.seq + flows.seqDelta[flow]!) | 0;
      const to = (from + view.seqLength()) | 0;
      const awaited = flows.has(flow, FlowFlag.HEAD_BEGUN) && ((to - flows.headCursor[flow]!) | 0) > 0;
      const loose =
        flows.has(flow, FlowFlag.LOOSE) &&
        ((from - flows.looseFrom[flow]!) | 0) >= 0 &&
        ((flows.looseTo[flow]! - to) | 0) >= 0;
      if (!awaited && (loose || ((to - flows.released[flow]!) | 0) <= 0)) {
        this.#ledger.duplicates += 1;
        return;
      }
    }
    let behind = flows.secondaryLast[flow]!;
    for (let step = 0; behind !== NONE && ((store.seq[behind]! - view.seq) | 0) > 0; step += 1) {
      if (step === REORDER_FRAMES_MAX) {
        this.#ledger.unstorable[Side.SECONDARY] = this.#ledger.unstorable[Side.SECONDARY]! + 1;
        this.#ledger.diverge('limit', view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
        return;
      }
      behind = store.previous[behind]!;
    }
    if (behind !== NONE && this.#repeats(view, behind)) {
      this.#ledger.duplicates += 1;
      return;
    }
    const frame = this.#ledger.keep(view, Side.SECONDARY, flow, nowMs);
    if (frame === NONE) return;
    const ahead = behind === NONE ? flows.secondaryFirst[flow]! : store.next[behind]!;
    store.previous[frame] = behind;
    store.next[frame] = ahead;
    if (behind === NONE) flows.secondaryFirst[flow] = frame;
    else store.next[behind] = frame;
    if (ahead === NONE) flows.secondaryLast[flow] = frame;
    else store.previous[ahead] = frame;
  }

  #repeats(view: FrameView, frame: number): boolean {
    const { store } = this.#ledger;
    const kinds = TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST;
    return (
      store.seq[frame] === (view.seq | 0) &&
      store.payloadBytes[frame] === view.payloadBytes &&
      (store.tcpFlags[frame]! & kinds) === (view.tcpFlags & kinds) &&
      (view.tcpFlags & TcpFlag.RST) === 0
    );
  }

  /** The newest acknowledgement that the client was not shown: after the primary's death it saves a client's timer. */
  #keepAck(view: FrameView, flow: number, nowMs: number): void {
    const flows = this.#flows;
    if ((view.tcpFlags & TcpFlag.ACK) === 0) return;
    if (flows.has(flow, FlowFlag.ACK_SHOWN) && ((view.ack - flows.ackShown[flow]!) | 0) <= 0) return;
    this.#ledger.dropSolitary(flows.ackFrameSecondary, flow);
    flows.ackFrameSecondary[flow] = this.#ledger.store.addSolitary(view, Side.SECONDARY, flow, nowMs);
  }

  /** A segment has left by the short way. */
  #dropShown(flow: number): void {
    this.#trimSecondary(flow);
    this.#dropShownAck(flow);
  }

  #dropShownAck(flow: number): void {
    const flows = this.#flows;
    const frame = flows.ackFrameSecondary[flow]!;
    if (frame === NONE || !flows.has(flow, FlowFlag.ACK_SHOWN)) return;
    if (((this.#ledger.store.ack[frame]! - flows.ackShown[flow]!) | 0) > 0) return;
    this.#ledger.dropSolitary(flows.ackFrameSecondary, flow);
  }
}
