/**
 * The secondary's SYN-ACKs as colo-compare gets them. QEMU's filter-rewriter moves the secondary's segments into the
 * primary's sequence space, all but the SYN-ACK itself, which still carries the secondary's own initial number
 * (net/filter-rewriter.c, handle_secondary_tcp_pkt). Taken at its word it would put the two streams out of step; here it
 * gets the primary's number, and waits for that where it comes first.
 */
import type { Comparator } from '../compare/comparator.js';
import { FlowFlag } from '../flow/flow-state.js';
import type { FlowTable } from '../flow/flow-table.js';
import type { VnetHeaderBytes } from '../link/link.js';
import { writeU32 } from '../wire/bytes.js';
import { FrameView, TcpFlag } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';

/** SYN-ACKs that wait for the primary's; beyond it the oldest goes, and its connection waits for a checkpoint. */
const WAITING_MAX = 4096;

interface WaitingSyn {
  readonly bytes: Buffer;
  readonly vnetHeaderBytes: VnetHeaderBytes;
}

export class RewrittenSyns {
  readonly #flows: FlowTable;
  readonly #comparator: Comparator;
  readonly #waiting = new Map<number, WaitingSyn>();
  readonly #view = new FrameView();

  constructor(flows: FlowTable, comparator: Comparator) {
    this.#flows = flows;
    this.#comparator = comparator;
  }

  /** A SYN of the secondary, perhaps changed in place. False: it waits for the primary's. */
  mayPass(view: FrameView, flow: number): boolean {
    // the rewriter knows connections that clients open; of others it leaves every number as it is
    if ((view.tcpFlags & TcpFlag.ACK) === 0) return true;
    const { state } = this.#flows;
    if (state.has(flow, FlowFlag.SYN_PRIMARY) && !state.has(flow, FlowFlag.PAIRED)) {
      moveTo(view, state.isnPrimary[flow]!);
      return true;
    }
    const from = view.start - view.vnetHeaderBytes;
    this.#waiting.delete(flow);
    if (this.#waiting.size >= WAITING_MAX) this.#waiting.delete(this.#waiting.keys().next().value!);
    this.#waiting.set(flow, {
      bytes: Buffer.from(view.bytes.subarray(from, view.end)),
      vnetHeaderBytes: view.vnetHeaderBytes,
    });
    return false;
  }

  /** The primary's SYN has been compared: the secondary's, if it waits, follows. */
  primaryBegan(flow: number, nowMs: number): void {
    const syn = this.#waiting.get(flow);
    const { state } = this.#flows;
    if (syn === undefined || !state.has(flow, FlowFlag.SYN_PRIMARY)) return;
    this.#waiting.delete(flow);
    const { bytes, vnetHeaderBytes } = syn;
    parseFrame(bytes, vnetHeaderBytes, bytes.length - vnetHeaderBytes, vnetHeaderBytes, this.#view);
    moveTo(this.#view, state.isnPrimary[flow]!);
    this.#comparator.secondary(this.#view, flow, nowMs);
  }

  forget(): void {
    this.#waiting.clear();
  }
}

function moveTo(view: FrameView, seq: number): void {
  view.seq = seq >>> 0;
  writeU32(view.bytes, view.l4 + 4, view.seq);
}
