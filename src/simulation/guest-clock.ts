import type { Clock, Timer } from '../system/clock.js';

/** A deadline ahead is at least this far ahead: a rounding error of time would be waited for without end. */
const STEP_MS_MIN = 0.001;

/**
 * The time a machine itself sees: it stands still while the machine is stopped, and a checkpoint sets it. One
 * deadline at a time is kept; whatever the machine waits for is in its state, never in a timer.
 */
export class GuestClock {
  readonly #clock: Clock;
  readonly #due: () => void;
  #baseMs = 0;
  #startedAtMs = 0;
  #running = false;
  #timer: Timer | null = null;
  #armedForMs = Number.POSITIVE_INFINITY;
  readonly #rate: number;

  /**
   * @param due called when the armed deadline has come, while running.
   * @param rate how fast this host's clock runs: what it says comes with the state, how it goes on is the host's.
   */
  constructor(clock: Clock, due: () => void, rate = 1) {
    this.#clock = clock;
    this.#due = due;
    this.#rate = rate;
  }

  get running(): boolean {
    return this.#running;
  }

  nowMs(): number {
    return this.#running ? this.#baseMs + (this.#clock.now() - this.#startedAtMs) * this.#rate : this.#baseMs;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#startedAtMs = this.#clock.now();
    this.#rearm();
  }

  stop(): void {
    this.#baseMs = this.nowMs();
    this.#running = false;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Moves a stopped machine to another time: that of the state it has loaded. */
  set(nowMs: number): void {
    this.#baseMs = nowMs;
    this.#startedAtMs = this.#clock.now();
  }

  /** Asks for `due` at the given time; replaces what was asked before. Infinity: not at all. */
  wakeAt(deadlineMs: number): void {
    if (deadlineMs === this.#armedForMs && this.#timer !== null) return;
    this.#armedForMs = deadlineMs;
    if (this.#running) this.#rearm();
  }

  #rearm(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#armedForMs === Number.POSITIVE_INFINITY) return;
    const delayMs = (this.#armedForMs - this.nowMs()) / this.#rate;
    this.#timer = this.#clock.after(delayMs > 0 ? Math.max(STEP_MS_MIN, delayMs) : 0, () => {
      this.#timer = null;
      if (this.#running) this.#due();
    });
  }
}
