/**
 * The part of a held super-frame that the secondary has sent too (T18). It leaves in whole segments, without waiting for
 * the rest: where the secondary's congestion window ends inside the frame, neither VM would ever go on.
 */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import { type FrameView, TcpFlag } from '../wire/frame-view.js';
import { pieceStep, writePieceHeaders } from '../wire/segment.js';
import { NONE } from './hold-store.js';
import type { Ledger } from './ledger.js';

/** A frame with longer headers (IPv6 with many extension headers) is not cut. */
const HEADERS_BYTES_MAX = 256;

export class TcpFront {
  readonly #ledger: Ledger;
  readonly #flows: FlowState;
  readonly #headers = Buffer.alloc(HEADERS_BYTES_MAX);
  /** Of what was opened last: its payload, and the headers of the rest, the vnet header first. */
  readonly #restHeaders = Buffer.alloc(HEADERS_BYTES_MAX);
  #bytes = 0;
  #headerBytes = 0;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    this.#flows = ledger.state;
  }

  /** Is anything verified of the flow's oldest held frame, if that may be a super-frame? */
  isBegun(flow: number): boolean {
    const { store } = this.#ledger;
    const head = this.#flows.primaryFirst[flow]!;
    if (head === NONE || !this.#flows.has(flow, FlowFlag.HEAD_BEGUN) || store.vnetHeaderBytes(head) === 0) {
      return false;
    }
    return ((this.#flows.headCursor[flow]! - store.seq[head]!) | 0) > 0;
  }

  /** The whole segments that are verified of it, to be judged; undefined when there are none. No byte has changed. */
  open(flow: number): FrameView | undefined {
    if (!this.isBegun(flow)) return undefined;
    const head = this.#flows.primaryFirst[flow]!;
    const view = this.#ledger.open(head);
    const step = pieceStep(view);
    if (step === 0 || view.vnetHeaderBytes + view.payload - view.start > HEADERS_BYTES_MAX) return undefined;
    const verified = (this.#flows.headCursor[flow]! - view.seq) | 0;
    this.#bytes = Math.floor(Math.min(verified, view.payloadBytes - 1) / step) * step;
    if (this.#bytes <= 0) return undefined;
    this.#headerBytes = writePieceHeaders(view, this.#bytes, view.payloadBytes, this.#restHeaders);
    view.payloadBytes = this.#bytes;
    view.tcpFlags &= ~(TcpFlag.FIN | TcpFlag.PSH);
    view.end = view.payload + this.#bytes;
    view.l3End = view.end;
    return view;
  }

  /** Makes what `open` gave a frame of its own, with what was lowered in it since. */
  shorten(view: FrameView): void {
    writePieceHeaders(view, 0, this.#bytes, this.#headers);
    view.bytes.set(this.#headers.subarray(0, this.#headerBytes), view.payload - this.#headerBytes);
  }

  /** It has left: the rest is what the flow holds first. */
  drop(flow: number): void {
    const head = this.#flows.primaryFirst[flow]!;
    this.#ledger.dropFront(head, flow, this.#bytes, this.#restHeaders.subarray(0, this.#headerBytes));
  }
}
