import type { Clock, Timer } from '../system/clock.js';
import {
  type Arbiter,
  type ArbiterSnapshot,
  answerWithin,
  type Claim,
  type ClaimAnswer,
  type ClaimReason,
} from './arbiter.js';

export interface MandateLimits {
  /** An answer to a claim or a renewal; later is unknown. */
  readonly claimMsMax: number;
  /** Between two attempts after a no, or no answer. */
  readonly retryMs: number;
}

export interface MandateEvents {
  /** Output may leave (again). */
  held(generation: number): void;
  /** Output has stopped, or has not begun. */
  lost(detail: string): void;
  generationChanged(generation: number): void;
}

/** Survives a structured clone. */
export interface MandateSnapshot {
  readonly generation: number;
  readonly heldUntilMs: number;
  readonly seat: Claim['seat'];
  readonly arbiter: ArbiterSnapshot;
}

/** Renewals begin after this share of the lease, so that several may fail before it ends. */
const RENEW_AFTER_SHARE = 0.25;
const RENEW_RETRY_SHARE = 0.05;

/**
 * The right of this side to let output leave. The data plane compares the clock with `heldUntilMs` before every batch:
 * a process that was frozen past its lease is silent from its first instruction on, before any timer has run.
 */
export class Mandate {
  /** Nothing may leave at or after this. */
  heldUntilMs: number;
  generation: number;
  /** Why it is not held, for people; empty while it is. */
  problem = '';
  readonly #arbiter: Arbiter;
  readonly #clock: Clock;
  readonly #limits: MandateLimits;
  readonly #events: MandateEvents;
  #renewal: Timer | null = null;
  #expiry: Timer | null = null;
  #isOver = false;
  #seat: Claim['seat'] = 'primary';
  /** One question to the arbiter at a time. */
  #asking: Promise<unknown> = Promise.resolve();

  constructor(
    arbiter: Arbiter,
    generation: number,
    clock: Clock,
    limits: MandateLimits,
    events: MandateEvents,
  ) {
    this.#arbiter = arbiter;
    this.generation = generation;
    this.#clock = clock;
    this.#limits = limits;
    this.#events = events;
    this.heldUntilMs = arbiter.leaseMs > 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }

  get kind(): Arbiter['kind'] {
    return this.#arbiter.kind;
  }

  isHeld(nowMs: number): boolean {
    return nowMs < this.heldUntilMs;
  }

  /** Where there is a lease: asks for it, now and again, until it is won. */
  start(seat: Claim['seat']): void {
    if (this.#arbiter.leaseMs > 0) void this.claim('start', seat);
  }

  /** May this side go on with that VM? False for a no and for no answer: the caller lets nothing leave. */
  async claim(reason: ClaimReason, seat: Claim['seat']): Promise<boolean> {
    if (this.#isOver) return false;
    this.#seat = seat;
    const answer = await this.#ask((signal) =>
      this.#arbiter.claim({ reason, seat, generation: this.generation }, signal),
    );
    if (this.#isOver) return false;
    if (answer.outcome === 'won' && !this.#isNext(answer.generation)) {
      return this.#denied(
        reason,
        `generation ${answer.generation} after ${this.generation}: the arbiter has forgotten`,
      );
    }
    if (answer.outcome !== 'won') return this.#denied(reason, answer.detail);
    const wasHeld = this.isHeld(this.#clock.now()) && this.problem === '' && this.generation > 0;
    this.generation = answer.generation;
    this.#events.generationChanged(answer.generation);
    this.#take(answer.heldUntilMs);
    if (!this.isHeld(this.#clock.now())) return false;
    if (!wasHeld) this.#events.held(answer.generation);
    return true;
  }

  #isNext(generation: number): boolean {
    return Number.isSafeInteger(generation) && generation > this.generation;
  }

  /** Output that has not begun does not begin; nobody else has been let go on, so what this side did it may still do. */
  #denied(reason: ClaimReason, detail: string): false {
    const isPromotion = reason !== 'start' && reason !== 'again';
    if (isPromotion) this.heldUntilMs = Number.NEGATIVE_INFINITY;
    this.#refused(detail);
    return false;
  }

  save(): MandateSnapshot {
    const { generation, heldUntilMs } = this;
    return { generation, heldUntilMs, seat: this.#seat, arbiter: this.#arbiter.save?.() ?? {} };
  }

  /** Before `resume`, in place of `start`. */
  load(from: MandateSnapshot, shiftMs: number): void {
    this.#seat = from.seat;
    this.generation = from.generation;
    this.heldUntilMs = from.heldUntilMs + shiftMs;
    this.#arbiter.load?.(from.arbiter, shiftMs);
  }

  /** Asks no more, until `resume`: another process does, with the same right. */
  pause(): void {
    this.#isOver = true;
    this.#renewal?.cancel();
    this.#expiry?.cancel();
  }

  resume(): void {
    this.#isOver = false;
    if (this.isHeld(this.#clock.now())) this.#take(this.heldUntilMs);
    else this.#refused('the lease ran out in a hot restart');
  }

  /** Gives the right back. */
  async stop(): Promise<void> {
    this.pause();
    await this.#asking;
    await this.#arbiter.release().catch(() => undefined);
  }

  #take(heldUntilMs: number): void {
    this.problem = '';
    this.heldUntilMs = heldUntilMs;
    this.#renewal?.cancel();
    this.#expiry?.cancel();
    const { leaseMs } = this.#arbiter;
    if (leaseMs === 0) return;
    const leftMs = heldUntilMs - this.#clock.now();
    this.#expiry = this.#clock.after(Math.max(0, leftMs), () => this.#expired());
    this.#renewal = this.#clock.after(leaseMs * RENEW_AFTER_SHARE, () => void this.#renew());
  }

  async #renew(): Promise<void> {
    if (this.#isOver) return;
    const answer = await this.#ask((signal) => this.#arbiter.renew(signal));
    if (this.#isOver || !this.isHeld(this.#clock.now())) return;
    if (answer.outcome === 'won') {
      this.#take(answer.heldUntilMs);
    } else if (answer.outcome === 'lost') {
      this.heldUntilMs = Number.NEGATIVE_INFINITY;
      this.#refused(answer.detail);
    } else {
      this.problem = '';
      this.#renewal = this.#clock.after(this.#arbiter.leaseMs * RENEW_RETRY_SHARE, () => void this.#renew());
    }
  }

  #expired(): void {
    if (this.#isOver || this.isHeld(this.#clock.now())) return;
    this.#refused('the lease ran out before the arbiter answered');
  }

  #refused(detail: string): void {
    const isNew = this.problem !== detail;
    this.problem = detail;
    if (this.#arbiter.leaseMs > 0 && !this.isHeld(this.#clock.now())) {
      this.#renewal?.cancel();
      this.#renewal = this.#clock.after(this.#limits.retryMs, () => void this.claim('again', this.#seat));
    }
    if (isNew) this.#events.lost(detail);
  }

  #ask(question: (signal: AbortSignal) => Promise<ClaimAnswer>): Promise<ClaimAnswer> {
    // A claim may have to watch another's lease run out.
    const msMax = this.#limits.claimMsMax + 2 * this.#arbiter.leaseMs;
    const answer = this.#asking.then(() => answerWithin(this.#clock, msMax, question));
    this.#asking = answer;
    return answer;
  }
}
