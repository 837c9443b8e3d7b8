/**
 * What the comparators share: flows, held frames, limits, counters, and the only two ways out: a release, a divergence.
 */

import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import type { FlowTable } from '../flow/flow-table.js';
import { flowText } from '../wire/addresses.js';
import { FrameView } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { divergenceFrames } from './divergence-frames.js';
import { HoldStore, NONE, Side } from './hold-store.js';
import { LagEstimate } from './lag.js';
import { ReleasedRecord } from './released-record.js';
import {
  type ComparatorSink,
  type CompareLimits,
  DIVERGENCE_REASONS,
  type DivergenceReason,
  RELEASE_REASONS,
  type ReleaseReason,
} from './verdict.js';

/** Bytes of each side that a divergence shows. */
export const EXCERPT_BYTES = 32;
/** A checkpoint is asked for when this share of a total limit is used, so that it comes before frames are lost. */
const LIMIT_WARNING_SHARE = 0.75;
const NO_BYTES = new Uint8Array(0);

export class Ledger {
  readonly flows: FlowTable;
  readonly state: FlowState;
  readonly limits: CompareLimits;
  readonly store: HoldStore;
  readonly record: ReleasedRecord;
  readonly lag: LagEstimate;
  /** A held frame being looked at; valid until the next `open`. */
  readonly heldView = new FrameView();

  readonly releasesByReason = new Float64Array(RELEASE_REASONS.length);
  readonly divergencesByReason = new Float64Array(DIVERGENCE_REASONS.length);
  /** Frames that could not be stored at all, by side: their limit was reached. */
  readonly unstorable = new Float64Array(2);
  /** The secondary's frames that repeat what is kept already. */
  duplicates = 0;
  /** Nothing is compared: frames wait for a commit, and only a limit asks for it. */
  buffersOnly = false;

  readonly #sink: ComparatorSink;
  #flowlessReported = false;
  #limitReported = false;

  constructor(flows: FlowTable, limits: CompareLimits, sink: ComparatorSink) {
    this.flows = flows;
    this.state = flows.state;
    this.limits = limits;
    this.#sink = sink;
    this.store = new HoldStore(limits);
    this.record = new ReleasedRecord(flows.state, limits.releasedRecordBytesMax);
    this.lag = new LagEstimate(limits);
  }

  /** Parses a held frame into `heldView`. */
  open(frame: number): FrameView {
    const { store } = this;
    parseFrame(
      store.buffer(frame),
      store.start(frame),
      store.length(frame),
      store.vnetHeaderBytes(frame),
      this.heldView,
    );
    return this.heldView;
  }

  release(view: FrameView, flow: number, reason: ReleaseReason, heldMs: number): void {
    const { bytes, start, end, vnetHeaderBytes } = view;
    this.#count(reason);
    this.#sink.release(bytes, start, end - start, vnetHeaderBytes, flow, reason, heldMs);
  }

  /** A held frame leaves as it is. The caller forgets it. */
  releaseHeld(frame: number, flow: number, reason: ReleaseReason, heldMs: number): void {
    const { store } = this;
    const bytes = store.buffer(frame);
    const vnetHeaderBytes = store.vnetHeaderBytes(frame);
    this.#count(reason);
    this.#sink.release(bytes, store.start(frame), store.length(frame), vnetHeaderBytes, flow, reason, heldMs);
  }

  #count(reason: ReleaseReason): void {
    const index = RELEASE_REASONS.indexOf(reason);
    this.releasesByReason[index] = this.releasesByReason[index]! + 1;
  }

  /** Stores a frame of the primary at the end of its flow's list; NONE when it cannot be stored (counted). */
  hold(view: FrameView, flow: number, nowMs: number): number {
    const frame = this.keep(view, Side.PRIMARY, flow, nowMs);
    if (frame !== NONE && flow !== NONE)
      this.#append(frame, flow, this.state.primaryFirst, this.state.primaryLast);
    return frame;
  }

  /** Stores a datagram of the secondary at the end of its flow's list. */
  keepLast(view: FrameView, flow: number, nowMs: number): number {
    const frame = this.keep(view, Side.SECONDARY, flow, nowMs);
    if (frame !== NONE) this.#append(frame, flow, this.state.secondaryFirst, this.state.secondaryLast);
    return frame;
  }

  /** Stores a frame without linking it into its flow's list. Reaching a limit asks for a checkpoint. */
  keep(view: FrameView, side: Side, flow: number, nowMs: number): number {
    const { store, limits, state } = this;
    const frame = store.add(view, side, flow, nowMs);
    if (frame === NONE) {
      this.unstorable[side] = this.unstorable[side]! + 1;
      this.#reportLimit(view, flow, nowMs);
      return NONE;
    }
    if (flow !== NONE) {
      const bytes = state.heldBytes[flow]! + store.storedBytes(frame);
      state.heldBytes[flow] = bytes;
      if (bytes > limits.heldBytesPerFlowMax)
        this.diverge('limit', view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
    }
    if (
      store.totalBytes > limits.heldBytesMax * LIMIT_WARNING_SHARE ||
      store.totalFrames > limits.heldFramesMax * LIMIT_WARNING_SHARE
    ) {
      this.#reportLimit(view, flow, nowMs);
    }
    return frame;
  }

  /** Takes the primary's oldest held frame of the flow out of its list and forgets it. */
  dropFirst(frame: number, flow: number): void {
    if (flow !== NONE) this.#unlink(frame, flow, this.state.primaryFirst, this.state.primaryLast);
    this.#forget(frame, flow);
    if (flow !== NONE) this.state.clear(flow, FlowFlag.HEAD_BEGUN);
  }

  /** What follows the first `bytes` bytes of the held frame's payload stays held, behind `headers`. */
  dropFront(frame: number, flow: number, bytes: number, headers: Buffer): void {
    this.store.dropFront(frame, bytes, headers);
    this.state.heldBytes[flow] = this.state.heldBytes[flow]! - bytes;
  }

  /** Takes a frame of the secondary out of its flow's list and forgets it. */
  dropSecondary(frame: number, flow: number): void {
    this.#unlink(frame, flow, this.state.secondaryFirst, this.state.secondaryLast);
    this.#forget(frame, flow);
  }

  dropSolitary(column: Int32Array, flow: number): void {
    const frame = column[flow]!;
    if (frame === NONE) return;
    column[flow] = NONE;
    this.store.remove(frame);
  }

  /**
   * Asks for a checkpoint; at most once per flow and epoch. `offset` and the excerpts are as Divergence says.
   */
  diverge(
    reason: DivergenceReason,
    view: FrameView,
    flow: number,
    offset: number,
    primaryBytes: Uint8Array,
    secondaryBytes: Uint8Array,
    nowMs: number,
  ): void {
    if (this.buffersOnly && reason !== 'limit') return;
    if (flow === NONE) {
      if (this.#flowlessReported) return;
      this.#flowlessReported = true;
    } else {
      if (this.state.has(flow, FlowFlag.REPORTED)) return;
      this.state.set(flow, FlowFlag.REPORTED);
    }
    const index = DIVERGENCE_REASONS.indexOf(reason);
    this.divergencesByReason[index] = this.divergencesByReason[index]! + 1;
    this.#sink.diverged(
      { reason, flow: flowText(view, false), offset, primaryBytes, secondaryBytes, atMs: nowMs },
      () => divergenceFrames(this, reason, view, flow, nowMs),
    );
  }

  /** A new epoch: what was reported may be reported anew. Flags of flows are the caller's. */
  beginEpoch(): void {
    this.#flowlessReported = false;
    this.#limitReported = false;
  }

  #reportLimit(view: FrameView, flow: number, nowMs: number): void {
    if (this.#limitReported) return;
    this.#limitReported = true;
    this.diverge('limit', view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
  }

  #append(frame: number, flow: number, first: Int32Array, last: Int32Array): void {
    const tail = last[flow]!;
    this.store.previous[frame] = tail;
    if (tail === NONE) first[flow] = frame;
    else this.store.next[tail] = frame;
    last[flow] = frame;
  }

  #unlink(frame: number, flow: number, first: Int32Array, last: Int32Array): void {
    const previous = this.store.previous[frame]!;
    const next = this.store.next[frame]!;
    if (previous === NONE) first[flow] = next;
    else this.store.next[previous] = next;
    if (next === NONE) last[flow] = previous;
    else this.store.previous[next] = previous;
  }

  #forget(frame: number, flow: number): void {
    if (flow !== NONE)
      this.state.heldBytes[flow] = this.state.heldBytes[flow]! - this.store.storedBytes(frame);
    this.store.remove(frame);
  }
}

/** A copy of up to EXCERPT_BYTES bytes from [at, end). */
export function excerpt(bytes: Uint8Array, at: number, end: number): Uint8Array {
  return Uint8Array.from(bytes.subarray(at, Math.min(end, at + EXCERPT_BYTES)));
}

/** Index of the first byte that differs between two ranges of the same length that are known to differ. */
export function firstDifference(
  a: Uint8Array,
  aAt: number,
  b: Uint8Array,
  bAt: number,
  length: number,
): number {
  let index = 0;
  while (index < length && a[aAt + index] === b[bAt + index]) index += 1;
  return index;
}
