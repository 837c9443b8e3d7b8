import { upstreamDialect } from '../../protocol/dialect-upstream.js';
import { SyncPoint } from '../../protocol/sync-point.js';
import type { Address, Transport } from '../../system/channel.js';
import type { Timer } from '../../system/clock.js';
import { sleep } from '../../system/clock.js';
import { fileBytes } from '../content.js';
import type { Machine } from './machine.js';
import { MigrationStream } from './migration-stream.js';

const CHECKPOINT_DELAY_MS_DEFAULT = 20_000;
/** The largest value the parameter takes: no checkpoints by the timer. */
const CHECKPOINT_DELAY_MS_NEVER = 4_294_967_295;

/** QEMU's MigrationStatus, as far as COLO goes. */
export type MigrationStatus = 'none' | 'setup' | 'active' | 'colo' | 'completed' | 'failed';

/**
 * The primary's migration thread (migration/colo.c: colo_process_checkpoint, colo_do_checkpoint_transaction).
 * Like QEMU's it has no time limits, and an error leaves it in COLO until it is told to fail over.
 */
export class ColoPrimary {
  readonly #machine: Machine;
  readonly #transport: Transport;
  status: MigrationStatus = 'none';
  errorText = '';
  checkpoints = 0;
  /** The next checkpoint never gets beyond this word, nor out of COLO; the monitor goes on answering. */
  hangsBefore: SyncPoint | null = null;
  /** The machine's epoch that began by leaving COLO in mid-checkpoint: the one before went on, none was loaded. */
  continuedIn = -1;
  #hangs = false;
  #mode: 'none' | 'primary' = 'none';
  #stream: MigrationStream | null = null;
  #requested = false;
  #wake: () => void = () => {};
  #delayMs = CHECKPOINT_DELAY_MS_DEFAULT;
  #timer: Timer | null = null;
  #exitEmitted = false;

  constructor(machine: Machine, transport: Transport) {
    this.#machine = machine;
    this.#transport = transport;
  }

  get mode(): 'none' | 'primary' {
    return this.#mode;
  }

  /** Runs until the migration is over or broken; never rejects. */
  async migrate(address: Address, colo: boolean): Promise<void> {
    this.#setStatus('setup');
    this.errorText = '';
    this.#exitEmitted = false;
    try {
      const channel = await this.#transport.connect(address);
      const stream = new MigrationStream(channel, 'primary', upstreamDialect);
      this.#stream = stream;
      await this.#copy(stream, colo);
      if (!colo) {
        this.#setStatus('completed');
        return;
      }
      this.#mode = 'primary';
      this.#setStatus('colo');
      await stream.expectWord(SyncPoint.READY);
      this.#machine.start();
      this.#armTimer();
      while (this.#inColo(stream)) await this.#checkpoint(stream);
    } catch (error) {
      this.#broke(error instanceof Error ? error.message : String(error));
    }
  }

  /** The primary has gone on alone before or during this wait. */
  #inColo(stream: MigrationStream): boolean {
    return this.#stream === stream && this.#mode === 'primary' && this.#machine.alive;
  }

  /** The whole state: while the VM runs for the most part, then stopped for the rest. */
  async #copy(stream: MigrationStream, colo: boolean): Promise<void> {
    this.#setStatus('active');
    await stream.sendHeader();
    await stream.sendSection(fileBytes('memory', 0, this.#machine.costs.ramBytes));
    await sleep(this.#machine.clock, this.#machine.costs.saveMs);
    await this.#machine.stop(colo ? 'colo' : 'postmigrate');
    await stream.sendSection(this.#machine.guest.snapshot());
  }

  /** Waits for a reason, then one transaction, in QEMU's order. */
  async #checkpoint(stream: MigrationStream): Promise<void> {
    const machine = this.#machine;
    while (!this.#requested) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      if (!this.#inColo(stream)) return;
    }
    await this.#reach(SyncPoint.REQUEST);
    await stream.sendWord(SyncPoint.REQUEST);
    await stream.expectWord(SyncPoint.REPLY);
    if (!this.#inColo(stream)) return;
    await machine.stop('colo');
    await this.#reach(SyncPoint.SEND);
    await stream.sendWord(SyncPoint.SEND);
    await sleep(machine.clock, machine.costs.saveMs);
    const state = machine.guest.snapshot();
    const half = state.length >>> 1;
    await stream.sendSection(fileBytes('memory', this.checkpoints, machine.costs.ramBytes));
    await stream.sendSection(state.subarray(0, half));
    await this.#reach(SyncPoint.SIZE);
    await stream.sendWord(SyncPoint.SIZE, BigInt(state.length - half));
    await stream.sendBytes(state.subarray(half));
    await stream.expectWord(SyncPoint.RECEIVED);
    this.#requested = false; // what was asked until here is covered by this checkpoint
    await stream.expectWord(SyncPoint.LOADED);
    if (!this.#inColo(stream)) return;
    this.checkpoints++;
    machine.start();
  }

  async #reach(word: SyncPoint): Promise<void> {
    if (this.hangsBefore !== word) return;
    this.#hangs = true;
    await new Promise(() => {});
  }

  /** A checkpoint as soon as the thread can; several requests before RECEIVED are one. */
  request(): void {
    if (this.#mode !== 'primary') return;
    this.#requested = true;
    this.#armTimer();
    this.#wake();
  }

  /** x-checkpoint-delay: the longest time without a checkpoint; setting it asks for one at once. */
  setDelay(delayMs: number): void {
    this.#delayMs = delayMs;
    this.request();
  }

  /** x-colo-lost-heartbeat: goes on alone. */
  failover(): void {
    if (this.#hangs) return;
    this.#mode = 'none';
    this.#leave();
    this.#setStatus('completed');
    this.#emitExit('request');
    const { epoch } = this.#machine;
    this.#machine.start();
    if (this.#machine.epoch !== epoch) this.continuedIn = this.#machine.epoch;
  }

  /** Cuts the migration channel; the thread that waits on it sees an error. */
  yank(): void {
    this.#stream?.close();
  }

  stop(): void {
    this.#mode = 'none';
    this.#leave();
  }

  #leave(): void {
    this.#timer?.cancel();
    this.#requested = false;
    const stream = this.#stream;
    this.#stream = null;
    stream?.close();
    this.#wake();
  }

  #broke(reason: string): void {
    if (!this.#machine.alive || this.status === 'completed') return;
    this.errorText = reason;
    if (this.#mode === 'primary') {
      this.#timer?.cancel();
      this.#emitExit('error'); // and waits for x-colo-lost-heartbeat, paused if it was
      return;
    }
    this.#setStatus('failed');
    this.#machine.start();
  }

  #emitExit(reason: 'request' | 'error'): void {
    if (this.#exitEmitted) return;
    this.#exitEmitted = true;
    this.#machine.event('COLO_EXIT', { mode: 'primary', reason });
  }

  #setStatus(status: MigrationStatus): void {
    this.status = status;
    this.#machine.event('MIGRATION', { status });
  }

  #armTimer(): void {
    this.#timer?.cancel();
    if (this.#delayMs >= CHECKPOINT_DELAY_MS_NEVER) return;
    this.#timer = this.#machine.clock.after(this.#delayMs, () => this.request());
  }
}
