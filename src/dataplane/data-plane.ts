import type { CheckpointMode, EpochGate } from '../checkpoint/ports.js';
import { Comparator } from '../compare/comparator.js';
import type { ComparatorSink, ReleaseReason } from '../compare/verdict.js';
import { FlowTable } from '../flow/flow-table.js';
import type { FrameBatch, Link, LinkHandler, VnetHeaderBytes } from '../link/link.js';
import type { Clock, Timer } from '../system/clock.js';
import { fromPrimary, toPrimary } from '../translate/translate.js';
import { FrameKind, FrameView } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { BroadcastLimit } from './broadcast-limit.js';
import { DataPlaneCounters } from './counters.js';
import { type DataPlaneParts, otherSeat, type Seat, type Side } from './data-plane-contract.js';
import { FrameQueue } from './frame-queue.js';
import { GuestAddresses } from './guest-addresses.js';
import { LateTick } from './late-tick.js';
import { Neighbours } from './neighbours.js';
import { SecondaryLeg } from './secondary-leg.js';

export {
  type DataPlaneLimits,
  type DataPlaneParts,
  otherSeat,
  type Seat,
  type Side,
} from './data-plane-contract.js';

const ETHERNET_HEADER_BYTES = 14;
const TICK_MS = 5;

/**
 * The per-frame path of one NIC of the pair: gate, mirror, compare, release.
 *
 * Two modes. `passing`: one VM carries the traffic and nothing is compared (unprotected, or after a failover).
 * `comparing`: client frames go to both VMs and the primary's output leaves when the comparator says so. The
 * checkpoint coordinator changes epochs through the EpochGate methods; the pair changes who carries the traffic.
 */
export class DataPlane implements EpochGate {
  readonly counters = new DataPlaneCounters();
  readonly guest = new GuestAddresses();
  readonly flows: FlowTable;
  readonly comparator: Comparator;
  readonly secondaryLeg: SecondaryLeg;
  readonly links: Readonly<Record<Side, Link>>;
  mode: 'passing' | 'comparing' = 'passing';
  /** Seat of today's primary: the VM that carries the traffic. */
  carrier: Seat = 'primary';
  gateClosed = false;
  readonly gate: FrameQueue;
  readonly #clock: Clock;
  readonly #events: DataPlaneParts['events'];
  readonly #clientWitness: DataPlaneParts['clientWitness'];
  readonly #broadcast: BroadcastLimit;
  readonly neighbours = new Neighbours();
  readonly #view = new FrameView();
  readonly #releaseView = new FrameView();
  #ticker: Timer | null = null;
  readonly #lateTick = new LateTick(TICK_MS);
  #loopsTold = 0;
  #signedTold = 0;
  /** Today's primary was promoted and has not been protected since. */
  isSurvivor = false;
  readonly #mandate: { readonly heldUntilMs: number };
  /** As of the last look at the clock, which every batch begins with. */
  #isSilent = false;

  constructor(parts: DataPlaneParts) {
    this.links = parts.links;
    this.#clock = parts.clock;
    this.#mandate = parts.mandate ?? { heldUntilMs: Number.POSITIVE_INFINITY };
    this.#events = parts.events;
    this.#clientWitness = parts.clientWitness;
    this.#broadcast = new BroadcastLimit(parts.limits.broadcastPerSecondMax);
    this.gate = new FrameQueue(parts.limits.gate);
    this.flows = new FlowTable({ flowsMax: parts.limits.compare.flowsMax, seed: parts.flowSeed });
    const sink: ComparatorSink = {
      release: (bytes, offset, length, vnet, flow, reason, heldMs) =>
        this.#release(bytes, offset, length, vnet, flow, reason, heldMs),
      diverged: (divergence, frames) => {
        this.counters.divergences[divergence.reason]++;
        this.#events.diverged(divergence, frames);
      },
    };
    const make = parts.makeComparator ?? ((...needs) => new Comparator(...needs));
    this.comparator = make(this.flows, parts.limits.compare, sink, parts.limits.rules);
    this.secondaryLeg = new SecondaryLeg(parts.links.secondary, this.flows, parts.limits.parked);
  }

  /** Opens the three links; what is absent is waited for. Rejects when a link can never open. */
  async open(): Promise<void> {
    this.#ticker = this.#clock.every(TICK_MS, () => this.#tick());
    await this.links.client.open(this.#handler('client', (batch) => this.#fromClients(batch)));
    await this.links.primary.open(this.#handler('primary', (batch) => this.#fromVm('primary', batch)));
    await this.links.secondary.open(this.#handler('secondary', (batch) => this.#fromVm('secondary', batch)));
  }

  /** As Link.secure, of all three. */
  async secure(): Promise<void> {
    const { client, primary, secondary } = this.links;
    await Promise.all([client.secure?.(), primary.secure?.(), secondary.secure?.()]);
  }

  async close(): Promise<void> {
    this.#ticker?.cancel();
    await Promise.all([this.links.client.close(), this.links.primary.close(), this.links.secondary.close()]);
  }

  // --- epochs: what the checkpoint coordinator asks for -------------------------------------------------------

  async closeGate(): Promise<void> {
    this.gateClosed = true;
  }

  async openGate(): Promise<void> {
    this.#openGate();
  }

  async untaken(): Promise<{ primary: number; secondary: number }> {
    return { primary: this.links[this.carrier].untaken(), secondary: this.secondaryLeg.link.untaken() };
  }

  async secondaryStopped(): Promise<void> {
    this.secondaryLeg.link.drain();
    this.links.client.flush();
    this.secondaryLeg.parking = true;
  }

  async primaryStopped(): Promise<void> {
    this.links[this.carrier].drain();
    this.links.client.flush();
  }

  async commit(mode: CheckpointMode = 'compare'): Promise<void> {
    this.commitEnded(mode);
    this.beginEpoch();
  }

  /** The ended epoch's half of `commit`: everything held has left, and the secondary's frames still wait. */
  commitEnded(mode: CheckpointMode): void {
    this.comparator.commit(this.#readClock());
    this.comparator.buffersOnly = mode === 'periodic';
    this.mode = 'comparing';
    this.links.client.flush();
  }

  /** The new epoch's half: the secondary's frames since its restart are taken in. */
  beginEpoch(): void {
    this.#unpark();
  }

  async abandon(): Promise<void> {
    if (this.mode === 'comparing') this.#unpark();
    else this.counters.drops.void += this.secondaryLeg.reset();
  }

  // --- who carries the traffic: what the pair asks for --------------------------------------------------------

  /**
   * The secondary is void or gone: the primary carries the traffic alone. Everything held leaves in order, client
   * frames held at the gate go to the primary only. The caller has made sure the secondary can never be promoted.
   */
  continueOnPrimary(): void {
    this.comparator.releaseAllPrimary(this.#readClock());
    this.mode = 'passing';
    this.isSurvivor = false;
    this.counters.drops.void += this.secondaryLeg.reset();
    this.links.client.flush();
    this.#openGate();
  }

  /**
   * The primary is gone: the secondary carries the traffic and is today's primary from here on; its old seat is free
   * for a fresh secondary. The primary's held output is dropped (no checkpoint covers it), what the secondary sent and
   * no client has seen leaves translated, client frames held at the gate go to the secondary.
   *
   * The first half: roles and translations; no frame leaves. `releaseSurvivor` follows in the same turn.
   */
  promoteSecondary(): void {
    this.#readClock();
    this.counters.drops['primary-uncovered'] += this.comparator.dropPrimary();
    this.comparator.adoptSecondary();
    this.mode = 'passing';
    this.isSurvivor = true;
    this.#seat(otherSeat(this.carrier));
  }

  /** The second half, when what must be remembered of the first is on disk: the survivor's output begins to leave. */
  releaseSurvivor(): void {
    this.comparator.takeSecondary((bytes, offset, length, vnet, flow) =>
      this.#release(bytes, offset, length, vnet, flow, 'survivor', 0),
    );
    this.secondaryLeg.unpark((bytes, offset, length, vnet) => this.#carried(bytes, offset, length, vnet));
    this.counters.drops.void += this.secondaryLeg.reset();
    this.links.client.flush();
    this.#openGate();
  }

  /** Before any frame: today's primary is on that seat, as a former run of the proxy left it. */
  startOn(carrier: Seat): void {
    this.#seat(carrier);
  }

  #seat(carrier: Seat): void {
    this.carrier = carrier;
    this.secondaryLeg.link = this.links[otherSeat(carrier)];
  }

  /** Sends a frame of the proxy's own (an announcement) to the client side. */
  announce(frame: Buffer): void {
    this.#readClock();
    if (this.#isSilent) return;
    this.links.client.send(frame, 0, frame.length, 0);
    this.links.client.flush();
  }

  // --- frames -------------------------------------------------------------------------------------------------

  #handler(side: Side, receive: (batch: FrameBatch) => void): LinkHandler {
    return {
      receive,
      stateChanged: (state, reason) => this.#events.linkChanged(side, state, reason),
      ...(side === 'client' ? { maySend: () => this.#maySpeak() } : this.comparator.slabKeeper),
    };
  }

  #fromClients(batch: FrameBatch): void {
    const nowMs = this.#readClock();
    if (this.#isSilent) {
      this.counters.drops.fenced += batch.count;
      return;
    }
    const view = this.#view;
    const { slab, offsets, lengths, vnetHeaderBytes } = batch;
    for (let index = 0; index < batch.count; index++) {
      const offset = offsets[index]!;
      const length = lengths[index]!;
      if (length < ETHERNET_HEADER_BYTES) {
        this.counters.drops.malformed++;
        continue;
      }
      if (this.guest.isOwnSource(slab, offset)) {
        this.counters.drops.loop++;
        continue;
      }
      if ((slab[offset]! & 1) !== 0 && !this.#broadcast.take(nowMs)) {
        this.counters.drops['broadcast-limit']++;
        continue;
      }
      if (this.gateClosed) {
        if (!this.gate.push(slab, offset, length, vnetHeaderBytes)) this.counters.drops['gate-full']++;
        continue;
      }
      parseFrame(slab, offset, length, vnetHeaderBytes, view);
      this.#feed(view, nowMs);
    }
    this.#flushVms();
  }

  /** Gives one client frame to the VMs it is for. */
  #feed(view: FrameView, nowMs: number): void {
    if (view.kind === FrameKind.ARP || view.kind === FrameKind.ND) this.neighbours.learn(view);
    const flow = this.comparator.flowFromClient(view, nowMs);
    if (this.mode === 'comparing') {
      this.#clientWitness?.keep(view, nowMs);
      this.comparator.fromClient(view, flow, nowMs);
      if (!this.secondaryLeg.feed(view, flow)) this.counters.undelivered[otherSeat(this.carrier)]++;
    }
    if (flow >= 0 && this.flows.hasClientTranslation(flow)) toPrimary(view, this.flows, flow);
    const carrier = this.links[this.carrier];
    if (!carrier.send(view.bytes, view.start, view.end - view.start, view.vnetHeaderBytes)) {
      this.counters.undelivered[this.carrier]++;
    }
  }

  #fromVm(seat: Seat, batch: FrameBatch): void {
    const nowMs = this.#readClock();
    this.comparator.beginBatch(batch.slab);
    if (seat === this.carrier) this.#fromCarrier(batch, nowMs);
    else this.#fromSecondary(batch, nowMs);
    this.comparator.endBatch(nowMs);
    this.links.client.flush();
  }

  #fromSecondary(batch: FrameBatch, nowMs: number): void {
    const { slab, offsets, lengths, vnetHeaderBytes } = batch;
    if (this.secondaryLeg.parking) {
      for (let index = 0; index < batch.count; index++) {
        const isParked = this.secondaryLeg.park(slab, offsets[index]!, lengths[index]!, vnetHeaderBytes);
        if (!isParked) this.counters.drops['parked-full']++;
      }
      return;
    }
    if (this.mode === 'passing') {
      this.counters.drops.void += batch.count;
      return;
    }
    for (let index = 0; index < batch.count; index++) {
      this.#compareSecondary(slab, offsets[index]!, lengths[index]!, vnetHeaderBytes, nowMs);
    }
    this.secondaryLeg.link.flush();
  }

  /** Output of the VM that carries the traffic. */
  #fromCarrier(batch: FrameBatch, nowMs: number): void {
    const { slab, offsets, lengths, vnetHeaderBytes } = batch;
    for (let index = 0; index < batch.count; index++) {
      this.#carried(slab, offsets[index]!, lengths[index]!, vnetHeaderBytes, nowMs);
    }
  }

  #carried(
    bytes: Buffer,
    offset: number,
    length: number,
    vnetHeaderBytes: VnetHeaderBytes,
    nowMs = this.#readClock(),
  ): void {
    if (length < ETHERNET_HEADER_BYTES) {
      this.counters.drops.malformed++;
      return;
    }
    const view = this.#view;
    parseFrame(bytes, offset, length, vnetHeaderBytes, view);
    this.guest.learn(view);
    const flow = this.flows.findOrAdd(view, false, nowMs);
    if (this.mode === 'comparing') {
      this.comparator.primary(view, flow, nowMs);
    } else {
      this.comparator.watch(view, flow, nowMs);
      this.#release(bytes, offset, length, vnetHeaderBytes, flow, this.#passingReason(), 0);
    }
  }

  #passingReason(): ReleaseReason {
    return this.isSurvivor ? 'survivor' : 'unprotected';
  }

  #compareSecondary(
    bytes: Buffer,
    offset: number,
    length: number,
    vnetHeaderBytes: VnetHeaderBytes,
    nowMs: number,
  ): void {
    if (length < ETHERNET_HEADER_BYTES) {
      this.counters.drops.malformed++;
      return;
    }
    const view = this.#view;
    switch (parseFrame(bytes, offset, length, vnetHeaderBytes, view)) {
      case FrameKind.ARP:
      case FrameKind.ND:
        if (this.neighbours.answer(view, this.secondaryLeg.link)) this.counters.neighbourAnswers++;
        this.counters.drops['secondary-control']++;
        return;
      case FrameKind.GROUP_MEMBERSHIP:
      case FrameKind.LINK_CONTROL:
        this.counters.drops['secondary-control']++;
        return;
      default:
        this.comparator.secondary(view, this.flows.findOrAdd(view, false, nowMs), nowMs);
    }
  }

  /** A frame leaves to the clients, in the clients' own sequence space. */
  #release(
    bytes: Buffer,
    offset: number,
    length: number,
    vnetHeaderBytes: VnetHeaderBytes,
    flow: number,
    reason: ReleaseReason,
    heldMs: number,
  ): void {
    if (this.#isSilent) {
      this.counters.drops.fenced++;
      return;
    }
    if (flow >= 0 && (this.flows.hasClientTranslation(flow) || this.flows.mayCarryOther(flow))) {
      const view = this.#releaseView;
      parseFrame(bytes, offset, length, vnetHeaderBytes, view);
      const connection = this.flows.hasClientTranslation(flow) ? flow : this.flows.find(view, false);
      if (connection >= 0 && this.flows.hasClientTranslation(connection)) {
        fromPrimary(view, this.flows, connection);
      }
    }
    this.counters.framesReleased[reason]++;
    this.counters.bytesReleased[reason] += length;
    this.counters.releaseLatency.observe(heldMs);
    if (!this.links.client.send(bytes, offset, length, vnetHeaderBytes)) this.counters.undelivered.client++;
  }

  #unpark(): void {
    const nowMs = this.#readClock();
    this.secondaryLeg.unpark((bytes, offset, length, vnet) =>
      this.#compareSecondary(bytes, offset, length, vnet, nowMs),
    );
    this.comparator.endBatch(nowMs);
    this.links.client.flush();
    this.secondaryLeg.link.flush();
  }

  #openGate(): void {
    this.gateClosed = false;
    if (this.gate.frames === 0) return;
    const nowMs = this.#readClock();
    this.gate.drainTo((bytes, offset, length, vnet) => {
      parseFrame(bytes, offset, length, vnet, this.#view);
      this.#feed(this.#view, nowMs);
    });
    this.#flushVms();
  }

  #flushVms(): void {
    this.links[this.carrier].flush();
    if (this.mode === 'comparing') this.secondaryLeg.link.flush();
  }

  /** A frame may have waited long for a slow client side: what counts is the moment it is handed to the kernel. */
  #maySpeak(): boolean {
    this.#readClock();
    return !this.#isSilent;
  }

  /** A process that was frozen past the end of its mandate is silent before its first frame, whatever wakes it. */
  #readClock(): number {
    const nowMs = this.#clock.now();
    const isSilent = nowMs >= this.#mandate.heldUntilMs;
    if (isSilent && !this.#isSilent) this.links.client.discardQueued();
    this.#isSilent = isSilent;
    return nowMs;
  }

  #tick(): void {
    const nowMs = this.#readClock();
    if (this.#lateTick.judges(nowMs)) this.comparator.tick(nowMs);
    const { loop } = this.counters.drops;
    if (loop !== this.#loopsTold) {
      this.#events.looped(loop - this.#loopsTold);
      this.#loopsTold = loop;
    }
    const { signedUntouched } = this.flows.state;
    if (signedUntouched !== this.#signedTold) {
      this.#events.signedUntranslated(signedUntouched - this.#signedTold);
      this.#signedTold = signedUntouched;
    }
    this.links.client.flush();
  }
}
