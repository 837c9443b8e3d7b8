/** A data plane for coordinator tests: writes down what it was told, in order, and answers when it may. */
import type { CheckpointMode, EpochGate } from '../../../src/checkpoint/ports.js';

type Call = Exclude<keyof EpochGate, 'untaken'>;

export class FakeGate implements EpochGate {
  readonly calls: string[] = [];
  frames = { primary: 0, secondary: 0 };
  /** Calls in this list do not resolve until `letGo`. */
  readonly stuck = new Set<Call | 'untaken'>();
  readonly broken = new Set<Call>();
  polls = 0;
  /** What each epoch was to be. */
  readonly modes: CheckpointMode[] = [];
  #waiters: Array<() => void> = [];

  closeGate = (): Promise<void> => this.#called('closeGate');
  openGate = (): Promise<void> => this.#called('openGate');
  secondaryStopped = (): Promise<void> => this.#called('secondaryStopped');
  primaryStopped = (): Promise<void> => this.#called('primaryStopped');
  commit = (mode: CheckpointMode): Promise<void> => {
    this.modes.push(mode);
    return this.#called('commit');
  };
  abandon = (): Promise<void> => this.#called('abandon');

  async untaken(): Promise<{ primary: number; secondary: number }> {
    this.polls++;
    if (this.stuck.has('untaken')) await new Promise<void>((resolve) => this.#waiters.push(resolve));
    return this.frames;
  }

  letGo(): void {
    this.stuck.clear();
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  take(): string[] {
    return this.calls.splice(0);
  }

  #called(call: Call): Promise<void> {
    this.calls.push(call);
    if (this.broken.has(call)) return Promise.reject(new Error(`${call} failed`));
    if (this.stuck.has(call)) return new Promise((resolve) => this.#waiters.push(resolve));
    return Promise.resolve();
  }
}
