import type { SyncPoint } from '../../protocol/sync-point.js';
import type { QmpObject } from '../../qmp/framing.js';
import type { Address, Transport } from '../../system/channel.js';
import type { Clock } from '../../system/clock.js';
import type { GuestOptions } from '../guest.js';
import { Guest } from '../guest.js';
import type { HostAddresses } from '../neighbour-table.js';
import { ColoPrimary } from './colo-primary.js';
import { ColoSecondary } from './colo-secondary.js';
import type { MachineCosts } from './machine.js';
import { DEFAULT_COSTS, Machine } from './machine.js';
import { parseCapabilities, parseCheckpointDelay, parseMigrationUri } from './monitor-commands.js';
import type { NetworkDevice } from './netdev.js';
import type { QemuVersionTriple } from './qmp-server.js';
import { QmpRefusal, QmpServer } from './qmp-server.js';

export interface ScriptedVmOptions {
  readonly clock: Clock;
  readonly transport: Transport;
  readonly qmp: Address;
  readonly netdev: NetworkDevice;
  /** Beside the first, whose addresses are in `guest`. */
  readonly moreNics?: readonly { readonly netdev: NetworkDevice; readonly addresses: HostAddresses }[];
  /** Given: starts as `-incoming` does and waits for a state. `defer`: until migrate-incoming says where. */
  readonly incoming?: Address | 'defer';
  readonly guest: Omit<GuestOptions, 'clock' | 'transmit' | 'moreNics'>;
  readonly costs?: Partial<MachineCosts>;
  readonly version?: QemuVersionTriple;
}

type LastMode = 'none' | 'primary' | 'secondary';

/**
 * What looks like a QEMU process from outside: a guest behind a network device, a QMP monitor and a migration
 * thread that speaks the COLO protocol. Scripted where QEMU emulates; the outside is QEMU's.
 */
export class ScriptedVm {
  readonly guest: Guest;
  readonly #machine: Machine;
  readonly #netdevs: readonly NetworkDevice[];
  readonly #options: ScriptedVmOptions;
  readonly #monitor: QmpServer;
  readonly #primary: ColoPrimary;
  readonly #secondary: ColoSecondary;
  readonly #capabilities = new Map<string, boolean>();
  #incoming: 'none' | 'deferred' | 'listening';
  #lastMode: LastMode = 'none';

  constructor(options: ScriptedVmOptions) {
    this.#options = options;
    const { clock, transport, netdev, moreNics = [] } = options;
    this.#netdevs = [netdev, ...moreNics.map((nic) => nic.netdev)];
    this.guest = new Guest({
      ...options.guest,
      clock,
      transmit: (frame) => netdev.send(frame),
      moreNics: moreNics.map((nic) => ({
        addresses: nic.addresses,
        transmit: (frame) => nic.netdev.send(frame),
      })),
    });
    this.#monitor = new QmpServer({
      transport,
      clock,
      address: options.qmp,
      version: options.version ?? { major: 7, minor: 2, micro: 22 },
      command: (name, args) => this.#command(name, args),
    });
    this.#machine = new Machine({
      guest: this.guest,
      netdevs: this.#netdevs,
      clock,
      costs: { ...DEFAULT_COSTS, ...options.costs },
      runState: options.incoming === undefined ? 'prelaunch' : 'inmigrate',
      event: (name, data) => this.#event(name, data),
    });
    this.#primary = new ColoPrimary(this.#machine, transport);
    this.#secondary = new ColoSecondary(this.#machine, transport, () => this.kill());
    this.#incoming = options.incoming === undefined ? 'none' : 'deferred';
  }

  get alive(): boolean {
    return this.#machine.alive;
  }

  get running(): boolean {
    return this.#machine.running;
  }

  get mode(): LastMode {
    return this.#primary.mode === 'primary' ? 'primary' : this.#secondary.mode;
  }

  /** How often it ran on after a stop for a checkpoint. */
  get epoch(): number {
    return this.#machine.epoch;
  }

  /** See ColoPrimary.continuedIn. */
  get continuedIn(): number {
    return this.#primary.continuedIn;
  }

  /** See ColoPrimary.hangsBefore. */
  hangInCheckpoint(before: SyncPoint): void {
    this.#primary.hangsBefore = before;
  }

  /** Checkpoints this VM has completed as primary. */
  get checkpoints(): number {
    return this.#primary.checkpoints;
  }

  /** Checkpoints this VM has loaded as secondary. */
  get loaded(): number {
    return this.#secondary.loaded;
  }

  /** Opens every socket; without `incoming` the guest begins to run. */
  async open(): Promise<void> {
    const { incoming } = this.#options;
    for (const [nic, netdev] of this.#netdevs.entries()) {
      netdev.pause();
      const stack = this.guest.stacks[nic]!;
      await netdev.open((bytes, offset, length) => stack.receive(bytes, offset, length));
    }
    await this.#monitor.open();
    if (incoming === undefined) this.#machine.start();
    else if (incoming !== 'defer') await this.#listen(incoming);
  }

  /** What the monitor's `stop` does. Resolves when everything the guest emitted has left the VM. */
  stop(): Promise<void> {
    return this.#machine.stop('paused');
  }

  /** What the monitor's `cont` does. */
  cont(): void {
    this.#machine.start();
  }

  /** As `kill -9`: everything it held is closed at once, nobody is told. */
  kill(): void {
    if (!this.alive) return;
    this.#machine.kill();
    this.#monitor.close();
    this.#primary.stop();
    this.#secondary.stop();
  }

  /** The guest powers itself off: QEMU ends, or with `-no-shutdown` stays, stopped. */
  powerOff({ noShutdown = false } = {}): void {
    this.#monitor.event('SHUTDOWN', { guest: true, reason: 'guest-shutdown' });
    if (noShutdown) void this.#machine.stop('shutdown');
    else this.#options.clock.after(1, () => this.kill());
  }

  async #listen(address: Address): Promise<void> {
    this.#incoming = 'listening';
    await this.#secondary.listen(address);
  }

  #event(name: string, data?: QmpObject): void {
    if (name === 'MIGRATION' && this.#capabilities.get('events') !== true) return;
    this.#monitor.event(name, data);
  }

  async #command(name: string, args: QmpObject): Promise<unknown> {
    const handler = this.#commands[name];
    if (handler === undefined) {
      throw new QmpRefusal(`The command ${name} has not been found`, 'CommandNotFound');
    }
    return handler(args);
  }

  readonly #commands: Readonly<Record<string, (args: QmpObject) => unknown>> = {
    'query-version': () => ({
      qemu: this.#options.version ?? { major: 7, minor: 2, micro: 22 },
      package: 'scripted',
    }),
    'query-status': () => ({
      status: this.#machine.runState,
      singlestep: false,
      running: this.running,
    }),
    'query-colo-status': () => ({ mode: this.mode, 'last-mode': this.#lastMode, reason: 'none' }),
    'query-migrate': () => this.#queryMigrate(),
    'migrate-set-capabilities': (args) => {
      for (const [capability, state] of parseCapabilities(args)) this.#capabilities.set(capability, state);
      return {};
    },
    'migrate-set-parameters': (args) => {
      const delayMs = parseCheckpointDelay(args);
      if (delayMs !== undefined) this.#primary.setDelay(delayMs);
      return {};
    },
    migrate: (args) => {
      const address = parseMigrationUri(args.uri);
      if (this.mode !== 'none' || ['setup', 'active', 'colo'].includes(this.#primary.status)) {
        throw new QmpRefusal("There's a migration process in progress");
      }
      if (this.#machine.runState === 'inmigrate')
        throw new QmpRefusal('Guest is waiting for an incoming migration');
      void this.#primary.migrate(address, this.#capabilities.get('x-colo') === true);
      return {};
    },
    'migrate-incoming': (args) => {
      const address = parseMigrationUri(args.uri);
      if (this.#incoming === 'none')
        throw new QmpRefusal("'-incoming' was not specified on the command line");
      if (this.#incoming === 'listening') {
        throw new QmpRefusal('The incoming migration has already been started');
      }
      return this.#listen(address).then(
        () => ({}),
        (error: unknown) => {
          this.#incoming = 'deferred';
          throw new QmpRefusal(`Failed to listen: ${error instanceof Error ? error.message : String(error)}`);
        },
      );
    },
    'x-colo-lost-heartbeat': () => {
      const mode = this.mode;
      if (mode === 'none') throw new QmpRefusal("The feature 'colo' is not enabled");
      this.#lastMode = mode;
      if (mode === 'primary') this.#primary.failover();
      else void this.#secondary.failover();
      return {};
    },
    stop: () => {
      void this.stop();
      return {};
    },
    cont: () => {
      if (this.#machine.runState === 'inmigrate')
        throw new QmpRefusal('Guest is waiting for an incoming migration');
      this.cont();
      return {};
    },
    yank: ({ instances }) => {
      if (Array.isArray(instances) && instances.length === 0) return {};
      this.#primary.yank();
      this.#secondary.yank();
      return {};
    },
    quit: () => {
      this.#monitor.event('SHUTDOWN', { guest: false, reason: 'host-qmp-quit' });
      this.#options.clock.after(0, () => this.kill()); // after the answer has left
      return {};
    },
  };

  #queryMigrate(): Record<string, unknown> {
    const outgoing = this.#primary.status !== 'none';
    const status = outgoing ? this.#primary.status : this.#secondary.status;
    const errorText = outgoing ? this.#primary.errorText : '';
    if (status === 'none') return {};
    return errorText === '' ? { status } : { status, 'error-desc': errorText };
  }
}
