/** The product's numbers against the world's own. */
import type { Pair } from '../../pair/pair.js';
import type { PairStatus } from '../../pair/status.js';
import type { World } from '../world.js';
import type { ReleasedFrames } from './released.js';

/** Counts over all proxies that the world has had. */
export class Counts {
  readonly #world: World;
  readonly #released: ReleasedFrames;
  readonly #pairs: Pair[];
  #carrier: string;
  #carrierChanges = 0;

  constructor(world: World, released: ReleasedFrames) {
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
    const sum = (of: (status: PairStatus) => number): number =>
      statuses.reduce((total, status) => total + of(status), 0);
    const { frames, bytes } = this.#released;
    const last = statuses.at(-1)!;
    // The links outlive the proxies: their counters go on.
    const refused = last.links
      .filter((link) => link.side === 'client')
      .reduce((total, { counters }) => total + counters.sendDrops, 0);
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
    return this.#links(last) ?? this.#checkpoints(sum((status) => total(status.checkpoints)));
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
