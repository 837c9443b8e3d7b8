/** When the next checkpoint is taken: what is wanted, the least distance, the interval, and the plan that sets them. */
import { ColoError } from '../errors.js';
import type { Clock, Timer } from '../system/clock.js';
import type { CheckpointRequest } from './checkpoint-request.js';
import type { CheckpointPlan } from './coordinator-contract.js';
import type { CheckpointLimits } from './limits.js';
import { PlanKeeper } from './plan.js';
import type { CheckpointCause, CheckpointMode, CheckpointRecord } from './ports.js';

/** What only comparing asks for; in a periodic epoch the next checkpoint covers it anyway. */
export const CAUSES_OF_COMPARING: readonly CheckpointCause[] = ['divergence', 'one-sided'];

export interface ScheduleEvents {
  /** May a checkpoint begin now? If not, `pursue` is called when one may. */
  isFree(): boolean;
  /** Its time has come. The schedule has forgotten it. */
  begin(request: CheckpointRequest): void;
  /** The interval is over. */
  periodOver(): void;
  modeChanged(plan: CheckpointPlan, why: string): void;
}

export class Schedule {
  readonly #clock: Clock;
  readonly #limits: CheckpointLimits;
  readonly #events: ScheduleEvents;
  readonly #keeper: PlanKeeper;
  /** In force for the present epoch. */
  #plan: CheckpointPlan;
  #wanted: CheckpointRequest | undefined;
  #wantedTimer: Timer | undefined;
  #periodTimer: Timer | undefined;
  #notBeforeMs = 0;
  #loadedAtMs = 0;

  constructor(clock: Clock, limits: CheckpointLimits, events: ScheduleEvents) {
    this.#clock = clock;
    this.#limits = limits;
    this.#events = events;
    this.#keeper = new PlanKeeper(limits);
    this.#plan = this.#keeper.plan;
  }

  /** Of the present epoch. */
  get plan(): CheckpointPlan {
    return this.#plan;
  }

  /** Of the next one. */
  get nextPlan(): CheckpointPlan {
    return this.#keeper.plan;
  }

  get isAdapted(): boolean {
    return this.#keeper.isAdapted;
  }

  get wanted(): CheckpointRequest | undefined {
    return this.#wanted;
  }

  /** Throws COLO_ERR_USAGE; see PlanKeeper.choose. */
  choose(change: { readonly mode?: CheckpointMode; readonly periodMs?: number }): void {
    this.#keeper.choose(change, this.#clock.now());
  }

  want(request: CheckpointRequest): void {
    this.#wanted = request;
    this.pursue();
  }

  /** Wanted again after an attempt that came to nothing. */
  putOff(request: CheckpointRequest): void {
    const { distanceMsMin, quiescePollMs } = this.#limits;
    this.#notBeforeMs = this.#clock.now() + Math.max(distanceMsMin, quiescePollMs);
    this.want(request);
  }

  /** Begins what is wanted as soon as nothing runs and the distance is kept. */
  pursue(): void {
    if (this.#wanted === undefined || !this.#events.isFree()) return;
    const delayMs = Math.max(0, this.#notBeforeMs - this.#clock.now());
    this.#wantedTimer?.cancel();
    this.#wantedTimer = this.#clock.after(delayMs, () => {
      if (!this.#events.isFree()) return;
      const request = this.take();
      if (request !== undefined) this.#events.begin(request);
    });
  }

  /** What is wanted, if anything; from now on it is not wanted any more. */
  take(): CheckpointRequest | undefined {
    const request = this.#wanted;
    this.#wanted = undefined;
    this.#wantedTimer?.cancel();
    return request;
  }

  /** A migration begins: what was known of the old secondary's output says nothing. */
  restart(): void {
    this.#keeper.restart(this.#clock.now());
    this.#plan = this.#keeper.plan;
  }

  /** The plan without a pair is the next epoch's. */
  followAtOnce(): void {
    this.#plan = this.#keeper.plan;
  }

  /** An epoch has begun under `plan`. */
  follow(plan: CheckpointPlan): void {
    const { mode, periodMs } = this.#plan;
    if (plan.mode === mode && plan.periodMs === periodMs) return;
    this.#plan = plan;
    this.#events.modeChanged(plan, this.#keeper.why);
  }

  /** A checkpoint has been loaded: distance and interval count from there. */
  loaded(record: CheckpointRecord): void {
    const { cause, requestedAtMs, loadedAtMs, pauseMs } = record;
    const diverged = CAUSES_OF_COMPARING.includes(cause) || cause === 'limit';
    this.#keeper.loaded(diverged, requestedAtMs - this.#loadedAtMs, pauseMs, this.#clock.now());
    this.#loadedAtMs = loadedAtMs;
    this.#notBeforeMs = loadedAtMs + this.#distanceMs();
  }

  armPeriod(): void {
    this.#periodTimer?.cancel();
    // Another mode waits only for a checkpoint to come into force.
    const isDue = this.nextPlan.mode !== this.#plan.mode;
    const periodMs = isDue ? 1 : this.nextPlan.periodMs;
    if (periodMs > 0) this.#periodTimer = this.#clock.after(periodMs, () => this.#events.periodOver());
  }

  /** Nothing is wanted any more: who waits is told. */
  forget(): void {
    this.take()?.failed(brokenPair());
  }

  reset(): void {
    this.forget();
    this.#periodTimer?.cancel();
    this.#notBeforeMs = 0;
  }

  /** The least distance between two checkpoints; a shorter interval was asked for knowingly. */
  #distanceMs(): number {
    const { mode, periodMs } = this.#plan;
    const { distanceMsMin } = this.#limits;
    return mode === 'periodic' ? Math.min(distanceMsMin, periodMs) : distanceMsMin;
  }
}

export function brokenPair(): ColoError {
  return new ColoError('COLO_ERR_CHECKPOINT', 'the pair broke before the checkpoint was loaded');
}
