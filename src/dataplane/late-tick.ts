/** Twice a tick's period: what comes later was kept from running. */
const LATE_PERIODS = 2;

/**
 * Timers come before sockets: the first tick of a process that was kept from running (other processes, the collector)
 * would find frames that have waited too long for what is there and only unread. It does not judge them; the next one
 * does, after the sockets were read, late or not.
 */
export class LateTick {
  readonly #lateMs: number;
  #lastMs = Number.POSITIVE_INFINITY;
  #passedOver = false;

  constructor(periodMs: number) {
    this.#lateMs = LATE_PERIODS * periodMs;
  }

  /** Asked once a tick: whether waits are judged in it. */
  judges(nowMs: number): boolean {
    this.#passedOver = !this.#passedOver && nowMs - this.#lastMs > this.#lateMs;
    this.#lastMs = nowMs;
    return !this.#passedOver;
  }
}
