import type { Clock, Timer } from '../system/clock.js';

/** A clock whose timers can all be cancelled at once: what waits on it then waits for ever and holds nothing open. */
export class ClosableClock implements Clock {
  readonly #clock: Clock;
  readonly #timers = new Set<Timer>();
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  wallMs(): number {
    return this.#clock.wallMs();
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer: Timer = this.#closed
      ? { cancel() {} }
      : this.#clock.after(delayMs, () => {
          this.#timers.delete(kept);
          callback();
        });
    const kept = this.#keep(timer);
    return kept;
  }

  every(periodMs: number, callback: () => void): Timer {
    return this.#keep(this.#closed ? { cancel() {} } : this.#clock.every(periodMs, callback));
  }

  close(): void {
    this.#closed = true;
    for (const timer of [...this.#timers]) timer.cancel();
  }

  #keep(timer: Timer): Timer {
    const kept: Timer = {
      cancel: () => {
        this.#timers.delete(kept);
        timer.cancel();
      },
    };
    this.#timers.add(kept);
    return kept;
  }
}
