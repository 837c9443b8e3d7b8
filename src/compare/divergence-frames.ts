/** Copies of the frames that differ, for evidence: made when a divergence is looked at, never per frame. */
import { FlowFlag } from '../flow/flow-state.js';
import { FrameKind, type FrameView, TcpFlag } from '../wire/frame-view.js';
import { NONE, Side } from './hold-store.js';
import type { Ledger } from './ledger.js';
import type { DivergenceFrame, DivergenceReason } from './verdict.js';

/** Frames of each side, and how much of each is copied: the beginning of a super-frame says enough. */
const FRAMES_MAX = 8;
const FRAME_BYTES_MAX = 16_384;

/** The primary's frames that wait and the secondary's that are kept, of one flow; without a flow `view` alone. */
export function divergenceFrames(
  ledger: Ledger,
  reason: DivergenceReason,
  view: FrameView,
  flow: number,
  nowMs: number,
): DivergenceFrame[] {
  const { state } = ledger;
  const isTcp = view.kind === FrameKind.TCP;
  const frames: DivergenceFrame[] = [];
  if (flow !== NONE) {
    addStored(ledger, Side.PRIMARY, state.primaryFirst[flow]!, isTcp, frames);
  }
  // Judged before it was ever held: it stands in the link's slab alone.
  if (reason !== 'limit' && reason !== 'secondary-only' && !isStored(ledger, view, flow)) {
    frames.push(ofView(ledger, view, flow, nowMs));
  }
  if (flow !== NONE) {
    addStored(ledger, Side.SECONDARY, state.secondaryFirst[flow]!, isTcp, frames);
  }
  return frames;
}

function addStored(ledger: Ledger, side: Side, first: number, isTcp: boolean, into: DivergenceFrame[]): void {
  const { store } = ledger;
  let frame = first;
  for (let step = 0; frame !== NONE && step < FRAMES_MAX; step += 1, frame = store.next[frame]!) {
    const start = store.start(frame);
    into.push({
      side: side === Side.PRIMARY ? 'primary' : 'secondary',
      bytes: copyOf(store.buffer(frame), start, store.length(frame)),
      wireBytes: store.length(frame),
      atMs: store.atMs(frame),
      payloadAt: store.payloadAt(frame) - start,
      payloadBytes: store.payloadBytes[frame]!,
      position: isTcp
        ? tcpPosition(ledger, store.flow[frame]!, store.seq[frame]!, store.tcpFlags[frame]!, side)
        : 0,
    });
  }
}

function ofView(ledger: Ledger, view: FrameView, flow: number, nowMs: number): DivergenceFrame {
  const length = view.end - view.start;
  return {
    side: 'primary',
    bytes: copyOf(view.bytes, view.start, length),
    wireBytes: length,
    atMs: nowMs,
    payloadAt: view.payload - view.start,
    payloadBytes: view.payloadBytes,
    position:
      view.kind === FrameKind.TCP && flow !== NONE
        ? tcpPosition(ledger, flow, view.seq, view.tcpFlags, Side.PRIMARY)
        : 0,
  };
}

/** Of the segment's first payload byte, in the primary's space, counted from where the flow's stream was first seen. */
function tcpPosition(ledger: Ledger, flow: number, seq: number, tcpFlags: number, side: Side): number {
  const { state } = ledger;
  if (!state.has(flow, FlowFlag.BASED)) return 0;
  const delta = side === Side.SECONDARY ? state.seqDelta[flow]! : 0;
  const syn = (tcpFlags & TcpFlag.SYN) !== 0 ? 1 : 0;
  return (seq + syn + delta - state.baseSeq[flow]!) | 0;
}

function isStored(ledger: Ledger, view: FrameView, flow: number): boolean {
  if (flow === NONE) return false;
  const { store, state } = ledger;
  let frame = state.primaryFirst[flow]!;
  for (let step = 0; frame !== NONE && step < FRAMES_MAX; step += 1, frame = store.next[frame]!) {
    if (store.buffer(frame) === view.bytes && store.start(frame) === view.start) return true;
  }
  return false;
}

function copyOf(bytes: Buffer, start: number, length: number): Buffer {
  return Buffer.from(bytes.subarray(start, start + Math.min(length, FRAME_BYTES_MAX)));
}
