/** One data plane between three memory links, whose other ends the test holds. */
import { DEFAULT_COMPARE_LIMITS, type Divergence } from '../../../src/compare/verdict.js';
import { DataPlane, type DataPlaneLimits, type DataPlaneParts } from '../../../src/dataplane/data-plane.js';
import type { FrameBatch } from '../../../src/link/link.js';
import { type MemoryLink, memoryLinkPair } from '../../../src/link/memory-link.js';
import { ManualClock } from '../../../src/system/manual-clock.js';

export type Seat = 'client' | 'primary' | 'secondary';
const SEATS: readonly Seat[] = ['client', 'primary', 'secondary'];

export class Rig {
  readonly clock = new ManualClock();
  readonly plane: DataPlane;
  readonly divergences: Divergence[] = [];
  loops = 0;
  /** Signed segments told of. */
  signed = 0;
  /** What arrived at the far end of each link, in order. */
  readonly received: Record<Seat, Buffer[]> = { client: [], primary: [], secondary: [] };
  readonly #far = {} as Record<Seat, MemoryLink>;

  constructor(limits: Partial<DataPlaneLimits> = {}, parts: Pick<DataPlaneParts, 'clientWitness'> = {}) {
    const near = {} as Record<Seat, MemoryLink>;
    for (const seat of SEATS) [near[seat], this.#far[seat]] = memoryLinkPair({ name: seat });
    this.plane = new DataPlane({
      ...parts,
      links: near,
      clock: this.clock,
      limits: {
        gate: { framesMax: 100, bytesMax: 1 << 20 },
        parked: { framesMax: 100, bytesMax: 1 << 20 },
        broadcastPerSecondMax: 1000,
        compare: DEFAULT_COMPARE_LIMITS,
        ...limits,
      },
      flowSeed: 1,
      events: {
        diverged: (divergence) => this.divergences.push(divergence),
        linkChanged() {},
        signedUntranslated: (segments) => {
          this.signed += segments;
        },
        looped: (frames) => {
          this.loops += frames;
        },
      },
    });
  }

  async open(): Promise<this> {
    for (const seat of SEATS) {
      await this.#far[seat].open({
        receive: (batch: FrameBatch) => {
          for (let index = 0; index < batch.count; index++) {
            const start = batch.offsets[index]!;
            this.received[seat].push(Buffer.from(batch.slab.subarray(start, start + batch.lengths[index]!)));
          }
        },
        stateChanged() {},
      });
    }
    await this.plane.open();
    return this;
  }

  /** Sends frames from the far end of a link, as one batch. */
  from(seat: Seat, ...frames: Buffer[]): void {
    for (const frame of frames) this.#far[seat].send(frame, 0, frame.length, 0);
    this.#far[seat].flush();
  }

  setReading(seat: Seat, isReading: boolean): void {
    this.#far[seat].setReading(isReading);
  }

  /** What arrived since the last call. */
  take(seat: Seat): Buffer[] {
    return this.received[seat].splice(0);
  }

  /** One whole checkpoint in which nothing is sent. */
  async checkpoint(): Promise<void> {
    await this.plane.closeGate();
    await this.plane.secondaryStopped();
    await this.plane.primaryStopped();
    await this.plane.commit();
    await this.plane.openGate();
  }
}
