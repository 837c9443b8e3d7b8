/**
 * An acknowledgement (or window) of the primary that left lowered, because the secondary had not shown as much: the
 * primary has said it and may never say it again, so the client would wait for its own timer. What was held back is
 * kept as a segment without data and leaves when the secondary has caught up.
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { writeU16, writeU32 } from '../wire/bytes.js';
import { writeIpv4Checksum, writeL4Checksum } from '../wire/checksum.js';
import { FrameView, TcpFlag } from '../wire/frame-view.js';
import { IPV6_HEADER_BYTES, TcpOption } from '../wire/numbers.js';
import { parseFrame } from '../wire/parse.js';
import { NONE, Side } from './hold-store.js';
import type { Ledger } from './ledger.js';
import { Gate, type TcpGate } from './tcp-gate.js';
import type { TcpState } from './tcp-state.js';

/** Headers longer than this (IPv6 with many extension headers) are not worth it. */
const HEADERS_BYTES_MAX = 256;

export class OwedAck {
  readonly #ledger: Ledger;
  readonly #state: FlowState;
  readonly #tcpState: TcpState;
  readonly #gate: TcpGate;
  readonly #segment = Buffer.alloc(HEADERS_BYTES_MAX);
  readonly #view = new FrameView();

  constructor(ledger: Ledger, tcpState: TcpState, gate: TcpGate) {
    this.#ledger = ledger;
    this.#state = ledger.state;
    this.#tcpState = tcpState;
    this.#gate = gate;
  }

  /** `view` is about to be lowered: what it says in full is owed from now on. */
  owe(view: FrameView, flow: number, nowMs: number): void {
    const length = view.payload - view.start;
    if (length > HEADERS_BYTES_MAX || (view.tcpFlags & (TcpFlag.SYN | TcpFlag.RST)) !== 0) return;
    const segment = this.#segment;
    view.bytes.copy(segment, 0, view.start, view.payload);
    const l3 = view.l3 - view.start;
    const l4 = view.l4 - view.start;
    if (view.ipVersion === 4) {
      writeU16(segment, l3 + 2, length - l3);
      writeIpv4Checksum(segment, l3);
    } else {
      writeU16(segment, l3 + 4, length - l3 - IPV6_HEADER_BYTES);
    }
    segment[l4 + 13] = TcpFlag.ACK;
    writeU16(segment, l4 + 18, 0);
    if (view.sackBlocks > 0) {
      const option = view.sack - 2 - view.start;
      segment.fill(TcpOption.NOP, option, option + 2 + view.sackBlocks * 8);
    }
    parseFrame(segment, 0, length, 0, this.#view);
    // not held output of the primary: that has left; it counts among what is kept
    this.#state.owedFrame[flow] = this.#ledger.store.addSolitary(this.#view, Side.SECONDARY, flow, nowMs);
  }

  /** Shows as much of what is owed as the secondary has shown by now. */
  settle(flow: number): void {
    if (this.#state.owedFrame[flow] === NONE) return;
    const view = this.#open(flow);
    const gate = this.#gate.measure(view, flow, false);
    if (gate === Gate.WAIT) return;
    if (gate === Gate.PASS) {
      this.#leave(view, flow);
      this.#ledger.dropSolitary(this.#state.owedFrame, flow);
      return;
    }
    // a window that grew a little is not worth a segment
    if (((view.ack - this.#state.ackShown[flow]!) | 0) <= 0) return;
    this.#gate.lower(view);
    this.#leave(view, flow);
  }

  /** Shows it in full: both VMs are one now, or one is left. */
  releaseNow(flow: number): void {
    if (this.#state.owedFrame[flow] === NONE) return;
    this.#leave(this.#open(flow), flow);
    this.#ledger.dropSolitary(this.#state.owedFrame, flow);
  }

  #leave(view: FrameView, flow: number): void {
    if (this.#state.has(flow, FlowFlag.RESET)) return;
    this.#tcpState.noteShown(view, flow);
    this.#ledger.release(view, flow, 'nothing-new', 0);
  }

  /** The owed segment, placed behind everything that was shown. */
  #open(flow: number): FrameView {
    const { store } = this.#ledger;
    const frame = this.#state.owedFrame[flow]!;
    const start = store.start(frame);
    const length = store.length(frame);
    store.buffer(frame).copy(this.#segment, 0, start, start + length);
    const view = this.#view;
    parseFrame(this.#segment, 0, length, 0, view);
    view.seq = this.#state.endPrimary[flow]! >>> 0;
    writeU32(view.bytes, view.l4 + 4, view.seq);
    writeL4Checksum(view);
    return view;
  }
}
