/**
 * The man in the middle of the migration channel: the primary migrates to the proxy, the proxy connects to the
 * secondary. Every word is shown to `onWord` before its receiver gets it. The relay can delay or end a
 * checkpoint; it cannot originate one.
 *
 * A migration may have several connections (multifd); each is joined to its own to the secondary, in order. The
 * one on which the secondary speaks is the control channel; QEMU does not open it first.
 */
import { asColoError, ColoError } from '../errors.js';
import { type DialectName, encodeWord } from '../protocol/dialect.js';
import { DIALECTS } from '../protocol/dialects.js';
import { type Direction, SyncPoint } from '../protocol/sync-point.js';
import { ChannelState, violationError } from '../protocol/word-parser.js';
import {
  type Address,
  type ChannelServer,
  type DuplexChannel,
  showAddress,
  type Transport,
} from '../system/channel.js';
import type { Timer } from '../system/clock.js';
import { streamTransport } from '../system/stream-channel.js';
import type { WordItem } from './pump.js';
import {
  DEFAULT_RELAY_LIMITS,
  type RelayCounters,
  type RelayInheritance,
  type RelayLimits,
  type RelayOptions,
} from './relay-contract.js';
import { type ConnectionEvents, RelayedConnection, type Side } from './relayed-connection.js';
import { StartedChannel } from './stream-start.js';
import { SyncPointRecord } from './sync-point-record.js';

export {
  type ChannelEvent,
  DEFAULT_RELAY_LIMITS,
  type RelayCounters,
  type RelayInheritance,
  type RelayLimits,
  type RelayOptions,
} from './relay-contract.js';

interface Migration {
  readonly state: ChannelState;
  readonly connections: RelayedConnection[];
  control: RelayedConnection | undefined;
  /** Connections accepted, joined to the secondary or waiting for it. */
  accepted: number;
  /** The last connection to the secondary in the making: the next waits for it. */
  joining: Promise<void>;
  orphanTimer: Timer | undefined;
  readonly onClosed: (() => void)[];
}

export class Relay {
  readonly #options: RelayOptions;
  readonly #limits: RelayLimits;
  readonly #transport: Transport;
  #server: ChannelServer | undefined;
  #migration: Migration | undefined;
  /** Sockets of migrations that are over and may still be sending. */
  readonly #closing = new Set<RelayedConnection>();
  /** Every sync-point that has come by, over all migrations. */
  readonly syncPoints = new SyncPointRecord();
  #dialect: DialectName | 'auto';
  #pastPrimaryBytes = 0;
  #pastSecondaryBytes = 0;
  /** Accepted connections whose first bytes have not come, one after the other. */
  #arrivals: Promise<void> = Promise.resolve();
  #waiting = 0;
  #violations = 0;
  #refused = 0;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_RELAY_LIMITS, ...options.limits };
    this.#transport = options.transport ?? streamTransport;
    this.#dialect = options.dialect === 'auto' ? 'auto' : options.dialect.name;
  }

  /** Where the primary may migrate to, once started. */
  get address(): Address {
    return this.#server?.address ?? this.#options.listen;
  }

  /** `auto` until the wire has settled it. */
  get dialect(): DialectName | 'auto' {
    return this.#dialect;
  }

  get counters(): RelayCounters {
    let primaryBytes = this.#pastPrimaryBytes;
    let secondaryBytes = this.#pastSecondaryBytes;
    for (const connection of this.#migration?.connections ?? []) {
      primaryBytes += connection.primaryBytes;
      secondaryBytes += connection.secondaryBytes;
    }
    const { words, violations, refused } = {
      words: this.syncPoints.total,
      violations: this.#violations,
      refused: this.#refused,
    };
    return { primaryBytes, secondaryBytes, words, violations, refused };
  }

  /** Rejects with COLO_ERR_MIGRATION_LISTEN. */
  async start(): Promise<void> {
    const { listen, socket } = this.#options;
    try {
      this.#server = await this.#transport.listen(listen, (channel) => this.#accept(channel), socket);
    } catch (cause) {
      throw asColoError(cause, 'COLO_ERR_MIGRATION_LISTEN', showAddress(listen));
    }
  }

  /** Closes everything at once and removes the socket file. */
  async stop(): Promise<void> {
    this.closeChannel();
    for (const connection of this.#closing) connection.destroy();
    await this.#server?.close();
    this.#server = undefined;
  }

  /** The connections as they are; their numbers are descriptors. Null: there is nothing that could be handed over. */
  get inheritance(): RelayInheritance | null {
    const migration = this.#migration;
    if (migration?.control === undefined || this.#dialect === 'auto') return null;
    const connections = migration.connections.map(({ descriptors }) => descriptors);
    if (connections.some(({ primary, secondary }) => primary < 0 || secondary < 0)) return null;
    return {
      dialect: this.#dialect,
      connections,
      control: migration.connections.indexOf(migration.control),
    };
  }

  setReading(isReading: boolean): void {
    for (const connection of this.#migration?.connections ?? []) connection.setReading(isReading);
  }

  /** Listens no more: a successor does. */
  async release(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    await server?.close();
  }

  /** Holds what another process holds, too, and reads nothing until `goOn`. */
  standBy({ dialect, connections, control }: RelayInheritance): void {
    const { adopt } = this.#transport;
    if (adopt === undefined) throw new ColoError('COLO_ERR_CHANNEL_LOST', 'this transport adopts nothing');
    const state = this.#newState();
    state.decide(DIALECTS[dialect]);
    const migration = newMigration(state, connections.length);
    this.#migration = migration;
    for (const { primary, secondary } of connections) {
      migration.connections.push(
        new RelayedConnection(adopt(primary), adopt(secondary), this.#eventsOf(migration)),
      );
    }
    this.setReading(false);
    for (const connection of migration.connections) connection.start();
    migration.control = migration.connections[control]!;
    migration.control.makeControl(state);
    state.state = 'received';
  }

  /** Says the LOADED that the other process has not passed on, and reads. */
  goOn(): void {
    const { control, state } = this.#migration!;
    state.advance(SyncPoint.LOADED);
    control!.sayToPrimary(encodeWord(state.dialect, SyncPoint.LOADED));
    this.setReading(true);
  }

  /** Ends the migration at once, or cuts one VM off and lets the other find out. */
  closeChannel(side?: Side): void {
    const migration = this.#migration;
    if (migration === undefined) return;
    for (const connection of migration.connections) connection.destroy(side);
    if (side === undefined) this.#finish(migration, 'closed by the proxy');
  }

  /** No migration is there any more. */
  whenClosed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#migration === undefined) resolve();
      else this.#migration.onClosed.push(resolve);
    });
  }

  /**
   * A VM has left COLO (QMP event COLO_EXIT) and says no more, but QEMU keeps its socket open until it is told
   * what to do. What it had said before still counts; then the channel goes on as if it had closed its side.
   */
  leave(side: Side): void {
    if (this.#migration !== undefined) this.#awaitSilence(this.#migration, side, -1);
  }

  /** The event overtakes words that wait unread in the socket: `side` is done when no more come. */
  #awaitSilence(migration: Migration, side: Side, bytesBefore: number | undefined): void {
    const control = migration.control ?? migration.connections[0];
    if (this.#migration !== migration || control === undefined) return;
    const bytes = control.bytesOf(side);
    if (bytes !== undefined && bytes === bytesBefore) {
      control.takeAsEnded(side);
      return;
    }
    this.#options.clock.after(this.#limits.leaveMs, () => this.#awaitSilence(migration, side, bytes));
  }

  /** Connections are looked at, and joined, in the order in which they came: older QEMUs rely on it. */
  #accept(channel: DuplexChannel): void {
    const isUnderColo = this.#migration !== undefined && this.#migration.state.state !== 'starting';
    if (isUnderColo || this.#waiting >= this.#limits.connectionsMax) {
      this.#refuse(channel, isUnderColo ? 'a migration is under COLO already' : 'too many connections wait');
      return;
    }
    this.#waiting++;
    const primary = new StartedChannel(channel);
    const nothing = this.#options.clock.after(this.#limits.startMsMax, () => primary.destroy());
    this.#arrivals = this.#arrivals.then(async () => {
      const start = await primary.start;
      nothing.cancel();
      this.#waiting--;
      if (start === 'migration') this.#admit(primary);
      else if (start === 'closed') this.#refuse(primary, 'it said nothing');
      else this.#refuse(primary, `it began with 0x${start.foreign}, not as a migration stream`);
    });
  }

  #refuse(channel: DuplexChannel, why: string): void {
    this.#refused++;
    channel.destroy();
    const text = `a connection to ${showAddress(this.address)} was turned away: ${why}`;
    this.#options.onViolation(new ColoError('COLO_ERR_PROTOCOL_WORD', text));
  }

  #admit(primary: DuplexChannel): void {
    let migration = this.#migration;
    if (this.#server === undefined) {
      primary.destroy();
      return;
    }
    if (migration !== undefined && migration.state.state !== 'starting') {
      this.#refuse(primary, 'a migration has come under COLO meanwhile');
      return;
    }
    if (migration !== undefined && migration.accepted >= this.#limits.connectionsMax) {
      this.#refuse(primary, `the migration has ${migration.accepted} connections`);
      return;
    }
    if (migration === undefined) {
      migration = newMigration(this.#newState(), 0);
      this.#migration = migration;
      this.#options.onChannel('opened', `the primary migrates to ${showAddress(this.address)}`);
    }
    migration.accepted++;
    const joined = migration;
    migration.joining = migration.joining.then(() => this.#join(joined, primary));
  }

  #secondaryAddress(): Address {
    const { connect } = this.#options;
    return typeof connect === 'function' ? connect() : connect;
  }

  #newState(): ChannelState {
    const { dialect } = this.#options;
    const state = new ChannelState(dialect);
    this.#dialect = dialect === 'auto' ? 'auto' : dialect.name;
    state.onDecided = ({ name }) => {
      this.#dialect = name;
      this.#options.onDialect?.(name);
    };
    return state;
  }

  async #join(migration: Migration, primary: DuplexChannel): Promise<void> {
    if (this.#migration !== migration) return primary.destroy();
    const { clock } = this.#options;
    const connect = this.#secondaryAddress();
    const abort = new AbortController();
    const timer = clock.after(this.#limits.connectMsMax, () => abort.abort(new Error('no answer in time')));
    try {
      const secondary = await this.#transport.connect(connect, abort.signal);
      if (this.#migration !== migration) {
        secondary.destroy();
        primary.destroy();
        return;
      }
      const connection = new RelayedConnection(primary, secondary, this.#eventsOf(migration));
      migration.connections.push(connection);
      connection.start();
    } catch (cause) {
      primary.destroy();
      const error = asColoError(cause, 'COLO_ERR_CHANNEL_LOST', `the secondary's ${showAddress(connect)}`);
      this.#finish(migration, error.message);
    } finally {
      timer.cancel();
    }
  }

  #eventsOf(migration: Migration): ConnectionEvents {
    return {
      secondarySpoke: (connection) => this.#secondarySpoke(migration, connection),
      hold: (direction, item) => this.#hold(direction, item),
      forwarded: (_direction, item) => this.#forwarded(migration, item.word),
      wordLimit: (action) => this.#options.clock.after(this.#limits.wordMsMax, action),
      violated: (violation) => this.#violated(migration, violationError(violation)),
      refused: (error) =>
        this.#violated(migration, asColoError(error, 'COLO_ERR_PROTOCOL_WORD', 'a word was not let through')),
      sideLost: (connection, side, reason) => this.#sideLost(migration, connection, side, reason),
      closed: (connection) => {
        this.#closing.delete(connection);
        if (migration.connections.every((other) => !other.isOpen))
          this.#finish(migration, 'all connections closed');
      },
    };
  }

  #hold(direction: Direction, item: WordItem): Promise<void> | undefined {
    this.syncPoints.seen(item.word, this.#options.clock.wallMs());
    try {
      return this.#options.onWord(direction, item.word, item.value) ?? undefined;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #secondarySpoke(migration: Migration, connection: RelayedConnection): boolean {
    if (migration.control === undefined) {
      migration.control = connection;
      connection.makeControl(migration.state);
      return true;
    }
    const text = 'the secondary spoke on a second connection of the migration';
    this.#violated(migration, new ColoError('COLO_ERR_PROTOCOL_WORD', text));
    return false;
  }

  #forwarded(migration: Migration, word: SyncPoint): void {
    migration.state.advance(word);
    if (word === SyncPoint.READY) this.#options.onChannel('colo', 'checkpoint-ready has been forwarded');
    if (migration.orphanTimer !== undefined && word === SyncPoint.LOADED) {
      this.#finish(migration, 'the primary was lost; the secondary has loaded its last state');
    }
  }

  #violated(migration: Migration, error: ColoError): void {
    if (this.#migration !== migration) return;
    this.#violations++;
    this.#options.onViolation(error);
    this.#finish(migration, error.message);
  }

  #sideLost(migration: Migration, connection: RelayedConnection, side: Side, reason: string): void {
    if (this.#migration !== migration) return;
    const { state } = migration.state;
    const { control, connections } = migration;
    // Before the secondary has spoken nobody knows which connection matters: then the last one does.
    const decisive =
      control === undefined ? connections.every((other) => other.isLost) : control === connection;
    if (!decisive) return;
    if (side === 'primary' && (state === 'sending' || state === 'received')) {
      this.#orphan(migration, reason);
      return;
    }
    if (state === 'ended') {
      this.#finish(migration, 'the guest has shut down');
      return;
    }
    const when = state === 'starting' ? ' before COLO began (a plain migration, or one that failed)' : '';
    this.#finish(migration, `${side} side: ${reason}${when}`);
  }

  /**
   * The primary is gone between SEND and LOADED. The secondary has been told that no more bytes come (it then
   * either has the whole state or gives up at once) and may still say RECEIVED and LOADED.
   */
  #orphan(migration: Migration, reason: string): void {
    if (migration.orphanTimer !== undefined) return;
    migration.orphanTimer = this.#options.clock.after(this.#limits.orphanMsMax, () => {
      this.#finish(migration, 'the primary was lost; the secondary did not finish loading in time');
    });
    this.#options.onChannel('primary-lost', `primary side: ${reason} in state ${migration.state.state}`);
  }

  #finish(migration: Migration, detail: string): void {
    if (this.#migration !== migration) return;
    this.#migration = undefined;
    migration.orphanTimer?.cancel();
    for (const connection of migration.connections) {
      this.#pastPrimaryBytes += connection.primaryBytes;
      this.#pastSecondaryBytes += connection.secondaryBytes;
      this.#closeGently(connection);
    }
    this.#options.onChannel('closed', detail);
    for (const action of migration.onClosed) action();
  }

  #closeGently(connection: RelayedConnection): void {
    if (!connection.isOpen) return;
    connection.end();
    this.#closing.add(connection);
    this.#options.clock.after(this.#limits.closeMsMax, () => {
      if (this.#closing.delete(connection)) connection.destroy();
    });
  }
}

function newMigration(state: ChannelState, accepted: number): Migration {
  return {
    state,
    connections: [],
    control: undefined,
    accepted,
    joining: Promise.resolve(),
    orphanTimer: undefined,
    onClosed: [],
  };
}
