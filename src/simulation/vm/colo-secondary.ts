import { upstreamDialect } from '../../protocol/dialect-upstream.js';
import { SyncPoint } from '../../protocol/sync-point.js';
import type { Address, ChannelServer, DuplexChannel, Transport } from '../../system/channel.js';
import { sleep } from '../../system/clock.js';
import type { MigrationStatus } from './colo-primary.js';
import type { Machine } from './machine.js';
import { MigrationStream } from './migration-stream.js';

/**
 * The secondary's incoming thread (migration/colo.c: colo_process_incoming_thread,
 * colo_incoming_process_checkpoint): it runs on its own between checkpoints, and whatever it became is
 * overwritten by each.
 */
export class ColoSecondary {
  readonly #machine: Machine;
  readonly #transport: Transport;
  readonly #exit: () => void;
  status: MigrationStatus = 'none';
  #mode: 'none' | 'secondary' = 'none';
  #server: ChannelServer | null = null;
  #stream: MigrationStream | null = null;
  /** Checkpoints whose LOADED it has sent. */
  loaded = 0;
  #loading = false;
  /** Told to fail over while loading: QEMU finishes the load first (FAILOVER_STATUS_RELAUNCH). */
  #failoverAfterLoad = false;

  /** @param exit ends the process, as QEMU does when an incoming migration fails before COLO. */
  constructor(machine: Machine, transport: Transport, exit: () => void) {
    this.#machine = machine;
    this.#transport = transport;
    this.#exit = exit;
  }

  get mode(): 'none' | 'secondary' {
    return this.#mode;
  }

  /** Waits for one migration. Rejects when the address cannot be listened on. */
  async listen(address: Address): Promise<void> {
    this.#setStatus('setup');
    const server = await this.#transport.listen(address, (channel) => this.#accept(channel));
    this.#server = server;
    if (!this.#machine.alive) await server.close();
  }

  /** x-colo-lost-heartbeat: goes on from what it is, or from what it is just loading. */
  async failover(): Promise<void> {
    if (this.#loading) {
      this.#failoverAfterLoad = true;
      return;
    }
    this.#mode = 'none';
    this.#leave();
    await this.#machine.stop('paused');
    this.#setStatus('completed');
    this.#machine.start();
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
    void this.#server?.close();
    this.#server = null;
    const stream = this.#stream;
    this.#stream = null;
    stream?.close();
  }

  #accept(channel: DuplexChannel): void {
    void this.#server?.close(); // one migration: QEMU stops listening once it has come
    this.#server = null;
    if (this.#stream !== null) {
      channel.destroy();
      return;
    }
    const stream = new MigrationStream(channel, 'secondary', upstreamDialect);
    this.#stream = stream;
    void this.#run(stream);
  }

  async #run(stream: MigrationStream): Promise<void> {
    try {
      this.#setStatus('active');
      await stream.expectHeader();
      await stream.takeSection();
      const state = await stream.takeSection();
      await sleep(this.#machine.clock, this.#machine.costs.loadMs);
      if (!this.#isOurs(stream)) return;
      this.#machine.guest.restore(state);
      this.#mode = 'secondary';
      this.#setStatus('colo');
      this.#machine.start();
      await stream.sendWord(SyncPoint.READY);
      while (this.#isOurs(stream)) await this.#checkpoint(stream);
    } catch {
      this.#broke(stream); // the channel is gone, or its peer spoke out of turn
    }
  }

  async #checkpoint(stream: MigrationStream): Promise<void> {
    const machine = this.#machine;
    await stream.expectWord(SyncPoint.REQUEST);
    await machine.stop('colo');
    await stream.sendWord(SyncPoint.REPLY);
    await stream.expectWord(SyncPoint.SEND);
    await stream.takeSection();
    const first = await stream.takeSection();
    const sizeBytes = await stream.expectWord(SyncPoint.SIZE);
    const rest = await stream.takeBytes(sizeBytes ?? 0n);
    await stream.sendWord(SyncPoint.RECEIVED);
    if (!this.#isOurs(stream)) return;
    this.#loading = true;
    await sleep(machine.clock, machine.costs.loadMs);
    this.#loading = false;
    if (!machine.alive) return;
    machine.guest.restore(Buffer.concat([first, rest]));
    if (this.#failoverAfterLoad) {
      await this.failover();
      return;
    }
    machine.start();
    this.loaded++;
    await stream.sendWord(SyncPoint.LOADED);
  }

  #isOurs(stream: MigrationStream): boolean {
    return this.#stream === stream && this.#machine.alive;
  }

  /** Runs on as it is, or stays stopped, until it is told what to do. */
  #broke(stream: MigrationStream): void {
    if (!this.#isOurs(stream)) return;
    if (this.#mode === 'secondary') {
      this.#machine.event('COLO_EXIT', { mode: 'secondary', reason: 'error' });
      return;
    }
    this.#setStatus('failed');
    this.#exit();
  }

  #setStatus(status: MigrationStatus): void {
    this.status = status;
    this.#machine.event('MIGRATION', { status });
  }
}
