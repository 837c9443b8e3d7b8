/**
 * The comparator of one protected pair: what the primary's output waits for, and what becomes of it at a checkpoint and
 * when one of the VMs dies. It sees frames and times, and decides; it owns no clock, no socket and no timer.
 */
import { FlowFlag } from '../flow/flow-state.js';
import { type FlowTable, hasFlow } from '../flow/flow-table.js';
import type { VnetHeaderBytes } from '../link/link.js';
import type { SlabKeeper } from '../link/receive-batch.js';
import type { FrameBytes } from '../wire/frame-memory.js';
import { FrameKind, type FrameView } from '../wire/frame-view.js';
import { DatagramComparator } from './datagram.js';
import { FrameMark, NONE, Side } from './hold-store.js';
import { Ledger } from './ledger.js';
import { NO_RULES, type RuleAction, type RuleSet } from './rules.js';
import { Ruling } from './ruling.js';
import { TcpComparator, Waiting } from './tcp.js';
import { type ComparatorSink, type CompareLimits, type ReleaseReason, Verdict } from './verdict.js';

/** Held frames looked at in one tick, on each side; flows looked at for their end. */
const TICK_FRAMES_MAX = 4096;
const TICK_FLOWS_MAX = 512;
const NO_BYTES = new Uint8Array(0);

export { hasFlow };

export type EmitSecondary = (
  bytes: Buffer,
  offset: number,
  length: number,
  vnetHeaderBytes: VnetHeaderBytes,
  flow: number,
) => void;

export class Comparator {
  /** The secondary's frames that need no comparing or cannot be compared: its own link control, garbage. */
  secondaryIgnored = 0;

  /** Frames and bytes of the primary that left by waiver: [0] link control, [n] the n-th rule. */
  waivedFrames!: Float64Array;
  waivedBytes!: Float64Array;

  readonly #ledger: Ledger;
  #rules!: RuleSet;
  #ruling: Ruling | null = null;
  /** Hold from the next commit on. */
  #nextRules: RuleSet | null = null;
  readonly #tcp: TcpComparator;
  readonly #datagram: DatagramComparator;

  constructor(flows: FlowTable, limits: CompareLimits, sink: ComparatorSink, rules: RuleSet = NO_RULES) {
    this.#ledger = new Ledger(flows, limits, sink);
    this.#tcp = new TcpComparator(this.#ledger);
    this.#datagram = new DatagramComparator(this.#ledger);
    this.#useRules(rules);
    flows.onRemove = (slot) => this.#ledger.record.forget(slot);
  }

  /** For the links whose batches are given to `primary` and `secondary`. */
  get slabKeeper(): Required<SlabKeeper> {
    const { store } = this.#ledger;
    return { keeps: (slab) => store.keeps(slab), overwriting: (slab) => store.bring(slab) };
  }

  /** Those that decide now. */
  get rules(): RuleSet {
    return this.#rules;
  }

  /**
   * Other rules, and limits that were changed in place. Limits hold at once; rules for every flow from the next commit
   * on, when nothing is held that the rules before had held.
   */
  reconfigure(rules: RuleSet): void {
    this.#nextRules = rules;
  }

  /** Nothing is compared: what both VMs send is stored until a commit. Link control passes as ever. */
  get buffersOnly(): boolean {
    return this.#ledger.buffersOnly;
  }

  set buffersOnly(is: boolean) {
    this.#ledger.buffersOnly = is;
  }

  /** The primary's frames that wait. */
  get heldFrames(): number {
    return this.#ledger.store.frames[Side.PRIMARY]!;
  }

  get heldBytes(): number {
    return this.#ledger.store.bytes[Side.PRIMARY]!;
  }

  /** The secondary's frames that are kept. */
  get keptFrames(): number {
    return this.#ledger.store.frames[Side.SECONDARY]!;
  }

  get keptBytes(): number {
    return this.#ledger.store.bytes[Side.SECONDARY]!;
  }

  /** How long one-sided output waits at present. */
  get holdMs(): number {
    return this.#ledger.lag.holdMs;
  }

  /** Lag between the two VMs' equal output: an upper bound of the 99 % quantile. */
  get lagMs(): number {
    return this.#ledger.lag.quantileMs(0.99);
  }

  /** Indexed as RELEASE_REASONS and DIVERGENCE_REASONS. */
  get releasesByReason(): Float64Array {
    return this.#ledger.releasesByReason;
  }

  get divergencesByReason(): Float64Array {
    return this.#ledger.divergencesByReason;
  }

  /** Frames that could not be stored for want of room, by side: primary, secondary. */
  get unstorable(): Float64Array {
    return this.#ledger.unstorable;
  }

  get secondaryDuplicates(): number {
    return this.#ledger.duplicates;
  }

  /** Age of the primary's oldest held frame; 0 when none is held. */
  heldMsOldest(nowMs: number): number {
    const frame = this.#ledger.store.oldest(Side.PRIMARY);
    return frame === NONE ? 0 : nowMs - this.#ledger.store.atMs(frame);
  }

  /** A frame of the primary that passes uncompared: there is no pair. */
  watch(view: FrameView, flow: number, nowMs: number): void {
    if (flow === NONE) return;
    this.#ledger.flows.touch(flow, nowMs);
    this.#ruling?.noteOpener(view, flow);
    if (view.kind === FrameKind.TCP) this.#tcp.watch(view, flow);
  }

  /**
   * A frame of the primary. It is released here, perhaps lowered in place (ack, window, SACK), or copied and held.
   * @param flow its slot as `findOrAdd` gave it; -1 when it has none or the table is full.
   */
  primary(view: FrameView, flow: number, nowMs: number): Verdict {
    if (flow !== NONE && this.#ruling !== null) {
      const action = this.#ruling.actionFor(view, flow);
      if (action === 'waive') return this.#waive(view, flow, this.#ruling.ruleOf(flow) + 1);
      if (action === 'checkpoint') this.#awaitCheckpoint(view, flow, nowMs);
    }
    switch (view.kind) {
      case FrameKind.TCP:
        return flow === NONE ? this.#holdUnknown(view, flow, nowMs) : this.#tcp.primary(view, flow, nowMs);
      case FrameKind.UDP:
      case FrameKind.ICMP:
      case FrameKind.ICMPV6:
      case FrameKind.IP_OTHER:
      case FrameKind.FRAGMENT:
        return flow === NONE
          ? this.#holdUnknown(view, flow, nowMs)
          : this.#datagram.primary(view, flow, nowMs);
      case FrameKind.ARP:
      case FrameKind.ND:
      case FrameKind.GROUP_MEMBERSHIP:
      case FrameKind.LINK_CONTROL:
        return this.#waive(view, flow, 0);
      default:
        return this.#holdUnknown(view, flow, nowMs);
    }
  }

  /** A frame of the secondary: may release frames of the primary. */
  secondary(view: FrameView, flow: number, nowMs: number): void {
    if (flow === NONE) {
      this.secondaryIgnored += 1;
      return;
    }
    const action: RuleAction = this.#ruling?.actionFor(view, flow) ?? 'compare';
    if (action === 'waive') {
      this.secondaryIgnored += 1;
      if (view.kind === FrameKind.TCP) this.#tcp.waiveSecondary(view, flow);
      return;
    }
    if (action === 'checkpoint') this.#ledger.state.set(flow, FlowFlag.BLOCKED);
    switch (view.kind) {
      case FrameKind.TCP:
        this.#tcp.secondary(view, flow, nowMs);
        return;
      case FrameKind.UDP:
      case FrameKind.ICMP:
      case FrameKind.ICMPV6:
      case FrameKind.IP_OTHER:
      case FrameKind.FRAGMENT:
        this.#datagram.secondary(view, flow, nowMs);
        return;
      default:
        this.secondaryIgnored += 1;
    }
  }

  /** To be called before each batch of either VM: frames of the slab are held where they lie until it is overwritten. */
  beginBatch(slab: FrameBytes): void {
    this.#ledger.store.borrow(slab);
  }

  /** To be called after each batch of either VM: what was verified of a frame in part may leave in part. */
  endBatch(nowMs: number): void {
    this.#ledger.store.borrow(null);
    this.#tcp.releaseBegun(nowMs);
  }

  /** The slot of a client frame's flow, or -1. One that the client opens is noted where a rule asks for it. */
  flowFromClient(view: FrameView, nowMs: number): number {
    const { flows } = this.#ledger;
    const flow = flows.find(view, true);
    return flow !== NONE || this.#ruling === null ? flow : this.#ruling.openFromClient(view, nowMs);
  }

  /** A client frame that was fed to both VMs, as the client sent it. */
  fromClient(view: FrameView, flow: number, nowMs: number): void {
    if (flow === NONE) return;
    this.#ledger.flows.touch(flow, nowMs);
    if (view.kind === FrameKind.TCP) this.#tcp.fromClient(view, flow);
  }

  /** Hold timers, reorder windows and expiry, in bounded steps. To be called every few milliseconds. */
  tick(nowMs: number): void {
    if (!this.#ledger.buffersOnly) {
      this.#ledger.lag.refresh();
      this.#tickPrimary(nowMs);
      this.#tickSecondary(nowMs);
    }
    this.#ledger.flows.expire(nowMs, TICK_FLOWS_MAX);
  }

  /**
   * The secondary is the primary (LOADED): everything held leaves in emission order, the secondary's frames go, both
   * sides' state is the primary's, and a new epoch begins.
   */
  commit(nowMs: number): void {
    const { flows } = this.#ledger;
    this.#releaseHeld('committed', nowMs);
    for (let slot = flows.next(NONE); slot !== NONE; slot = flows.next(slot)) {
      this.#tcp.state.dropSecondaryFrames(slot);
      this.#tcp.releaseOwed(slot);
      this.#tcp.state.commit(slot);
    }
    this.#datagram.clear();
    this.#ledger.beginEpoch();
    if (this.#nextRules !== null) this.#useRules(this.#nextRules);
    this.#nextRules = null;
  }

  /** The primary is dead: what it had not been allowed to say is void. Returns the number of frames dropped. */
  dropPrimary(): number {
    const { store, flows } = this.#ledger;
    let dropped = 0;
    for (let frame = store.oldest(Side.PRIMARY); frame !== NONE; frame = store.oldest(Side.PRIMARY)) {
      this.#ledger.dropFirst(frame, store.flow[frame]!);
      dropped += 1;
    }
    for (let slot = flows.next(NONE); slot !== NONE; slot = flows.next(slot)) {
      this.#ledger.dropSolitary(flows.state.owedFrame, slot);
    }
    return dropped;
  }

  /** The secondary is void: everything held leaves in order and its frames go. */
  releaseAllPrimary(nowMs: number): void {
    const { flows } = this.#ledger;
    this.buffersOnly = false;
    this.#releaseHeld('survivor', nowMs);
    this.#datagram.clear();
    for (let slot = flows.next(NONE); slot !== NONE; slot = flows.next(slot)) {
      this.#tcp.state.forgetSecondary(slot);
      this.#tcp.releaseOwed(slot);
      flows.state.clear(slot, FlowFlag.BLOCKED | FlowFlag.REPORTED | FlowFlag.HEAD_BEGUN | FlowFlag.PAIRED);
      flows.state.seqDelta[slot] = 0;
      flows.state.tsDelta[slot] = 0;
    }
    this.#ledger.beginEpoch();
  }

  /**
   * The secondary is today's primary: the client table takes the pair table in, the pair table is identity. The primary's
   * held frames are dropped; the secondary's kept ones wait for `takeSecondary`.
   */
  adoptSecondary(): void {
    const { flows } = this.#ledger;
    this.buffersOnly = false;
    this.dropPrimary();
    this.#datagram.clear();
    for (let slot = flows.next(NONE); slot !== NONE; slot = flows.next(slot)) {
      this.#tcp.state.adoptSecondary(slot);
    }
    this.#ledger.beginEpoch();
  }

  /**
   * To be called once, after `adoptSecondary`: hands out and forgets what the secondary had sent and no client has seen,
   * in the order it was sent, raw: in today's primary's space, so that the client table translates it.
   */
  takeSecondary(emit: EmitSecondary): void {
    const { store, flows } = this.#ledger;
    for (let frame = store.oldest(Side.SECONDARY); frame !== NONE; frame = store.oldest(Side.SECONDARY)) {
      const flow = store.flow[frame]!;
      if (this.#ledger.open(frame).kind !== FrameKind.TCP || this.#tcp.isUnseen(frame))
        this.#emitKept(frame, emit);
      this.#ledger.dropSecondary(frame, flow);
    }
    for (let slot = flows.next(NONE); slot !== NONE; slot = flows.next(slot)) {
      const frame = flows.state.ackFrameSecondary[slot]!;
      if (frame !== NONE && this.#tcp.isUnseenAck(frame)) this.#emitKept(frame, emit);
      this.#ledger.dropSolitary(flows.state.ackFrameSecondary, slot);
      this.#tcp.state.showAll(slot);
    }
  }

  /** Flows are judged anew with their next frame; waived frames are counted from 0. */
  #useRules(rules: RuleSet): void {
    const { flows } = this.#ledger;
    this.#rules = rules;
    this.waivedFrames = new Float64Array(1 + rules.rules.length);
    this.waivedBytes = new Float64Array(1 + rules.rules.length);
    this.#ruling = rules.rules.length === 0 ? null : new Ruling(flows, rules);
    for (let slot = flows.next(NONE); slot !== NONE; slot = flows.next(slot)) flows.state.rule[slot] = 0;
  }

  #waive(view: FrameView, flow: number, waiver: number): Verdict {
    this.waivedFrames[waiver] = this.waivedFrames[waiver]! + 1;
    this.waivedBytes[waiver] = this.waivedBytes[waiver]! + view.end - view.start;
    if (view.kind === FrameKind.TCP && flow !== NONE) this.#tcp.waivePrimary(view, flow);
    this.#ledger.release(view, flow, 'waived', 0);
    return Verdict.WAIVED;
  }

  /** By a rule nothing of the flow leaves before a commit, which is asked for at once. */
  #awaitCheckpoint(view: FrameView, flow: number, nowMs: number): void {
    this.#ledger.state.set(flow, FlowFlag.BLOCKED);
    this.#ledger.diverge('rule', view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
  }

  #holdUnknown(view: FrameView, flow: number, nowMs: number): Verdict {
    return this.#ledger.hold(view, flow, nowMs) === NONE ? Verdict.DIVERGED : Verdict.HOLD;
  }

  #emitKept(frame: number, emit: EmitSecondary): void {
    const { store } = this.#ledger;
    const vnetHeaderBytes = store.vnetHeaderBytes(frame);
    emit(store.buffer(frame), store.start(frame), store.length(frame), vnetHeaderBytes, store.flow[frame]!);
  }

  #releaseHeld(reason: ReleaseReason, nowMs: number): void {
    const { store } = this.#ledger;
    for (let frame = store.oldest(Side.PRIMARY); frame !== NONE; frame = store.oldest(Side.PRIMARY)) {
      const flow = store.flow[frame]!;
      const view = this.#ledger.open(frame);
      const heldMs = nowMs - store.atMs(frame);
      if (view.kind === FrameKind.TCP && flow !== NONE) this.#tcp.release(view, flow, reason, heldMs);
      else this.#ledger.release(view, flow, reason, heldMs);
      this.#ledger.dropFirst(frame, flow);
    }
  }

  #tickPrimary(nowMs: number): void {
    const { store, limits, state } = this.#ledger;
    let frame = store.oldest(Side.PRIMARY);
    for (let step = 0; frame !== NONE && step < TICK_FRAMES_MAX; step += 1) {
      const ageMs = nowMs - store.atMs(frame);
      if (ageMs < limits.reorderMsMax) return;
      const newer = store.newer(frame);
      const flow = store.flow[frame]!;
      const isHead = flow === NONE || state.primaryFirst[flow] === frame;
      if (!isHead || (flow !== NONE && state.has(flow, FlowFlag.BLOCKED))) {
        frame = newer;
        continue;
      }
      // settling may release any number of the flow's frames, `newer` among them: look again from the oldest
      frame = this.#tickHead(frame, flow, ageMs, nowMs) ? store.oldest(Side.PRIMARY) : newer;
    }
  }

  /** Returns whether frames were released. */
  #tickHead(frame: number, flow: number, ageMs: number, nowMs: number): boolean {
    const { store, limits, lag, state } = this.#ledger;
    const view = this.#ledger.open(frame);
    if (flow === NONE || view.kind === FrameKind.OTHER) {
      const reason = flow === NONE && hasFlow(view) ? 'limit' : 'unknown';
      if (ageMs >= lag.holdMs) this.#ledger.diverge(reason, view, flow, -1, NO_BYTES, NO_BYTES, nowMs);
      return false;
    }
    let holdMs = lag.holdMs;
    if (view.kind === FrameKind.TCP) {
      const waiting = this.#tcp.settle(flow, nowMs);
      if (state.primaryFirst[flow] !== frame) return true;
      if (waiting === Waiting.ACKNOWLEDGEMENT) holdMs = limits.holdMsMax;
    } else {
      this.#datagram.checkReordered(flow, nowMs);
    }
    if (ageMs < holdMs || state.has(flow, FlowFlag.REPORTED)) return false;
    const head = this.#ledger.open(frame);
    const own = store
      .buffer(frame)
      .subarray(head.payload, Math.min(head.payload + 32, head.payload + head.payloadBytes));
    this.#ledger.diverge('primary-only', head, flow, -1, Uint8Array.from(own), NO_BYTES, nowMs);
    return false;
  }

  #tickSecondary(nowMs: number): void {
    const { store, lag, state } = this.#ledger;
    let frame = store.oldest(Side.SECONDARY);
    for (let step = 0; frame !== NONE && step < TICK_FRAMES_MAX; step += 1, frame = store.newer(frame)) {
      if (nowMs - store.atMs(frame) < lag.holdMs) return;
      const flow = store.flow[frame]!;
      // while the primary's output waits, its own timer counts
      if (state.has(flow, FlowFlag.REPORTED) || state.primaryFirst[flow] !== NONE) continue;
      if ((store.marks[frame]! & FrameMark.MATCHED) !== 0) continue;
      const view = this.#ledger.open(frame);
      const other = store
        .buffer(frame)
        .subarray(view.payload, Math.min(view.payload + 32, view.payload + view.payloadBytes));
      this.#ledger.diverge('secondary-only', view, flow, -1, NO_BYTES, Uint8Array.from(other), nowMs);
    }
  }
}
