import type { Arbiter, ClaimAnswer } from '../failover/arbiter.js';
import type { ManualClock } from '../system/manual-clock.js';

const LEASE_MS = 1000;
const MARGIN_MS = 100;
const ANSWER_MS = 2;

/**
 * A world's arbiter: one right with a lease, asked over a network. It can crash: then nobody gets an answer. It knows,
 * and nobody else does, until when which process may speak.
 */
export class LeaseArbiter {
  /** False: down, and it has forgotten nothing. */
  isUp = true;
  readonly #clock: ManualClock;
  #generation = 0;
  #holder = 0;
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  /** May that process let anything leave at this moment? */
  allows(process: number): boolean {
    return this.#holder === process && this.#clock.now() < this.#heldUntilMs;
  }

  /** What a process sees of it. */
  for(process: number): Arbiter {
    return {
      kind: 'etcd',
      leaseMs: LEASE_MS,
      claim: ({ generation }, signal) =>
        this.#ask(signal, (askedAtMs) => {
          if (generation < this.#generation && this.#holder !== process && this.#isHeld()) {
            return { outcome: 'lost', detail: `process ${this.#holder} rules` };
          }
          if (this.#isHeld() && this.#holder !== process)
            return { outcome: 'unknown', detail: 'a lease runs' };
          this.#generation = Math.max(this.#generation, generation) + 1;
          return this.#grant(process, askedAtMs);
        }),
      renew: (signal) =>
        this.#ask(signal, (askedAtMs) =>
          this.allows(process) ? this.#grant(process, askedAtMs) : { outcome: 'lost', detail: 'it ran out' },
        ),
      release: async () => {
        if (this.#holder === process) this.#heldUntilMs = Number.NEGATIVE_INFINITY;
      },
    };
  }

  #isHeld(): boolean {
    return this.#clock.now() < this.#heldUntilMs;
  }

  #grant(process: number, askedAtMs: number): ClaimAnswer {
    this.#holder = process;
    this.#heldUntilMs = this.#clock.now() + LEASE_MS;
    const heldUntilMs = askedAtMs + LEASE_MS - MARGIN_MS; // from before the question, on the asker's side
    return { outcome: 'won', generation: this.#generation, heldUntilMs };
  }

  #ask(signal: AbortSignal, answer: (askedAtMs: number) => ClaimAnswer): Promise<ClaimAnswer> {
    const askedAtMs = this.#clock.now();
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.#clock.after(ANSWER_MS, () => {
        if (this.isUp) resolve(answer(askedAtMs));
      });
    });
  }
}
