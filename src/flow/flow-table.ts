/**
 * The flow table: from a frame's key (VLAN, addresses, ports, protocol, told from the guest's side) to a slot. Open
 * addressing over typed arrays; a slot is a stable number until it is removed, and indexes every column of `state`: it is
 * where the flow's row begins.
 */
import { readS32 } from '../wire/bytes.js';
import {
  FLOW_KEY_WORDS,
  flowKeyEquals,
  flowKeyPorts,
  hashFlowKey,
  isFragmentKey,
  plainFlowKeyEquals,
  writeFlowKey,
} from '../wire/flow-key.js';
import { parseTcpFragment } from '../wire/fragment.js';
import { FrameKind, FrameView } from '../wire/frame-view.js';
import { IpProtocol } from '../wire/numbers.js';
import { isIcmpError, parseQuoted } from '../wire/quoted.js';
import { FlowFlag, FlowState, SLOT_WORDS } from './flow-state.js';

export interface FlowTableOptions {
  readonly flowsMax: number;
  /** Makes the hash unpredictable, so that nobody can craft flows that collide. */
  readonly seed: number;
  /** An established TCP connection is forgotten after this long without a frame. */
  readonly flowIdleMsMax?: number;
}

/** A connection that both sides closed, or a reset one: RFC 9293's TIME-WAIT of two times 60 s (Linux: 60 s). */
const CLOSED_IDLE_MS_MAX = 120_000;
/** A connection whose handshake has not ended: longer than Linux retries a SYN-ACK (63 s). */
const HALF_OPEN_IDLE_MS_MAX = 90_000;
/** UDP, ICMP and others, which tell no end. */
const DATAGRAM_IDLE_MS_MAX = 180_000;
const FLOW_IDLE_MS_MAX = 7_200_000;
/** When the table is full, the best of this many slots makes room, or the first after them that may, ... */
const EVICTION_CANDIDATES = 64;
/** ... up to this many at any time, or to the whole table as far as the looking of the time passed is not spent: */
const EVICTION_SLOTS_MIN = 512;
/** one or two hundredths of a core, whatever a flood of new flows does; the whole table, 2 ms, less than a checkpoint. */
const EVICTION_SLOTS_PER_MS = 1000;
/**
 * A connection that may still be open is put out for another only after it has been idle for this share of its limit:
 * a flood of new flows cannot put out those in use.
 */
const EVICTION_IDLE_SHARE_MIN = 0.02;

/** 4096 places. */
const RECENT_SHIFT = 20;

/** Does a frame of this kind belong to a flow? Link control and garbage do not; what is unknown does, by its EtherType. */
export function hasFlow(view: FrameView): boolean {
  switch (view.kind) {
    case FrameKind.TCP:
    case FrameKind.UDP:
    case FrameKind.ICMP:
    case FrameKind.ICMPV6:
    case FrameKind.IP_OTHER:
    case FrameKind.FRAGMENT:
    case FrameKind.OTHER:
      return true;
    default:
      return false;
  }
}

export class FlowTable {
  readonly state: FlowState;
  readonly flowsMax: number;
  /** Flows in the table. */
  count = 0;
  /** Flows refused because the table was full; flows put out to make room; flows that ran out of time. */
  refused = 0;
  evicted = 0;
  expired = 0;
  /** Called with a slot before it is forgotten, so that others let go of what they keep for it. */
  onRemove: ((slot: number) => void) | undefined;

  readonly #seed: number;
  readonly #flowIdleMsMax: number;
  /** slot + 1, or 0 for an empty bucket; at most half full. */
  readonly #buckets: Int32Array;
  readonly #mask: number;
  /** Slots that were ever used; every one of them lies below #slotsEnd. */
  #slotsUsed = 0;
  #slotsEnd = 0;
  /** The slot to be used next, -1 for none; the one after it is linked in its `hash`. */
  #freeSlot = -1;
  /**
   * The slot + 1 that was found last at each place of a hash that is quick and that anybody can foresee: those who make
   * flows collide in it only spare themselves the advantage.
   */
  readonly #recent = new Int32Array(1 << (32 - RECENT_SHIFT));
  readonly #probe = new Int32Array(FLOW_KEY_WORDS);
  readonly #quoted = new FrameView();
  readonly #segment = new FrameView();
  /** Where `expire` and `#evictOne` go on. */
  #sweepAt = 0;
  #evictAt = 0;
  /** Slots `#evictOne` may look at, as of a time. */
  #evictionSlots = 0;
  #evictionSlotsAtMs = 0;

  constructor(options: FlowTableOptions) {
    this.flowsMax = options.flowsMax;
    this.#seed = options.seed;
    this.#flowIdleMsMax = options.flowIdleMsMax ?? FLOW_IDLE_MS_MAX;
    this.state = new FlowState(options.flowsMax);
    let buckets = 16;
    while (buckets < options.flowsMax * 2) buckets *= 2;
    this.#buckets = new Int32Array(buckets);
    this.#mask = buckets - 1;
  }

  /**
   * The slot of the frame's flow, or -1. Of an ICMP error about a TCP segment, and of the first fragment of one, it is
   * the flow of that segment, whose numbers they carry.
   */
  find(view: FrameView, fromClient: boolean): number {
    if (!hasFlow(view)) return -1;
    if (view.icmpType >= 0 && isIcmpError(view)) {
      if (parseQuoted(view, this.#quoted) && this.#quoted.kind === FrameKind.TCP) {
        writeFlowKey(this.#quoted, !fromClient, this.#probe, 0);
        return this.#lookUp(hashFlowKey(this.#probe, 0, this.#seed) | 0);
      }
    }
    const isFragment = view.kind === FrameKind.FRAGMENT && parseTcpFragment(view, this.#segment);
    writeFlowKey(isFragment ? this.#segment : view, fromClient, this.#probe, 0);
    return this.#lookUp(hashFlowKey(this.#probe, 0, this.#seed) | 0);
  }

  /** The slot of the frame's own flow, made if need be; -1 when it has none or the table is full of flows that stay. */
  findOrAdd(view: FrameView, fromClient: boolean, nowMs: number): number {
    const isPlain = view.ipVersion === 4 && (view.kind === FrameKind.TCP || view.kind === FrameKind.UDP);
    if (isPlain) return this.#findOrAddPlain(view, fromClient, nowMs);
    if (!hasFlow(view)) return -1;
    writeFlowKey(view, fromClient, this.#probe, 0);
    return this.#findOrAddProbe(nowMs);
  }

  /** The slot of the flow with that key (`keyOf` gave it, perhaps to an earlier process), made if need be; -1: full. */
  findOrAddKey(key: Int32Array, nowMs: number): number {
    this.#probe.set(key);
    return this.#findOrAddProbe(nowMs);
  }

  /** IPv4 with ports: the flow is probably one that was seen a short while ago. */
  #findOrAddPlain(view: FrameView, fromClient: boolean, nowMs: number): number {
    const ports = flowKeyPorts(view, fromClient);
    const place = Math.imul(ports ^ readS32(view.bytes, view.l3 + 16), 0x9e3779b1) >>> RECENT_SHIFT;
    const recent = this.#recent[place]! - 1;
    if (recent >= 0 && this.state.has(recent, FlowFlag.LIVE)) {
      if (plainFlowKeyEquals(view, fromClient, ports, this.state.key, recent)) {
        this.state.touch(recent, nowMs);
        return recent;
      }
    }
    writeFlowKey(view, fromClient, this.#probe, 0);
    const slot = this.#findOrAddProbe(nowMs);
    this.#recent[place] = slot + 1;
    return slot;
  }

  #findOrAddProbe(nowMs: number): number {
    const hash = hashFlowKey(this.#probe, 0, this.#seed) | 0;
    const found = this.#lookUp(hash);
    if (found !== -1) {
      this.state.touch(found, nowMs);
      return found;
    }
    const slot = this.#freshSlot(nowMs);
    if (slot === -1) {
      this.refused += 1;
      return -1;
    }
    this.state.reset(slot, this.#probe, hash, nowMs);
    let bucket = hash & this.#mask;
    while (this.#buckets[bucket] !== 0) bucket = (bucket + 1) & this.#mask;
    this.#buckets[bucket] = slot + 1;
    this.count += 1;
    return slot;
  }

  /** Must a client frame of the flow be rewritten for the secondary? */
  hasTranslation(slot: number): boolean {
    const { state } = this;
    return (
      state.seqDelta[slot] !== 0 || state.tsDelta[slot] !== 0 || state.has(slot, FlowFlag.CLIENT_TRANSLATED)
    );
  }

  /** Did the flow live through a failover, so that today's primary is not what the client knows? */
  hasClientTranslation(slot: number): boolean {
    return this.state.has(slot, FlowFlag.CLIENT_TRANSLATED);
  }

  /** Can a frame of this flow carry numbers of another flow, the one that `find` tells? Fragments and ICMP errors do. */
  mayCarryOther(slot: number): boolean {
    const protocol = this.#ipProtocol(slot);
    if (protocol === IpProtocol.TCP) return isFragmentKey(this.state.key, slot);
    return protocol === IpProtocol.ICMP || protocol === IpProtocol.ICMPV6;
  }

  touch(slot: number, nowMs: number): void {
    this.state.touch(slot, nowMs);
  }

  /** A copy of the flow's key, FLOW_KEY_WORDS words as wire/flow-key.ts lays them out. */
  keyOf(slot: number): Int32Array {
    return this.state.key.slice(slot, slot + FLOW_KEY_WORDS);
  }

  isLive(slot: number): boolean {
    return slot >= 0 && slot < this.#slotsEnd && this.state.has(slot, FlowFlag.LIVE);
  }

  /** The first slot in use after `slot`, from -1 on; -1 at the end. */
  next(slot: number): number {
    let next = slot === -1 ? 0 : slot + SLOT_WORDS;
    while (next < this.#slotsEnd && !this.state.has(next, FlowFlag.LIVE)) next += SLOT_WORDS;
    return next < this.#slotsEnd ? next : -1;
  }

  remove(slot: number): void {
    if (!this.isLive(slot)) return;
    this.onRemove?.(slot);
    let hole = this.state.hash[slot]! & this.#mask;
    while (this.#buckets[hole] !== slot + 1) hole = (hole + 1) & this.#mask;
    this.#closeHole(hole);
    this.state.clear(slot, FlowFlag.LIVE);
    this.state.hash[slot] = this.#freeSlot;
    this.#freeSlot = slot;
    this.count -= 1;
  }

  /** Forgets every flow; nothing may be kept for one. */
  clear(): void {
    this.#buckets.fill(0);
    for (let slot = this.next(-1); slot !== -1; slot = this.next(slot)) this.state.clear(slot, FlowFlag.LIVE);
    this.#slotsUsed = 0;
    this.#slotsEnd = 0;
    this.#freeSlot = -1;
    this.count = 0;
  }

  /**
   * Looks at up to `budget` slots, going round, and forgets the flows whose idle time is over: by the state of the TCP
   * connection, never one with frames held. Returns how many went.
   */
  expire(nowMs: number, budget: number): number {
    let gone = 0;
    for (let step = Math.min(budget, this.#slotsUsed); step > 0; step -= 1) {
      this.#sweepAt = this.#slotAfter(this.#sweepAt);
      const slot = this.#sweepAt;
      if (!this.state.has(slot, FlowFlag.LIVE) || this.#idleShare(slot, nowMs) < 1) continue;
      this.remove(slot);
      gone += 1;
    }
    this.expired += gone;
    return gone;
  }

  #lookUp(hash: number): number {
    let bucket = hash & this.#mask;
    for (;;) {
      const entry = this.#buckets[bucket]!;
      if (entry === 0) return -1;
      const slot = entry - 1;
      if (this.state.hash[slot] === hash && flowKeyEquals(this.state.key, slot, this.#probe, 0)) return slot;
      bucket = (bucket + 1) & this.#mask;
    }
  }

  #freshSlot(nowMs: number): number {
    if (this.#freeSlot === -1 && this.#slotsUsed < this.flowsMax) {
      this.#slotsUsed += 1;
      this.#slotsEnd += SLOT_WORDS;
      return this.#slotsEnd - SLOT_WORDS;
    }
    if (this.#freeSlot === -1) this.#evictOne(nowMs);
    const slot = this.#freeSlot;
    if (slot !== -1) this.#freeSlot = this.state.hash[slot]!;
    return slot;
  }

  #slotAfter(slot: number): number {
    return slot + SLOT_WORDS < this.#slotsEnd ? slot + SLOT_WORDS : 0;
  }

  #ipProtocol(slot: number): number {
    return this.state.key[slot]! & 0xff;
  }

  /**
   * Of a few flows that have ended, tell no end or are half-open, the one that has used up most of its idle time goes; an
   * established connection only if there is none of those, and it was idle for long. Goes on behind the one that went,
   * not behind all that were looked at: under churn slots are then emptied in the order in which they were filled.
   */
  #evictOne(nowMs: number): void {
    let idle = -1;
    let idleShare = EVICTION_IDLE_SHARE_MIN;
    let ended = -1;
    let endedShare = 0;
    let slot = this.#evictAt;
    const earned = (nowMs - this.#evictionSlotsAtMs) * EVICTION_SLOTS_PER_MS;
    const credit = Math.min(this.#slotsUsed, this.#evictionSlots + earned);
    const slotsMax = Math.min(this.#slotsUsed, Math.max(EVICTION_SLOTS_MIN, credit));
    let looked = 0;
    for (; looked < slotsMax; looked += 1) {
      if (looked >= EVICTION_CANDIDATES && ended !== -1) break;
      const share = this.#idleShare(slot, nowMs);
      if (this.#isEstablished(slot)) {
        if (share > idleShare) {
          idle = slot;
          idleShare = share;
        }
      } else if (share > endedShare && (share > EVICTION_IDLE_SHARE_MIN || this.#isDispensable(slot))) {
        ended = slot;
        endedShare = share;
      }
      slot = this.#slotAfter(slot);
    }
    this.#evictionSlots = Math.max(0, credit - looked);
    this.#evictionSlotsAtMs = nowMs;
    const chosen = ended !== -1 ? ended : idle;
    this.#evictAt = chosen === -1 ? slot : this.#slotAfter(chosen);
    if (chosen === -1) return;
    this.remove(chosen);
    this.evicted += 1;
  }

  /** May a flow without frames held be forgotten at any age? */
  #isDispensable(slot: number): boolean {
    if (this.#ipProtocol(slot) === IpProtocol.TCP) {
      return this.#isClosed(slot) && !this.state.has(slot, FlowFlag.CLIENT_TRANSLATED);
    }
    // the guest's answer would be taken for its opening: another rule might fit, which waives
    return !this.state.has(slot, FlowFlag.CLIENT_OPENED);
  }

  #isClosed(slot: number): boolean {
    const flags = this.state.flags[slot]!;
    if ((flags & FlowFlag.RESET) !== 0) return true;
    return (flags & FlowFlag.FIN_PRIMARY) !== 0 && (flags & FlowFlag.CLIENT_FIN) !== 0;
  }

  /** Idle time as a share of what the flow's state allows; 0 for a flow that must stay. */
  #idleShare(slot: number, nowMs: number): number {
    const { state } = this;
    if (state.holds(slot)) return 0;
    const idleMs = nowMs - state.touchedAtMs(slot);
    if (this.#ipProtocol(slot) !== IpProtocol.TCP) return idleMs / DATAGRAM_IDLE_MS_MAX;
    if (this.#isClosed(slot)) return idleMs / CLOSED_IDLE_MS_MAX;
    // what a failover left must be translated for as long as the connection lives (T7)
    if (state.has(slot, FlowFlag.CLIENT_TRANSLATED)) return 0;
    return idleMs / (this.#isEstablished(slot) ? this.#flowIdleMsMax : HALF_OPEN_IDLE_MS_MAX);
  }

  #isEstablished(slot: number): boolean {
    const flags = this.state.flags[slot]!;
    const isOpened = (flags & FlowFlag.SEEN_PRIMARY) !== 0 && (flags & FlowFlag.CLIENT_ACKED) !== 0;
    return isOpened && !this.#isClosed(slot);
  }

  /** Linear probing without tombstones: later entries of the run move up into the hole. */
  #closeHole(from: number): void {
    let hole = from;
    let bucket = (hole + 1) & this.#mask;
    for (;;) {
      const entry = this.#buckets[bucket]!;
      if (entry === 0) break;
      const home = this.state.hash[entry - 1]! & this.#mask;
      if (((bucket - home) & this.#mask) >= ((bucket - hole) & this.#mask)) {
        this.#buckets[hole] = entry;
        hole = bucket;
      }
      bucket = (bucket + 1) & this.#mask;
    }
    this.#buckets[hole] = 0;
  }
}
