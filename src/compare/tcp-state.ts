/**
 * What a TCP segment tells about its connection: initial sequence numbers and their difference, acknowledgements,
 * windows, ends. And what of it changes when one connection follows another on the same ports, and with an epoch.
 */
import { FlowFlag, type FlowState, SACK_BLOCKS_KEPT, SCALE_UNKNOWN } from '../flow/flow-state.js';
import { readS32, readU16, readU32 } from '../wire/bytes.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { NONE } from './hold-store.js';
import type { Ledger } from './ledger.js';

/** Flags that tell of the primary's connection, and of the secondary's. */
const PRIMARY_FLAGS =
  FlowFlag.SYN_PRIMARY |
  FlowFlag.SEEN_PRIMARY |
  FlowFlag.ACKED_PRIMARY |
  FlowFlag.FIN_PRIMARY |
  FlowFlag.TIMESTAMP_SYN_PRIMARY;
const SECONDARY_FLAGS =
  FlowFlag.SYN_SECONDARY |
  FlowFlag.SEEN_SECONDARY |
  FlowFlag.ACKED_SECONDARY |
  FlowFlag.FIN_SECONDARY |
  FlowFlag.SACK_SECONDARY |
  FlowFlag.TIMESTAMP_SYN_SECONDARY |
  FlowFlag.URGENT_SECONDARY;
/** Flags that tell what the client was shown and has answered. */
const CLIENT_FLAGS =
  FlowFlag.ACK_SHOWN |
  FlowFlag.TIMESTAMP_SHOWN |
  FlowFlag.CLIENT_ACKED |
  FlowFlag.CLIENT_FIN |
  FlowFlag.BASED |
  FlowFlag.LOOSE |
  FlowFlag.RESET |
  FlowFlag.CLIENT_TRANSLATED;

export class TcpState {
  readonly #ledger: Ledger;
  readonly #state: FlowState;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#state = ledger.state;
  }

  /** A SYN of the primary whose initial sequence number is new begins another connection. */
  beginsPrimary(view: FrameView, flow: number): boolean {
    if ((view.tcpFlags & TcpFlag.SYN) === 0) return false;
    return !this.#state.has(flow, FlowFlag.SYN_PRIMARY) || this.#state.isnPrimary[flow] !== (view.seq | 0);
  }

  beginPrimary(view: FrameView, flow: number): void {
    const state = this.#state;
    // the secondary's SYN may be the new connection's already; one that was paired is the old one's
    const secondaryIsNew = state.has(flow, FlowFlag.SYN_SECONDARY) && !state.has(flow, FlowFlag.PAIRED);
    if (!secondaryIsNew) this.forgetSecondary(flow);
    this.#ledger.record.forget(flow);
    this.#ledger.dropSolitary(state.owedFrame, flow);
    state.clear(flow, PRIMARY_FLAGS | CLIENT_FLAGS | FlowFlag.PAIRED);
    state.seqDelta[flow] = 0;
    state.tsDelta[flow] = 0;
    state.clientSeqDelta[flow] = 0;
    state.clientTsDelta[flow] = 0;
    state.isnPrimary[flow] = view.seq;
    state.endPrimary[flow] = view.seq;
    state.released[flow] = view.seq;
    state.baseSeq[flow] = view.seq + 1;
    state.setScalePrimary(flow, this.#scaleOf(view, flow));
    state.set(flow, FlowFlag.SYN_PRIMARY | FlowFlag.BASED | FlowFlag.SEEN_PRIMARY);
    if (view.timestamp !== 0) {
      state.set(flow, FlowFlag.TIMESTAMP_SYN_PRIMARY);
      state.tsSynPrimary[flow] = readU32(view.bytes, view.timestamp);
    }
  }

  /** Both SYNs are known: the translation between the two sequence spaces follows (T5, T10). */
  pair(flow: number): void {
    const state = this.#state;
    state.seqDelta[flow] = state.isnPrimary[flow]! - state.isnSecondary[flow]!;
    const both = FlowFlag.TIMESTAMP_SYN_PRIMARY | FlowFlag.TIMESTAMP_SYN_SECONDARY;
    const stamped = (state.flags[flow]! & both) === both;
    state.tsDelta[flow] = stamped ? state.tsSynPrimary[flow]! - state.tsSynSecondary[flow]! : 0;
    state.set(flow, FlowFlag.PAIRED);
  }

  /**
   * A frame of the primary is about to be shown to the client. In the primary's order, so that a frame held behind
   * others does not count before its turn.
   */
  notePrimary(view: FrameView, flow: number): void {
    const state = this.#state;
    if (this.beginsPrimary(view, flow)) this.beginPrimary(view, flow);
    const end = (view.seq + view.seqLength()) | 0;
    if (!state.has(flow, FlowFlag.SEEN_PRIMARY)) {
      state.endPrimary[flow] = end;
      state.set(flow, FlowFlag.SEEN_PRIMARY);
    } else if (((end - state.endPrimary[flow]!) | 0) > 0 && (view.tcpFlags & TcpFlag.RST) === 0) {
      state.endPrimary[flow] = end;
    }
    if (!state.has(flow, FlowFlag.BASED)) {
      state.set(flow, FlowFlag.BASED);
      state.released[flow] = view.seq;
      state.baseSeq[flow] = view.seq;
    }
    if ((view.tcpFlags & TcpFlag.FIN) !== 0) {
      state.finPrimary[flow] = end - 1;
      state.set(flow, FlowFlag.FIN_PRIMARY);
    }
    if (view.signed) state.set(flow, FlowFlag.SIGNED);
    if ((view.tcpFlags & TcpFlag.RST) !== 0) state.set(flow, FlowFlag.RESET);
    else if ((view.tcpFlags & TcpFlag.ACK) !== 0) {
      this.noteAckPrimary(flow, view.ack | 0, view.window, rightEdge(view, state.scalePrimary(flow)));
    }
  }

  noteAckPrimary(flow: number, ack: number, window: number, edge: number): void {
    const state = this.#state;
    if (!state.has(flow, FlowFlag.ACKED_PRIMARY)) {
      state.set(flow, FlowFlag.ACKED_PRIMARY);
      state.ackPrimary[flow] = ack;
      state.edgePrimary[flow] = edge;
      state.windowPrimary[flow] = window;
      return;
    }
    if (((ack - state.ackPrimary[flow]!) | 0) < 0) return;
    state.ackPrimary[flow] = ack;
    state.windowPrimary[flow] = window;
    if (((edge - state.edgePrimary[flow]!) | 0) > 0) state.edgePrimary[flow] = edge;
  }

  /** The frame, as it is now, leaves to the client: what it shows cannot be taken back. */
  noteShown(view: FrameView, flow: number): void {
    if (view.timestamp !== 0) this.noteStampShown(flow, readS32(view.bytes, view.timestamp));
    if ((view.tcpFlags & (TcpFlag.ACK | TcpFlag.RST)) !== TcpFlag.ACK) return;
    this.noteAckShown(flow, view.ack | 0, rightEdge(view, this.#state.scalePrimary(flow)));
  }

  /** @param value TSval as the primary sent it. */
  noteStampShown(flow: number, value: number): void {
    const state = this.#state;
    const stamp = (value + state.clientTsDelta[flow]!) | 0;
    if (state.has(flow, FlowFlag.TIMESTAMP_SHOWN) && ((stamp - state.tsShown[flow]!) | 0) <= 0) return;
    state.tsShown[flow] = stamp;
    state.set(flow, FlowFlag.TIMESTAMP_SHOWN);
  }

  noteAckShown(flow: number, ack: number, edge: number): void {
    const state = this.#state;
    if (!state.has(flow, FlowFlag.ACK_SHOWN)) {
      state.set(flow, FlowFlag.ACK_SHOWN);
      state.ackShown[flow] = ack;
      state.edgeShown[flow] = edge;
      return;
    }
    if (((ack - state.ackShown[flow]!) | 0) > 0) state.ackShown[flow] = ack;
    if (((edge - state.edgeShown[flow]!) | 0) > 0) state.edgeShown[flow] = edge;
  }

  /** A SYN of the secondary with a new initial sequence number. False: the old connection is not over (T5). */
  beginSecondary(view: FrameView, flow: number): boolean {
    const state = this.#state;
    if (state.has(flow, FlowFlag.SYN_SECONDARY) && state.isnSecondary[flow] === (view.seq | 0)) return true;
    if (state.has(flow, FlowFlag.PAIRED)) {
      if (state.primaryFirst[flow] !== NONE) return false;
      // the primary's next SYN is another connection's, even if it should carry the old number
      state.clear(flow, FlowFlag.SYN_PRIMARY | FlowFlag.PAIRED);
    }
    this.forgetSecondary(flow);
    state.isnSecondary[flow] = view.seq;
    state.endSecondary[flow] = view.seq;
    state.setMssSecondary(flow, view.mss);
    state.setScaleSecondary(flow, this.#scaleOf(view, flow));
    state.set(flow, FlowFlag.SYN_SECONDARY | FlowFlag.SEEN_SECONDARY);
    if (view.sackPermitted) state.set(flow, FlowFlag.SACK_SECONDARY);
    if (view.timestamp !== 0) {
      state.set(flow, FlowFlag.TIMESTAMP_SYN_SECONDARY);
      state.tsSynSecondary[flow] = readU32(view.bytes, view.timestamp);
    }
    return true;
  }

  noteSecondary(view: FrameView, flow: number): void {
    const state = this.#state;
    const end = (view.seq + view.seqLength()) | 0;
    if (!state.has(flow, FlowFlag.SEEN_SECONDARY) || ((end - state.endSecondary[flow]!) | 0) > 0) {
      if ((view.tcpFlags & TcpFlag.RST) === 0) {
        state.endSecondary[flow] = end;
        state.set(flow, FlowFlag.SEEN_SECONDARY);
      }
    }
    if ((view.tcpFlags & TcpFlag.FIN) !== 0) {
      state.finSecondary[flow] = end - 1;
      state.set(flow, FlowFlag.FIN_SECONDARY);
    }
    if (view.signed) state.set(flow, FlowFlag.SIGNED);
    if ((view.tcpFlags & TcpFlag.URG) !== 0) this.#noteUrgentSecondary(view, flow);
    if ((view.tcpFlags & TcpFlag.ACK) !== 0) this.#noteAckSecondary(view, flow);
  }

  #noteUrgentSecondary(view: FrameView, flow: number): void {
    const state = this.#state;
    const position = urgentPosition(view);
    const isFurther =
      !state.has(flow, FlowFlag.URGENT_SECONDARY) || ((position - state.urgentSecondary[flow]!) | 0) > 0;
    if (isFurther) state.urgentSecondary[flow] = position;
    state.set(flow, FlowFlag.URGENT_SECONDARY);
  }

  #noteAckSecondary(view: FrameView, flow: number): void {
    const state = this.#state;
    const edge = rightEdge(view, state.scaleSecondary(flow));
    if (!state.has(flow, FlowFlag.ACKED_SECONDARY)) {
      state.set(flow, FlowFlag.ACKED_SECONDARY);
      state.ackSecondary[flow] = view.ack;
      state.edgeSecondary[flow] = edge;
      state.windowSecondary[flow] = view.window;
    } else {
      const progress = (view.ack - state.ackSecondary[flow]!) | 0;
      if (progress < 0) return;
      state.ackSecondary[flow] = view.ack;
      state.windowSecondary[flow] = view.window;
      if (((edge - state.edgeSecondary[flow]!) | 0) > 0) state.edgeSecondary[flow] = edge;
    }
    if (view.sackBlocks === 0) return;
    for (let block = 0; block < SACK_BLOCKS_KEPT; block += 1) {
      const at = view.sack + block * 8;
      const present = block < view.sackBlocks;
      state.sackSecondary[flow + block * 2] = present ? readU32(view.bytes, at) : 0;
      state.sackSecondary[flow + block * 2 + 1] = present ? readU32(view.bytes, at + 4) : 0;
    }
  }

  /** Everything known and kept of the secondary's connection goes. */
  forgetSecondary(flow: number): void {
    const state = this.#state;
    this.dropSecondaryFrames(flow);
    state.clear(flow, SECONDARY_FLAGS);
    state.sackSecondary.fill(0, flow, flow + SACK_BLOCKS_KEPT * 2);
    state.setScaleSecondary(flow, SCALE_UNKNOWN);
  }

  dropSecondaryFrames(flow: number): void {
    const state = this.#state;
    while (state.secondaryFirst[flow] !== NONE) this.#ledger.dropSecondary(state.secondaryFirst[flow]!, flow);
    this.#ledger.dropSolitary(state.ackFrameSecondary, flow);
  }

  /** The client's SYN or SYN-ACK: without the option neither VM's windows are scaled (RFC 7323 2.2). */
  noteClientSyn(view: FrameView, flow: number): void {
    const state = this.#state;
    state.set(flow, FlowFlag.CLIENT_SYN);
    if (view.windowScale >= 0) {
      state.set(flow, FlowFlag.CLIENT_SCALES);
      return;
    }
    state.clear(flow, FlowFlag.CLIENT_SCALES);
    if ((view.tcpFlags & TcpFlag.ACK) === 0) return;
    if (state.has(flow, FlowFlag.SYN_PRIMARY)) state.setScalePrimary(flow, 0);
    if (state.has(flow, FlowFlag.SYN_SECONDARY)) state.setScaleSecondary(flow, 0);
  }

  #scaleOf(view: FrameView, flow: number): number {
    if (view.windowScale < 0) return 0;
    // in a SYN-ACK the client has spoken already; in a SYN its answer is still to come
    const answers = (view.tcpFlags & TcpFlag.ACK) !== 0 && this.#state.has(flow, FlowFlag.CLIENT_SYN);
    return answers && !this.#state.has(flow, FlowFlag.CLIENT_SCALES) ? 0 : view.windowScale;
  }

  /**
   * LOADED: the secondary is the primary, in everything. All held frames have been released. What the client was shown
   * stays as it is, holes included.
   */
  commit(flow: number): void {
    const state = this.#state;
    let flags =
      state.flags[flow]! &
      ~(SECONDARY_FLAGS | FlowFlag.PAIRED | FlowFlag.BLOCKED | FlowFlag.REPORTED | FlowFlag.HEAD_BEGUN);
    if ((flags & FlowFlag.SYN_PRIMARY) !== 0) flags |= FlowFlag.SYN_SECONDARY | FlowFlag.PAIRED;
    if ((flags & FlowFlag.SEEN_PRIMARY) !== 0) flags |= FlowFlag.SEEN_SECONDARY;
    if ((flags & FlowFlag.ACKED_PRIMARY) !== 0) flags |= FlowFlag.ACKED_SECONDARY;
    if ((flags & FlowFlag.FIN_PRIMARY) !== 0) flags |= FlowFlag.FIN_SECONDARY;
    if ((flags & FlowFlag.TIMESTAMP_SYN_PRIMARY) !== 0) flags |= FlowFlag.TIMESTAMP_SYN_SECONDARY;
    state.flags[flow] = flags;
    state.seqDelta[flow] = 0;
    state.tsDelta[flow] = 0;
    state.isnSecondary[flow] = state.isnPrimary[flow]!;
    state.tsSynSecondary[flow] = state.tsSynPrimary[flow]!;
    state.endSecondary[flow] = state.endPrimary[flow]!;
    state.finSecondary[flow] = state.finPrimary[flow]!;
    state.ackSecondary[flow] = state.ackPrimary[flow]!;
    state.edgeSecondary[flow] = state.edgePrimary[flow]!;
    state.windowSecondary[flow] = state.windowPrimary[flow]!;
    state.setScaleSecondary(flow, state.scalePrimary(flow));
    state.sackSecondary.fill(0, flow, flow + SACK_BLOCKS_KEPT * 2);
  }

  /**
   * The secondary is today's primary. The client goes on in the old one's space: client := client after pair, pair :=
   * identity, and every position is told in the new primary's space.
   */
  adoptSecondary(flow: number): void {
    const state = this.#state;
    const shift = state.seqDelta[flow]!;
    this.#ledger.record.forget(flow);
    this.#ledger.dropSolitary(state.owedFrame, flow);
    const known = state.has(flow, FlowFlag.SEEN_PRIMARY);
    state.clientSeqDelta[flow] = known ? state.clientSeqDelta[flow]! + shift : 0;
    state.clientTsDelta[flow] = known ? state.clientTsDelta[flow]! + state.tsDelta[flow]! : 0;
    state.seqDelta[flow] = 0;
    state.tsDelta[flow] = 0;
    for (const column of [
      state.released,
      state.clientAck,
      state.baseSeq,
      state.isnPrimary,
      state.endPrimary,
      state.finPrimary,
    ]) {
      column[flow] = column[flow]! - shift;
    }
    let flags = state.flags[flow]!;
    if ((flags & FlowFlag.SYN_SECONDARY) !== 0) state.isnPrimary[flow] = state.isnSecondary[flow]!;
    if ((flags & FlowFlag.TIMESTAMP_SYN_SECONDARY) !== 0) {
      state.tsSynPrimary[flow] = state.tsSynSecondary[flow]!;
    }
    if ((flags & FlowFlag.SEEN_SECONDARY) !== 0) state.endPrimary[flow] = state.endSecondary[flow]!;
    if ((flags & FlowFlag.FIN_SECONDARY) !== 0) state.finPrimary[flow] = state.finSecondary[flow]!;
    if ((flags & FlowFlag.ACKED_SECONDARY) !== 0) {
      state.ackPrimary[flow] = state.ackSecondary[flow]!;
      state.edgePrimary[flow] = state.edgeSecondary[flow]!;
      state.windowPrimary[flow] = state.windowSecondary[flow]!;
    }
    if (state.scaleSecondary(flow) !== SCALE_UNKNOWN) state.setScalePrimary(flow, state.scaleSecondary(flow));
    if ((flags & FlowFlag.SEEN_SECONDARY) !== 0) flags = (flags & ~PRIMARY_FLAGS) | primaryOf(flags);
    flags &= ~(
      SECONDARY_FLAGS |
      FlowFlag.PAIRED |
      FlowFlag.BLOCKED |
      FlowFlag.REPORTED |
      FlowFlag.HEAD_BEGUN |
      FlowFlag.LOOSE
    );
    if (known) flags |= FlowFlag.CLIENT_TRANSLATED;
    state.flags[flow] = flags;
    state.setScaleSecondary(flow, SCALE_UNKNOWN);
  }

  /** Everything today's primary has sent has been shown to the client: no later retransmission is its first showing. */
  showAll(flow: number): void {
    const state = this.#state;
    if (!state.has(flow, FlowFlag.BASED)) return;
    if (((state.endPrimary[flow]! - state.released[flow]!) | 0) > 0)
      state.released[flow] = state.endPrimary[flow]!;
    if (!state.has(flow, FlowFlag.ACK_SHOWN) || !state.has(flow, FlowFlag.ACKED_PRIMARY)) return;
    if (((state.ackPrimary[flow]! - state.ackShown[flow]!) | 0) > 0)
      state.ackShown[flow] = state.ackPrimary[flow]!;
    if (((state.edgePrimary[flow]! - state.edgeShown[flow]!) | 0) > 0)
      state.edgeShown[flow] = state.edgePrimary[flow]!;
  }
}

/** The primary's flags, as the secondary's were. */
function primaryOf(flags: number): number {
  let primary = 0;
  if ((flags & FlowFlag.SYN_SECONDARY) !== 0) primary |= FlowFlag.SYN_PRIMARY;
  if ((flags & FlowFlag.SEEN_SECONDARY) !== 0) primary |= FlowFlag.SEEN_PRIMARY;
  if ((flags & FlowFlag.ACKED_SECONDARY) !== 0) primary |= FlowFlag.ACKED_PRIMARY;
  if ((flags & FlowFlag.FIN_SECONDARY) !== 0) primary |= FlowFlag.FIN_PRIMARY;
  if ((flags & FlowFlag.TIMESTAMP_SYN_SECONDARY) !== 0) primary |= FlowFlag.TIMESTAMP_SYN_PRIMARY;
  return primary;
}

/** Where urgent data ends, in the sender's sequence space; of a segment with URG. */
export function urgentPosition(view: FrameView): number {
  return (view.seq + readU16(view.bytes, view.l4 + 18)) | 0;
}

/** Right edge of the window a segment offers. The window of a SYN is never scaled (RFC 7323 2.2). */
export function rightEdge(view: FrameView, scale: number): number {
  return (view.ack + windowBytes(view, scale)) | 0;
}

/** The same of a segment without SYN. */
export function edgeOf(ack: number, window: number, scale: number): number {
  return (ack + (scale === SCALE_UNKNOWN ? window : window << scale)) | 0;
}

/** The window in bytes; as sent while the scale is unknown. */
export function windowBytes(view: FrameView, scale: number): number {
  const unscaled = (view.tcpFlags & TcpFlag.SYN) !== 0 || scale === SCALE_UNKNOWN;
  return unscaled ? view.window : view.window << scale;
}

/** One past the last position a kept frame of the secondary carries, raw. */
export function keptEnd(ledger: Ledger, frame: number): number {
  const { store } = ledger;
  const flags = store.tcpFlags[frame]!;
  return (store.seq[frame]! + store.payloadBytes[frame]! + (flags & 1) + ((flags >> 1) & 1)) | 0;
}
