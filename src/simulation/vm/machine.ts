import type { Clock } from '../../system/clock.js';
import type { Guest } from '../guest.js';
import type { NetworkDevice } from './netdev.js';

/** QEMU's RunState as `query-status` shows it, the ones a COLO pair passes through. */
export type RunState = 'prelaunch' | 'inmigrate' | 'running' | 'paused' | 'colo' | 'postmigrate' | 'shutdown';

/** What a checkpoint costs, in milliseconds of the world's clock. */
export interface MachineCosts {
  /** Reading the state out of a stopped VM. */
  readonly saveMs: number;
  /** Putting received state into a stopped VM. */
  readonly loadMs: number;
  /** Opaque bytes that travel with every state, as untouched but dirty RAM does. */
  readonly ramBytes: number;
}

export const DEFAULT_COSTS: MachineCosts = { saveMs: 1, loadMs: 1, ramBytes: 32 * 1024 };

/** The VM proper: a guest and its network devices, run and stopped together. */
export class Machine {
  readonly guest: Guest;
  readonly netdevs: readonly NetworkDevice[];
  readonly clock: Clock;
  readonly costs: MachineCosts;
  readonly event: (name: string, data?: Record<string, unknown>) => void;
  #runState: RunState;
  #alive = true;
  /** Checkpoints gone through: how often it ran on after a stop for COLO. */
  epoch = 0;

  constructor(parts: {
    guest: Guest;
    netdevs: readonly NetworkDevice[];
    clock: Clock;
    costs: MachineCosts;
    runState: RunState;
    event: (name: string, data?: Record<string, unknown>) => void;
  }) {
    this.guest = parts.guest;
    this.netdevs = parts.netdevs;
    this.clock = parts.clock;
    this.costs = parts.costs;
    this.event = parts.event;
    this.#runState = parts.runState;
  }

  get runState(): RunState {
    return this.#runState;
  }

  get running(): boolean {
    return this.#runState === 'running';
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** vm_start: emits RESUME. */
  start(): void {
    if (!this.#alive || this.running) return;
    if (this.#runState === 'colo') this.epoch++;
    this.#runState = 'running';
    this.guest.start();
    for (const netdev of this.netdevs) netdev.resume();
    this.event('RESUME');
  }

  /** vm_stop: emits STOP. Resolves when everything the guest emitted has left the VM. */
  async stop(runState: RunState): Promise<void> {
    if (this.running) {
      for (const netdev of this.netdevs) netdev.pause();
      this.guest.stop();
      this.event('STOP');
    }
    this.#runState = runState;
    await Promise.all(this.netdevs.map((netdev) => netdev.settled()));
  }

  /** kill -9. */
  kill(): void {
    this.#alive = false;
    this.#runState = 'shutdown';
    this.guest.stop();
    for (const netdev of this.netdevs) netdev.close();
  }
}
