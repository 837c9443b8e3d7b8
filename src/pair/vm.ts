/** The VM on one seat of the pair as its QMP monitor shows it. */

import { coloCapabilities } from '../checkpoint/capabilities.js';
import type { Seat } from '../dataplane/data-plane.js';
import { ColoError } from '../errors.js';
import { QmpClient, type QmpLiveness, type QmpVersion } from '../qmp/client.js';
import {
  askOutOfBand,
  CHECKPOINT_DELAY_MS_MAX,
  type MigrationStatus,
  migrate,
  migrateIncoming,
  type QmpExecutor,
  queryColoStatus,
  queryMigrate,
  queryStatus,
  quit,
  setCapabilities,
  setParameters,
  triggerCheckpoint,
  type VmStatus,
  xColoLostHeartbeat,
  yankMigration,
} from '../qmp/commands.js';
import { type Address, showAddress, type Transport } from '../system/channel.js';
import { type Clock, sleep } from '../system/clock.js';
import type { Log } from '../system/log.js';

export interface VmEvents {
  /** QMP takes commands (again). */
  connected(): void;
  /** Its process is gone: the QMP socket closed and nobody listens on it any more. */
  died(): void;
  /** QEMU left COLO; `reason` is QEMU's COLOExitReason. */
  coloExit(reason: string): void;
  /** Its guest has powered itself off; `reason` is QEMU's ShutdownCause. A panic, or a QEMU told to quit, is not this. */
  guestShutDown(reason: string): void;
  guestRebooted(): void;
}

export interface VmLimits {
  readonly commandMsMax: number;
  readonly reconnectMsMin: number;
  readonly reconnectMsMax: number;
  /** How long one answer may take when somebody must be declared dead or alive. */
  readonly livenessMsMax: number;
}

export interface VmOptions {
  readonly seat: Seat;
  readonly address: Address;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: VmLimits;
  readonly events: VmEvents;
}

/** `guest-reset` ends QEMU when it was started with -no-reboot (qapi/run-state.json: ShutdownCause). */
const GUEST_SHUTDOWN_REASONS: readonly string[] = ['guest-shutdown', 'guest-reset'];

/** QEMU's run state while a checkpoint has stopped the guest (RUN_STATE_COLO). */
const STOPPED_FOR_COLO = 'colo';
/** Between two looks at whether the guest runs again; 12 to 35 ms pass until it does. */
const LEAVE_LOOK_MS = 50;

export class Vm {
  readonly seat: Seat;
  readonly #qmp: QmpClient;
  readonly #clock: Clock;
  readonly #limits: VmLimits;

  constructor(options: VmOptions) {
    const { seat, address, transport, clock, log, limits, events } = options;
    this.seat = seat;
    this.#clock = clock;
    this.#limits = limits;
    this.#qmp = new QmpClient({
      address,
      transport,
      clock,
      log: {
        debug: (fields, message) => log.debug({ vm: seat, ...fields }, message),
        info: (fields, message) => log.info({ vm: seat, ...fields }, message),
        warn: (fields, message) => log.warn({ vm: seat, ...fields }, message),
        error: (fields, message) => log.error({ vm: seat, ...fields }, message),
      },
      limits: {
        commandMsMax: limits.commandMsMax,
        reconnectMsMin: limits.reconnectMsMin,
        reconnectMsMax: limits.reconnectMsMax,
        probeMsMax: limits.livenessMsMax,
      },
      handlers: {
        connected: () => events.connected(),
        refused: () => events.died(),
        event: (name, data) => {
          const reason = String(data.reason);
          if (name === 'COLO_EXIT') events.coloExit(reason);
          else if (name === 'SHUTDOWN' && GUEST_SHUTDOWN_REASONS.includes(reason))
            events.guestShutDown(reason);
          else if (name === 'RESET') events.guestRebooted();
        },
      },
    });
  }

  start(): void {
    this.#qmp.start();
  }

  stop(): void {
    this.#qmp.stop();
  }

  get isConnected(): boolean {
    return this.#qmp.state === 'ready';
  }

  get version(): QmpVersion | undefined {
    return this.#qmp.greeting?.version;
  }

  /** For people: what it is or what is waited for. */
  get detail(): string {
    const version = this.version;
    if (version !== undefined) return `QEMU ${version.major}.${version.minor}.${version.micro}`;
    return `waiting for QMP on ${showAddress(this.#qmp.address)}: ${this.#qmp.problem}`;
  }

  /** For commands that are not of COLO. */
  get monitor(): QmpExecutor {
    return this.#qmp;
  }

  status(): Promise<VmStatus> {
    return queryStatus(this.#qmp);
  }

  /** Answers are to be expected even while it loads a state. */
  get answersOutOfBand(): boolean {
    return this.#qmp.greeting?.outOfBand === true;
  }

  askOutOfBand(): Promise<void> {
    return askOutOfBand(this.#qmp);
  }

  migration(): Promise<MigrationStatus> {
    return queryMigrate(this.#qmp);
  }

  async coloMode(): Promise<string> {
    return (await queryColoStatus(this.#qmp)).mode;
  }

  /**
   * Is its process there? A VM that answers is alive; one whose socket is closed and refuses is gone; a VM that
   * does neither in time is unknown, which must never count as dead.
   */
  async liveness(): Promise<QmpLiveness> {
    if (this.#qmp.state === 'ready') {
      const answer = await Promise.race([
        this.status().then(
          () => 'alive' as const,
          () => 'lost' as const,
        ),
        sleep(this.#clock, this.#limits.livenessMsMax).then(() => 'unknown' as const),
      ]);
      if (answer !== 'lost') return answer;
    }
    return this.#qmp.probe();
  }

  /** What the VM needs before it may take part in COLO, by its version. */
  async enableColo(role: 'primary' | 'secondary', bandwidthBytesPerSecondMax: number): Promise<void> {
    const capabilities = coloCapabilities(this.version?.major ?? 0, role);
    if (Object.keys(capabilities).length > 0) await setCapabilities(this.#qmp, capabilities);
    if (role === 'primary') {
      await setParameters(this.#qmp, {
        'x-checkpoint-delay': CHECKPOINT_DELAY_MS_MAX,
        'max-bandwidth': bandwidthBytesPerSecondMax,
      });
    }
  }

  /** Listens for the primary's state; a VM that was started with an address already does. */
  async listenForState(uri: string): Promise<void> {
    try {
      await migrateIncoming(this.#qmp, uri);
    } catch (error) {
      const isListening =
        error instanceof ColoError &&
        error.code === 'COLO_ERR_QMP_COMMAND' &&
        /defer|already/i.test(error.message);
      if (!isListening) throw error;
    }
  }

  migrateTo(uri: string): Promise<void> {
    return migrate(this.#qmp, uri);
  }

  requestCheckpoint(): Promise<void> {
    return triggerCheckpoint(this.#qmp);
  }

  /**
   * The other VM is gone: leave COLO and go on alone. A VM that is not under COLO is left as it is. Rejects with
   * COLO_ERR_FAILOVER when its guest stays stopped: QEMU answers before its COLO thread has ended, and one that hangs
   * would leave it so without a word.
   */
  async leaveColo(): Promise<void> {
    try {
      await this.#lostHeartbeat();
    } catch (error) {
      const notUnderColo =
        error instanceof ColoError &&
        error.code === 'COLO_ERR_QMP_COMMAND' &&
        /not enabled|not in/i.test(error.message);
      if (!notUnderColo) throw error;
    }
    const endMs = this.#clock.now() + this.#limits.commandMsMax;
    while ((await this.status()).status === STOPPED_FOR_COLO) {
      if (this.#clock.now() >= endMs) {
        throw new ColoError('COLO_ERR_FAILOVER', `the guest on the seat ${this.seat} stays stopped for COLO`);
      }
      await sleep(this.#clock, LEAVE_LOOK_MS);
    }
  }

  /** QEMU's main loop may be stuck in a channel that nobody serves: cutting it out of band lets it go on. */
  async #lostHeartbeat(): Promise<void> {
    try {
      await xColoLostHeartbeat(this.#qmp);
    } catch (error) {
      if (!(error instanceof ColoError) || error.code !== 'COLO_ERR_QMP_TIMEOUT') throw error;
      await yankMigration(this.#qmp);
      await xColoLostHeartbeat(this.#qmp);
    }
  }

  /** Tells QEMU to quit; whether it heard is not waited for longer than one liveness limit. */
  async quit(): Promise<void> {
    if (!this.isConnected) return;
    const sent = quit(this.#qmp).catch(() => undefined);
    await Promise.race([sent, sleep(this.#clock, this.#limits.livenessMsMax)]);
  }
}
