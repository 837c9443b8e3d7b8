import { showAddress } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';
import type { DiskReplication } from './disk-replication.js';
import type { PairParts } from './parts.js';
import type { Vm } from './vm.js';

/** How far the first copy of the primary is: first its disks, if any are configured, then its memory. */
export interface CopyProgress {
  readonly stage: 'disks' | 'memory';
  /** Of this stage; both 0 until QEMU says. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** From what it has managed so far; null while nothing can be said. */
  readonly msLeft: number | null;
}

/** 0 to 1, of the present stage. */
export function copyShare({ bytesDone, bytesTotal }: CopyProgress): number {
  return bytesTotal === 0 ? 0 : Math.min(1, bytesDone / bytesTotal);
}

/** The migration that makes a fresh secondary the copy of the primary. */
export class InitialCopy {
  progress: CopyProgress | null = null;
  readonly #parts: PairParts;
  readonly #clock: Clock;
  readonly #disks: DiskReplication | null;
  #beganMs = 0;
  #timer: Timer | null = null;

  constructor(parts: PairParts, disks: DiskReplication | null) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#disks = disks;
  }

  /** Resolves when it has begun; rejects when a VM refuses. May be tried again with another secondary. */
  async begin(primary: Vm, secondary: Vm): Promise<void> {
    if (this.#disks === null) return this.#beginMemory(primary, secondary);
    this.#enter('disks');
    await this.#disks.begin(primary.monitor, secondary.monitor, secondary.seat);
  }

  #enter(stage: CopyProgress['stage']): void {
    this.#beganMs = this.#clock.now();
    this.progress = { stage, bytesDone: 0, bytesTotal: 0, msLeft: null };
  }

  async #beginMemory(primary: Vm, secondary: Vm): Promise<void> {
    const { listen, connect } = this.#parts.migration;
    const bandwidth = this.#parts.limits.bandwidthBytesPerSecondMax;
    this.#enter('memory');
    await secondary.enableColo('secondary', bandwidth);
    await primary.enableColo('primary', bandwidth);
    await secondary.listenForState(showAddress(connect[secondary.seat]));
    await primary.migrateTo(showAddress(listen));
  }

  /** Calls `look` once, soon. */
  watch(look: () => void): void {
    this.stop();
    this.#timer = this.#clock.after(this.#parts.limits.protectRetryMs, look);
  }

  /** Looks how far it is, and goes on from the disks to the memory. What went wrong, or null. */
  async advance(primary: Vm, secondary: Vm): Promise<string | null> {
    if (this.progress?.stage === 'disks') {
      const { bytesDone, bytesTotal, isReady } = await this.#disks!.progress(primary.monitor);
      this.#advanced(bytesDone, bytesTotal);
      if (!isReady) return null;
      await this.#disks!.couple(primary.monitor, secondary.seat);
      await this.#beginMemory(primary, secondary);
      return null;
    }
    // A migration may fail, or end silently as a plain one.
    const { status, errorText, bytesDone, bytesTotal } = await primary.migration();
    this.#advanced(bytesDone, bytesTotal);
    if (status !== 'failed' && status !== 'completed' && status !== 'cancelled') return null;
    const what = status === 'completed' ? 'ended as a plain migration, not as COLO' : status;
    return `the migration ${what} ${errorText}`.trim();
  }

  #advanced(bytesDone: number, bytesTotal: number): void {
    if (this.progress === null) return;
    const ms = this.#clock.now() - this.#beganMs;
    const msLeft = bytesDone > 0 ? Math.round((ms * Math.max(0, bytesTotal - bytesDone)) / bytesDone) : null;
    this.progress = { ...this.progress, bytesDone, bytesTotal, msLeft };
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
