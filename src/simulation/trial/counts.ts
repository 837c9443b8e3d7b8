/** The product's numbers against the world's own. */

import type { DivergenceReason } from '../../compare/verdict.js';
import type { Pair } from '../../pair/pair.js';
import type { DropReason, PairStatus, Side } from '../../pair/status.js';
import type { World } from '../world.js';
import { type Passage, waiting } from './passage.js';
import type { ReleasedFrames } from './released.js';

/** Both VMs have said something, and it was not the same. */
const CONTENT: readonly DivergenceReason[] = ['payload', 'length', 'flags', 'syn-options', 'retransmission'];
/** No VM of this world speaks what cannot be compared, no rule asks for a checkpoint. */
const NEVER: readonly DivergenceReason[] = ['unknown', 'rule'];

/** Over all proxies. */
type Sum = (of: (status: PairStatus) => number) => number;

/** Sums of many times are compared, each with a rounding error of its own. */
const ROUNDING_MS_A_FRAME = 1e-6;

/** Counts over all proxies that the world has had. */
export class Counts {
  readonly #world: World;
  readonly #released: ReleasedFrames;
  readonly #passage: Passage;
  readonly #pairs: Pair[];
  #carrier: string;
  #carrierChanges = 0;

  constructor(world: World, released: ReleasedFrames, passage: Passage) {
    this.#passage = passage;
    this.#world = world;
    this.#released = released;
    this.#pairs = [world.pair];
    this.#carrier = world.pair.nics.carrier;
  }

  /** After each step. */
  look(): void {
    const { pair } = this.#world;
    if (pair !== this.#pairs.at(-1)) this.#pairs.push(pair);
    const { carrier } = pair.nics;
    if (carrier === this.#carrier) return;
    this.#carrier = carrier;
    this.#carrierChanges++;
  }

  /** Null when all agree; no frame may be on its way. */
  problem(): string | null {
    const statuses = this.#pairs.map((pair) => pair.status());
    const sum: Sum = (of) => statuses.reduce((total, status) => total + of(status), 0);
    const { frames, bytes } = this.#released;
    const last = statuses.at(-1)!;
    // The links outlive the proxies: their counters go on.
    const clientDrops = last.links
      .filter((link) => link.side === 'client')
      .reduce((total, { counters }) => total + counters.sendDrops, 0);
    const refused = clientDrops - this.#passage.announcementsRefused;
    const counted = sum((status) => total(status.framesReleased)) - refused;
    if (counted !== frames) return `${counted} frames are counted as released, ${frames} were seen`;
    const countedBytes = sum((status) => total(status.bytesReleased));
    if (refused === 0 && countedBytes !== bytes) {
      return `${countedBytes} bytes are counted as released, ${bytes} were seen`;
    }
    const promoted = sum((status) => status.failovers['primary-lost']);
    if (promoted !== this.#carrierChanges) {
      return `${promoted} promotions are counted, ${this.#carrierChanges} were seen`;
    }
    return (
      this.#links(last) ??
      this.#checkpoints(sum((status) => total(status.checkpoints))) ??
      this.#drops(last, statuses) ??
      this.#waivers(sum) ??
      this.#latency(sum, refused)
    );
  }

  /**
   * Null when the divergences are those of the services that answer otherwise on each VM, `answersMax` times at most,
   * in a world where nothing else makes the VMs differ.
   */
  divergenceProblem(answersMax: number): string | null {
    const divergences = this.#pairs.map((pair) => pair.status().divergences);
    const counted = (reasons: readonly DivergenceReason[]): number =>
      divergences.reduce((all, of) => all + reasons.reduce((some, reason) => some + of[reason], 0), 0);
    const content = counted(CONTENT);
    if (content > answersMax) {
      return `${content} divergences of what the VMs said are counted, ${answersMax} answers differ`;
    }
    const never = counted(NEVER);
    return never === 0 ? null : `${never} divergences are counted for reasons that this world does not have`;
  }

  /** Every frame that came was compared, passed, waits, or was thrown away for one of the reasons. */
  #drops({ links }: PairStatus, statuses: readonly PairStatus[]): string | null {
    const dropped = (...reasons: DropReason[]): number =>
      statuses.reduce((all, { drops }) => all + reasons.reduce((some, reason) => some + drops[reason], 0), 0);
    const received = (...sides: Side[]): number =>
      links.reduce(
        (all, { side, counters }) => all + (sides.includes(side) ? counters.framesReceived : 0),
        0,
      );
    const { fromCarrier, fromOther, fromClients, uncovered } = this.#passage;
    const { gate, parked } = waiting(this.#pairs);
    const ofVms = received('primary', 'secondary') - fromCarrier - fromOther - parked;
    const ofVmsDropped = dropped('void', 'secondary-control', 'parked-full');
    if (ofVms !== ofVmsDropped) {
      return `${ofVmsDropped} frames of VMs are counted as thrown away, ${ofVms} went nowhere`;
    }
    // The rest of those that are fenced came from a VM.
    const ofClients = received('client') - fromClients - gate - dropped('gate-full', 'broadcast-limit');
    if (ofClients < 0 || ofClients > dropped('fenced')) {
      return `${dropped('fenced')} frames are counted as fenced, ${ofClients} of clients went nowhere`;
    }
    if (dropped('primary-uncovered') !== uncovered) {
      return `${dropped('primary-uncovered')} frames are counted as uncovered, ${uncovered} were held`;
    }
    // Nobody in this world sends such frames.
    const never = dropped('malformed', 'loop');
    return never === 0 ? null : `${never} frames are counted as malformed or looped`;
  }

  /** The world has no rules: the primary's link control is all that leaves uncompared. */
  #waivers(sum: Sum): string | null {
    const { frames, bytes } = this.#passage.linkControl;
    const counted = sum(({ waivers }) => waivers.reduce((all, waiver) => all + waiver.frames, 0));
    const countedBytes = sum(({ waivers }) => waivers.reduce((all, waiver) => all + waiver.bytes, 0));
    return counted === frames && countedBytes === bytes
      ? null
      : `${counted} frames (${countedBytes} bytes) are counted as waived, ${frames} (${bytes}) came`;
  }

  /** How long frames were held in all: from coming to leaving, where each one that came has left once. */
  #latency(sum: Sum, refused: number): string | null {
    const released = sum((status) => total(status.framesReleased));
    const observed = sum((status) => status.releaseLatency.count);
    if (observed !== released) return `${observed} hold times are counted of ${released} frames released`;
    const { fromCarrier, cameMs } = this.#passage;
    const lost = refused + sum(({ drops }) => drops['held-full'] + drops.fenced);
    const eachLeftOnce = released === fromCarrier && lost === 0;
    if (!eachLeftOnce || this.#pairs.length > 1 || this.#carrierChanges > 0) return null;
    const heldMs = this.#released.leftMs - cameMs;
    const toldMs = sum((status) => status.releaseLatency.sumMs);
    return Math.abs(heldMs - toldMs) <= ROUNDING_MS_A_FRAME * released
      ? null
      : `frames are said to have been held for ${toldMs} ms in all, it was ${heldMs} ms`;
  }

  /** What a link says it sent and received, against its other end. */
  #links({ links }: PairStatus): string | null {
    for (const { nic, side, counters } of links) {
      const far = this.#world.networks[nic]!.links[side][1].counters;
      if (counters.framesReceived > far.framesSent || far.framesReceived > counters.framesSent) {
        return `the ${side} link of interface ${nic} counts frames that its other end did not send or get`;
      }
    }
    return null;
  }

  /** A checkpoint that was cut off between two of the three may count or not. */
  #checkpoints(counted: number): string | null {
    const { loaded, taken } = this.#world.checkpointsSeen();
    if (taken <= counted && counted <= loaded) return null;
    return `${counted} checkpoints are counted; secondaries loaded ${loaded}, primaries went on after ${taken}`;
  }
}

function total(record: Readonly<Record<string, number>>): number {
  return Object.values(record).reduce((sum, count) => sum + count, 0);
}
