import { showAddress } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';
import type { PairParts } from './parts.js';
import type { Vm } from './vm.js';

/** How far the first copy of the primary's memory is; both 0 until QEMU says. */
export interface CopyProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** From what it has managed so far; null while nothing can be said. */
  readonly msLeft: number | null;
}

/** The migration that makes a fresh secondary the copy of the primary. */
export class InitialCopy {
  progress: CopyProgress | null = null;
  readonly #parts: PairParts;
  readonly #clock: Clock;
  #beganMs = 0;
  #timer: Timer | null = null;

  constructor(parts: PairParts) {
    this.#parts = parts;
    this.#clock = parts.clock;
  }

  /** Resolves when it has begun; rejects when a VM refuses. May be tried again with another secondary. */
  async begin(primary: Vm, secondary: Vm): Promise<void> {
    const { listen, connect } = this.#parts.migration;
    const bandwidth = this.#parts.limits.bandwidthBytesPerSecondMax;
    this.#beganMs = this.#clock.now();
    this.progress = { bytesDone: 0, bytesTotal: 0, msLeft: null };
    await secondary.enableColo('secondary', bandwidth);
    await primary.enableColo('primary', bandwidth);
    await secondary.listenForState(showAddress(connect[secondary.seat]));
    await primary.migrateTo(showAddress(listen));
  }

  /** Calls `look` now and again until `stop`. */
  watch(look: () => void): void {
    this.stop();
    this.#timer = this.#clock.after(this.#parts.limits.protectRetryMs, look);
  }

  /** A migration may fail, or end silently as a plain one: QMP tells. What went wrong, or null. */
  async problem(primary: Vm): Promise<string | null> {
    const { status, errorText, bytesDone, bytesTotal } = await primary.migration();
    const ms = this.#clock.now() - this.#beganMs;
    const msLeft = bytesDone > 0 ? Math.round((ms * Math.max(0, bytesTotal - bytesDone)) / bytesDone) : null;
    this.progress = { bytesDone, bytesTotal, msLeft };
    if (status !== 'failed' && status !== 'completed' && status !== 'cancelled') return null;
    const what = status === 'completed' ? 'ended as a plain migration, not as COLO' : status;
    return `the migration ${what} ${errorText}`.trim();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** The copy is there, or was given up. */
  end(): void {
    this.stop();
    this.progress = null;
  }
}
