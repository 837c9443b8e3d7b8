/**
 * What a segment of the primary shows of its receiving side: acknowledgement, window, SACK blocks. None may go beyond
 * what both VMs have shown (T2, T3, T4): otherwise the segment waits or is lowered in place.
 */
import { FlowFlag, type FlowState, SACK_BLOCKS_KEPT, SCALE_UNKNOWN } from '../flow/flow-state.js';
import { readU32 } from '../wire/bytes.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { setAck, setWindow, shrinkSack } from './segment-edit.js';
import { edgeOf, rightEdge, windowBytes } from './tcp-state.js';

export const Gate = {
  PASS: 0,
  /** It may leave if it shows less than the primary said: `lower` makes it so. */
  LOWER: 1,
  WAIT: 2,
} as const;
export type Gate = (typeof Gate)[keyof typeof Gate];

const WINDOW_FIELD_MAX = 0xffff;

export class TcpGate {
  readonly #state: FlowState;
  /** What the segment measured last may show. */
  #ack = 0;
  #window = 0;
  #shrinksSack = false;
  /** The flow whose SACK blocks `#covered` looks at. */
  #flow = 0;
  readonly #covered = (left: number, right: number): number => this.#coveredBytes(left, right);

  constructor(state: FlowState) {
    this.#state = state;
  }

  /**
   * @param sackPatient wait for the secondary's SACK blocks rather than blank the primary's: an acknowledgement without
   *   them does not count as a duplicate, and the client would fall back to its retransmission timer.
   */
  measure(view: FrameView, flow: number, sackPatient: boolean): Gate {
    const state = this.#state;
    if ((view.tcpFlags & TcpFlag.ACK) === 0) return Gate.PASS;
    if (!state.has(flow, FlowFlag.ACKED_SECONDARY)) return Gate.WAIT;
    const lead = (view.ack - state.ackSecondary[flow]!) | 0;
    if ((view.tcpFlags & TcpFlag.RST) !== 0) return lead > 0 ? Gate.WAIT : Gate.PASS;
    let ack = view.ack;
    if (lead > 0) {
      // lowered, a segment without data would look like a duplicate acknowledgement
      if (view.seqLength() === 0 || (view.tcpFlags & TcpFlag.SYN) !== 0) return Gate.WAIT;
      ack = state.ackSecondary[flow]! >>> 0;
      const shown = state.ackShown[flow]! >>> 0;
      if (state.has(flow, FlowFlag.ACK_SHOWN) && ((shown - ack) | 0) > 0) ack = shown;
    }
    const window = this.#windowFor(view, flow, ack);
    if (window === -1) return Gate.WAIT;
    this.#flow = flow;
    const shrinksSack = view.sackBlocks > 0 && !this.#sackCovered(view);
    if (shrinksSack && sackPatient) return Gate.WAIT;
    if (!shrinksSack && ack === view.ack && window === view.window) return Gate.PASS;
    if (view.signed) return Gate.WAIT;
    this.#ack = ack;
    this.#window = window;
    this.#shrinksSack = shrinksSack;
    return Gate.LOWER;
  }

  /** Does a segment with neither SYN nor RST nor SACK blocks show no more than the secondary has? Then `measure` says PASS. */
  passes(flow: number, ack: number, window: number): boolean {
    const state = this.#state;
    const scale = state.scalePrimary(flow);
    if (((ack - state.ackSecondary[flow]!) | 0) > 0) return false;
    if (scale === SCALE_UNKNOWN || state.scaleSecondary(flow) === SCALE_UNKNOWN) {
      return window <= state.windowSecondary[flow]!;
    }
    return ((edgeOf(ack, window, scale) - state.edgeSecondary[flow]!) | 0) <= 0;
  }

  /** Would lowering the measured segment hold back an acknowledgement or window? */
  holdsBack(view: FrameView): boolean {
    return this.#ack !== view.ack || this.#window !== view.window;
  }

  /** Rewrites the segment that `measure` looked at last. */
  lower(view: FrameView): void {
    if (this.#shrinksSack) shrinkSack(view, this.#covered);
    if (this.#window !== view.window) setWindow(view, this.#window);
    if (this.#ack !== view.ack) setAck(view, this.#ack);
  }

  /** The window field to show with `ack`, or -1 to wait. */
  #windowFor(view: FrameView, flow: number, ack: number): number {
    const state = this.#state;
    const scale = state.scalePrimary(flow);
    const isSyn = (view.tcpFlags & TcpFlag.SYN) !== 0;
    if (!isSyn && (scale === SCALE_UNKNOWN || state.scaleSecondary(flow) === SCALE_UNKNOWN)) {
      // both share the scale (a checkpoint made them one), so the fields compare as they are
      const window = Math.min(view.window, state.windowSecondary[flow]!);
      return window === 0 && view.window !== 0 ? -1 : window;
    }
    const edge = rightEdge(view, scale);
    const beyond = (edge - state.edgeSecondary[flow]!) | 0;
    if (beyond <= 0 && ack === view.ack) return view.window;
    const room = (beyond > 0 ? state.edgeSecondary[flow]! - ack : edge - ack) | 0;
    if (room < 0) return -1;
    const shift = isSyn ? 0 : scale;
    // rounded down: the edge may seem to move left by less than one unit of the scale (RFC 7323 2.4)
    const window = Math.min(WINDOW_FIELD_MAX, room >>> shift);
    // a window that the primary did not close is not closed for it
    if (window === 0 && windowBytes(view, scale) !== 0) return -1;
    return window;
  }

  #sackCovered(view: FrameView): boolean {
    for (let block = 0; block < view.sackBlocks; block += 1) {
      const left = readU32(view.bytes, view.sack + block * 8);
      const right = readU32(view.bytes, view.sack + block * 8 + 4);
      if (this.#coveredBytes(left, right) !== ((right - left) | 0)) return false;
    }
    return true;
  }

  /** How many bytes from `left` on the secondary holds too: below its ack (D-SACK, RFC 2883) or in a block of its own. */
  #coveredBytes(left: number, right: number): number {
    const state = this.#state;
    const length = (right - left) | 0;
    if (length <= 0) return 0;
    if (((state.ackSecondary[this.#flow]! - right) | 0) >= 0) return length;
    const kept = this.#flow;
    for (let block = 0; block < SACK_BLOCKS_KEPT; block += 1) {
      const from = state.sackSecondary[kept + block * 2]!;
      const to = state.sackSecondary[kept + block * 2 + 1]!;
      if (((left - from) | 0) >= 0 && ((to - left) | 0) > 0) return Math.min(length, (to - left) | 0);
    }
    return 0;
  }
}
