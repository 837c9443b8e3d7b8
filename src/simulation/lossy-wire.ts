import type { Clock } from '../system/clock.js';
import type { Random } from './random.js';
import { below, chance } from './random.js';

/** What a wire does to frames. Probabilities from 0 to 1. */
export interface WireFaults {
  readonly delayMs: number;
  /** Each frame's own extra delay, up to this: frames overtake each other. */
  readonly jitterMs: number;
  readonly loss: number;
  readonly duplication: number;
  /** One bit of the frame turns over. */
  readonly corruption: number;
}

export const CLEAN_WIRE: WireFaults = { delayMs: 0.1, jitterMs: 0, loss: 0, duplication: 0, corruption: 0 };

/** One direction of a cable: what `send` is given arrives later, damaged as told, never within the call. */
export class LossyWire {
  faults: WireFaults;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #deliver: (frame: Buffer) => void;

  constructor(clock: Clock, random: Random, faults: WireFaults, deliver: (frame: Buffer) => void) {
    this.#clock = clock;
    this.#random = random;
    this.faults = faults;
    this.#deliver = deliver;
  }

  /** Takes a copy of the frame. */
  send(frame: Buffer): void {
    if (chance(this.#random, this.faults.loss)) return;
    const copies = chance(this.#random, this.faults.duplication) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const bytes = Buffer.from(frame);
      if (chance(this.#random, this.faults.corruption)) {
        bytes[below(this.#random, bytes.length)]! ^= 1 << below(this.#random, 8);
      }
      const delayMs = this.faults.delayMs + (below(this.#random, 1000) / 1000) * this.faults.jitterMs;
      this.#clock.after(delayMs, () => this.#deliver(bytes));
    }
  }
}
