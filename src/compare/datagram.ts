/**
 * Comparing datagrams: UDP, ICMP, ICMPv6, every other IP protocol, and fragments. Within a flow they match as a
 * multiset, whatever their order on the secondary's side, and leave in the primary's order (T15). Headers that each VM
 * fills in on its own (IP id, TTL, TOS, flow label, checksums) are not compared (T16, T18). Fragments are put together
 * first (reassembly.ts), and their pieces leave together, in their place among the flow's other pieces.
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { fragmentId, fragmentOffset, hasMoreFragments } from '../wire/fragment.js';
import { differenceOf, type FrameBytes } from '../wire/frame-memory.js';
import { FrameKind, FrameView } from '../wire/frame-view.js';
import { parseQuoted } from '../wire/quoted.js';
import { GsoType, vnetGsoBytes, vnetGsoType } from '../wire/vnet-header.js';
import { FrameMark, NONE } from './hold-store.js';
import { excerpt, firstDifference, type Ledger } from './ledger.js';
import { type Datagram, Reassembly } from './reassembly.js';
import { Verdict } from './verdict.js';

/** Datagrams of the other side looked at for one that is the same. */
const SEARCH_FRAMES_MAX = 256;
/** Of a quoted TCP header, ports and sequence number are the client's own; the rest is translated for the secondary. */
const QUOTED_TCP_BYTES = 8;

export class DatagramComparator {
  readonly #ledger: Ledger;
  readonly #flows: FlowState;
  readonly #quoted = new FrameView();
  /** What is compared of the frame looked at last: bytes [#from, #to) and a word told apart by kind. */
  #from = 0;
  #to = 0;
  #tag = 0;
  readonly #reassembly: Reassembly;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#flows = ledger.state;
    this.#reassembly = new Reassembly(ledger.store);
  }

  primary(view: FrameView, flow: number, nowMs: number): Verdict {
    const { store, lag } = this.#ledger;
    this.#delimit(view);
    if (view.kind === FrameKind.FRAGMENT) return this.#primaryPiece(view, flow, nowMs);
    const partner = this.#partner(this.#flows.secondaryFirst[flow]!, flow, view.bytes);
    if (partner !== NONE && this.#flows.primaryFirst[flow] === NONE) {
      lag.sample(nowMs - store.atMs(partner));
      this.#ledger.dropSecondary(partner, flow);
      this.#ledger.release(view, flow, 'matched', 0);
      return Verdict.RELEASE;
    }
    const frame = this.#ledger.hold(view, flow, nowMs);
    if (frame === NONE) return Verdict.DIVERGED;
    this.#describe(frame, view);
    if (partner !== NONE) this.#marry(frame, partner);
    return Verdict.HOLD;
  }

  secondary(view: FrameView, flow: number, nowMs: number): void {
    this.#delimit(view);
    if (view.kind === FrameKind.FRAGMENT) {
      this.#secondaryPiece(view, flow, nowMs);
      return;
    }
    const partner = this.#partner(this.#flows.primaryFirst[flow]!, flow, view.bytes);
    const { store } = this.#ledger;
    if (partner !== NONE && partner === this.#flows.primaryFirst[flow]) {
      // its turn has come: the secondary's copy need not even be stored
      store.marks[partner] = FrameMark.MATCHED;
      store.ack[partner] = NONE;
      this.#settle(flow, nowMs);
      return;
    }
    const frame = this.#ledger.keepLast(view, flow, nowMs);
    if (frame === NONE) return;
    this.#describe(frame, view);
    if (partner !== NONE) this.#marry(partner, frame);
  }

  /** The flow's oldest datagram and one of the secondary have both been waiting, and differ. */
  checkReordered(flow: number, nowMs: number): void {
    const { store, limits } = this.#ledger;
    const frame = this.#flows.primaryFirst[flow]!;
    if (frame === NONE || (store.marks[frame]! & FrameMark.MATCHED) !== 0) return;
    const datagram = this.#reassembly.datagramOf(frame);
    if (datagram !== null) {
      this.#checkWhole(frame, datagram, flow, nowMs);
      return;
    }
    let other = this.#flows.secondaryFirst[flow]!;
    for (let step = 0; other !== NONE && step < SEARCH_FRAMES_MAX; step += 1, other = store.next[other]!) {
      if ((store.marks[other]! & FrameMark.MATCHED) === 0) break;
    }
    if (other === NONE || nowMs - store.atMs(other) < limits.reorderMsMax) return;
    const a = store.buffer(frame);
    const b = store.buffer(other);
    const aAt = store.payloadAt(frame);
    const bAt = store.payloadAt(other);
    const length = Math.min(store.payloadBytes[frame]!, store.payloadBytes[other]!);
    const same = firstDifference(a, aAt, b, bAt, length);
    const reason = same === length && store.seq[frame] === store.seq[other] ? 'length' : 'payload';
    const own = excerpt(a, aAt + same, aAt + store.payloadBytes[frame]!);
    const others = excerpt(b, bAt + same, bAt + store.payloadBytes[other]!);
    this.#ledger.diverge(reason, this.#ledger.open(frame), flow, same, own, others, nowMs);
  }

  #primaryPiece(view: FrameView, flow: number, nowMs: number): Verdict {
    const frame = this.#ledger.hold(view, flow, nowMs);
    if (frame === NONE) return Verdict.DIVERGED;
    this.#takePiece(frame, view, flow);
    this.#settle(flow, nowMs);
    return this.#flows.primaryFirst[flow] === NONE ? Verdict.RELEASE : Verdict.HOLD;
  }

  #secondaryPiece(view: FrameView, flow: number, nowMs: number): void {
    const frame = this.#ledger.keepLast(view, flow, nowMs);
    if (frame === NONE) return;
    this.#takePiece(frame, view, flow);
    this.#settle(flow, nowMs);
  }

  /** Puts a stored piece to its datagram; one that is whole now is held against those of the other side. */
  #takePiece(frame: number, view: FrameView, flow: number): void {
    const { store, buffersOnly } = this.#ledger;
    store.describe(frame, view, view.payload, view.payloadBytes, 0);
    if (buffersOnly || this.#flows.has(flow, FlowFlag.BLOCKED)) return;
    const [id, offset, more] = [fragmentId(view), fragmentOffset(view), hasMoreFragments(view)];
    const datagram = this.#reassembly.add(frame, view.ipProtocol, id, offset, more);
    const like = datagram === null ? null : this.#reassembly.like(datagram);
    if (datagram === null || like === null) return;
    datagram.partner = like;
    like.partner = datagram;
    for (const both of [datagram, like]) {
      for (const piece of this.#reassembly.frames(both)) {
        store.marks[piece] = store.marks[piece]! | FrameMark.MATCHED;
        store.ack[piece] = NONE;
      }
    }
  }

  /** A piece of the primary that was matched leaves; with the last of them the secondary's are done with. */
  #leavePiece(frame: number, datagram: Datagram, flow: number): void {
    const { partner } = datagram;
    if (!this.#reassembly.release(frame, datagram) || partner === null) return;
    const kept = [...this.#reassembly.frames(partner)];
    this.#reassembly.forget(partner);
    for (const piece of kept) this.#ledger.dropSecondary(piece, flow);
  }

  #checkWhole(frame: number, datagram: Datagram, flow: number, nowMs: number): void {
    const { store, limits } = this.#ledger;
    const difference = this.#reassembly.difference(datagram);
    if (difference === null || nowMs - store.atMs(difference.frame) < limits.reorderMsMax) return;
    const { at, own, other } = difference;
    const reason = own.length === 0 || other.length === 0 ? 'length' : 'payload';
    const view = this.#ledger.open(frame);
    const [ownBytes, otherBytes] = [excerpt(own, 0, own.length), excerpt(other, 0, other.length)];
    this.#ledger.diverge(reason, view, flow, at, ownBytes, otherBytes, nowMs);
  }

  #partner(first: number, flow: number, bytes: FrameBytes): number {
    const isStuck = this.#ledger.buffersOnly || this.#flows.has(flow, FlowFlag.BLOCKED);
    return isStuck ? NONE : this.#find(first, bytes);
  }

  /** Releases the matched datagrams at the head of the flow. */
  #settle(flow: number, nowMs: number): void {
    const { store, lag } = this.#ledger;
    for (;;) {
      const frame = this.#flows.primaryFirst[flow]!;
      if (frame === NONE || (store.marks[frame]! & FrameMark.MATCHED) === 0) return;
      const partner = store.ack[frame]!;
      if (partner !== NONE) this.#ledger.dropSecondary(partner, flow);
      const heldMs = nowMs - store.atMs(frame);
      lag.sample(heldMs);
      this.#ledger.releaseHeld(frame, flow, 'matched', heldMs);
      const datagram = this.#reassembly.datagramOf(frame);
      if (datagram !== null) this.#leavePiece(frame, datagram, flow);
      this.#ledger.dropFirst(frame, flow);
    }
  }

  /** The primary's `frame` waits for its turn; its like of the secondary is kept until then. */
  #marry(frame: number, partner: number): void {
    const { store } = this.#ledger;
    store.marks[frame] = store.marks[frame]! | FrameMark.MATCHED;
    store.marks[partner] = store.marks[partner]! | FrameMark.MATCHED;
    store.ack[frame] = partner;
  }

  /** The first unmatched frame of a list that is the same as what `#delimit` marked out in `bytes`. */
  #find(first: number, bytes: FrameBytes): number {
    const { store } = this.#ledger;
    const length = this.#to - this.#from;
    let frame = first;
    for (let step = 0; frame !== NONE && step < SEARCH_FRAMES_MAX; step += 1, frame = store.next[frame]!) {
      if ((store.marks[frame]! & FrameMark.MATCHED) !== 0) continue;
      if (store.payloadBytes[frame] !== length || store.seq[frame] !== this.#tag) continue;
      const at = store.payloadAt(frame);
      if (differenceOf(bytes, this.#from, store.buffer(frame), at, length) === -1) return frame;
    }
    return NONE;
  }

  /** The held and kept frames are gone, or are the client's now. */
  clear(): void {
    this.#reassembly.clear();
  }

  #describe(frame: number, view: FrameView): void {
    this.#ledger.store.describe(frame, view, this.#from, this.#to - this.#from, this.#tag);
  }

  #delimit(view: FrameView): void {
    this.#tag = 0;
    this.#from = view.payload;
    this.#to = view.payload + view.payloadBytes;
    if (view.kind === FrameKind.UDP) this.#tag = datagramBytes(view);
    if (view.icmpType >= 0) {
      this.#tag = (view.icmpType << 8) | view.icmpCode;
      this.#from = view.l4 + 4;
      this.#to = view.l3End;
      if (parseQuoted(view, this.#quoted) && this.#quoted.kind === FrameKind.TCP) {
        this.#to = this.#quoted.l4 + QUOTED_TCP_BYTES;
      }
    }
  }
}

/** How long each datagram of a super-frame is that holds many (USO): two that differ in this are not the same. Else 0. */
function datagramBytes(view: FrameView): number {
  if (view.vnetHeaderBytes === 0) return 0;
  const header = view.start - view.vnetHeaderBytes;
  return vnetGsoType(view.bytes, header) === GsoType.UDP_L4 ? vnetGsoBytes(view.bytes, header) : 0;
}
