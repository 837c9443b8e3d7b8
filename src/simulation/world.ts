import { DEFAULT_CHECKPOINT_LIMITS } from '../checkpoint/limits.js';
import { DEFAULT_COMPARE_LIMITS } from '../compare/verdict.js';
import { type MemoryLink, memoryLinkPair } from '../link/memory-link.js';
import { Pair, type PairLimits } from '../pair/pair.js';
import { upstreamDialect } from '../protocol/dialect-upstream.js';
import { type Log, silentLog } from '../system/log.js';
import { ManualClock } from '../system/manual-clock.js';
import { MemoryTransport } from '../system/memory-channel.js';
import { Client } from './client/client.js';
import { LossyWire, type WireFaults } from './lossy-wire.js';
import { SeededRandom } from './random.js';
import { runClock } from './run-clock.js';
import type { ServiceKnobs } from './services/service.js';
import { CLIENT_HOST, GUEST_HOST } from './stage.js';
import type { TcpOptions } from './tcp-state.js';
import type { MachineCosts } from './vm/machine.js';
import { LinkNetdev } from './vm/netdev.js';
import { ScriptedVm } from './vm/scripted-vm.js';

/** How one copy of the guest behaves; the two may differ, as two hosts do. */
export interface GuestManners {
  readonly tcp?: Partial<TcpOptions>;
  readonly services?: Partial<ServiceKnobs>;
  readonly lagMs?: number;
  readonly lagJitterMs?: number;
  readonly timestampSkewMs?: number;
}

export interface WorldOptions {
  /** The same seed and options give the same run, event by event. */
  readonly seed: number;
  /** What happens to frames between the client and the proxy. */
  readonly wire?: Partial<WireFaults>;
  readonly primary?: GuestManners;
  readonly secondary?: GuestManners;
  readonly clientTcp?: Partial<TcpOptions>;
  readonly costs?: Partial<MachineCosts>;
  readonly log?: Log;
  readonly limits?: Partial<PairLimits>;
}

const LINK_DELAY_MS = 0.05;
const LINK_BYTES_MAX = 2 * 1024 * 1024;
const QMP = { primary: { unix: '/world/primary.qmp' }, secondary: { unix: '/world/secondary.qmp' } };
const MIGRATION = { listen: { unix: '/world/migrate.sock' }, connect: { unix: '/world/incoming.sock' } };
const WIRE: WireFaults = { delayMs: 0.2, jitterMs: 0, loss: 0, duplication: 0, corruption: 0 };

const LIMITS: PairLimits = {
  dataPlane: {
    gate: { framesMax: 4096, bytesMax: 4 * 1024 * 1024 },
    parked: { framesMax: 4096, bytesMax: 4 * 1024 * 1024 },
    broadcastPerSecondMax: 10_000,
    compare: { ...DEFAULT_COMPARE_LIMITS, flowsMax: 4096, heldBytesMax: 32 * 1024 * 1024 },
  },
  checkpoint: DEFAULT_CHECKPOINT_LIMITS,
  vm: { commandMsMax: 5000, reconnectMsMin: 100, reconnectMsMax: 2000, livenessMsMax: 500 },
  bandwidthBytesPerSecondMax: 1024 * 1024 * 1024,
  protectRetryMs: 500,
  announceCount: 5,
  announceEveryMs: 100,
};

/**
 * A client, two VMs and the real pair between them, without a socket and without a clock of their own: one
 * manual clock drives everything, so a seed is a run.
 */
export class World {
  readonly clock = new ManualClock();
  readonly pair: Pair;
  readonly client: Client;
  /** Towards the proxy and back; `faults` may be changed at any time. */
  readonly wires: { readonly toProxy: LossyWire; readonly toClient: LossyWire };
  readonly #options: WorldOptions;
  readonly #random: SeededRandom;
  readonly #transport: MemoryTransport;
  readonly #links: Readonly<Record<'client' | 'primary' | 'secondary', [MemoryLink, MemoryLink]>>;
  #primary: ScriptedVm;
  #secondary: ScriptedVm;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    const { clock } = this;
    this.#transport = new MemoryTransport(clock, 0.02);
    const link = (name: string): [MemoryLink, MemoryLink] =>
      memoryLinkPair({ name, clock, delayMs: LINK_DELAY_MS, queueBytesMax: LINK_BYTES_MAX });
    this.#links = { client: link('client'), primary: link('primary'), secondary: link('secondary') };
    const near = new LinkNetdev(this.#links.client[1], clock);
    const faults = { ...WIRE, ...options.wire };
    const random = this.#random.fork('wires');
    this.wires = {
      toProxy: new LossyWire(clock, random, faults, (frame) => near.send(frame)),
      toClient: new LossyWire(clock, random, faults, (frame) =>
        this.client.stack.receive(frame, 0, frame.length),
      ),
    };
    this.client = new Client({
      addresses: CLIENT_HOST,
      clock,
      random: this.#random.fork('client'),
      transmit: (frame) => this.wires.toProxy.send(frame),
      tcp: options.clientTcp ?? {},
    });
    void near.open((bytes, offset, length) =>
      this.wires.toClient.send(bytes.subarray(offset, offset + length)),
    );
    this.#primary = this.#vm('primary');
    this.#secondary = this.#vm('secondary');
    this.pair = new Pair({
      name: 'world',
      links: {
        client: this.#links.client[0],
        primary: this.#links.primary[0],
        secondary: this.#links.secondary[0],
      },
      qmp: QMP,
      migration: MIGRATION,
      dialect: upstreamDialect,
      transport: this.#transport,
      clock,
      log: options.log ?? silentLog,
      limits: { ...LIMITS, ...options.limits },
      failoverAuto: true,
      flowSeed: this.#random.uint32() >>> 1,
    });
  }

  get primary(): ScriptedVm {
    return this.#primary;
  }

  get secondary(): ScriptedVm {
    return this.#secondary;
  }

  /** Starts the primary and the pair. */
  async open(): Promise<void> {
    await this.#primary.open();
    const started = this.pair.start();
    await this.run(1);
    await started;
  }

  /** Starts a secondary that waits for a state; a fresh one when the last has died. */
  async openSecondary(): Promise<void> {
    if (!this.#secondary.alive) this.#secondary = this.#vm('secondary');
    await this.#secondary.open();
  }

  /** Runs for `limitMs` of simulated time or until `done`; true when `done` came true. */
  run(limitMs: number, done?: () => boolean): Promise<boolean> {
    return runClock(this.clock, limitMs, done);
  }

  async close(): Promise<void> {
    const stopped = this.pair.stop();
    await this.run(5000);
    await stopped;
    this.client.close();
    this.#primary.kill();
    this.#secondary.kill();
  }

  #vm(role: 'primary' | 'secondary'): ScriptedVm {
    const manners = this.#options[role] ?? {};
    return new ScriptedVm({
      clock: this.clock,
      transport: this.#transport,
      netdev: new LinkNetdev(this.#links[role][1], this.clock),
      qmp: QMP[role],
      ...(role === 'secondary' ? { incoming: 'defer' as const } : {}),
      guest: { addresses: GUEST_HOST, random: this.#random.fork(role), ...manners },
      ...(this.#options.costs === undefined ? {} : { costs: this.#options.costs }),
    });
  }
}
