import { DEFAULT_CHECKPOINT_LIMITS } from '../checkpoint/limits.js';
import { DEFAULT_COMPARE_LIMITS } from '../compare/verdict.js';
import type { Seat } from '../dataplane/data-plane.js';
import { type MemoryLink, memoryLinkPair } from '../link/memory-link.js';
import { Pair, type PairLimits, type PairParts } from '../pair/pair.js';
import { upstreamDialect } from '../protocol/dialect-upstream.js';
import { type Log, silentLog } from '../system/log.js';
import { ManualClock } from '../system/manual-clock.js';
import { MemoryTransport } from '../system/memory-channel.js';
import { BreakableTransport } from './breakable-transport.js';
import { Client } from './client/client.js';
import { LossyWire, type WireFaults } from './lossy-wire.js';
import { chance, SeededRandom } from './random.js';
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
  readonly clockRate?: number;
}

export type VmRole = 'primary' | 'secondary';

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
  /** Who is asked before a promotion, and the like. */
  readonly pair?: Partial<Pick<PairParts, 'arbiter' | 'fence' | 'protectAuto' | 'failoverAuto' | 'state'>>;
  /** Bytes one direction of a VM's link may hold; what does not fit is dropped there. */
  readonly linkBytesMax?: number;
  /** How long a frame is on a link, and a message on its way to a monitor or along the migration channel. */
  readonly linkDelayMs?: number;
  readonly channelDelayMs?: number;
}

const LINK_DELAY_MS = 0.05;
const CHANNEL_DELAY_MS = 0.02;
const LINK_BYTES_MAX = 2 * 1024 * 1024;
const QMP = { primary: { unix: '/world/primary.qmp' }, secondary: { unix: '/world/secondary.qmp' } };
const MIGRATION = {
  listen: { unix: '/world/migrate.sock' },
  connect: { primary: { unix: '/world/incoming-back.sock' }, secondary: { unix: '/world/incoming.sock' } },
};
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
  mandate: { claimMsMax: 1000, retryMs: 200 },
  detector: { heartbeatEveryMs: 100, heartbeatMsMax: 350, heartbeatAloneMsMax: 10_000 },
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
  /** Probability that a frame towards that VM is lost on its link. */
  readonly vmLoss: Record<VmRole, number> = { primary: 0, secondary: 0 };
  readonly transport: BreakableTransport;
  /** Sees every frame that leaves the proxy towards the client, before the wire damages it. */
  onReleased: (bytes: Buffer, offset: number, length: number) => void = () => {};
  readonly netdevs: Partial<Record<VmRole, LinkNetdev>> = {};
  readonly #instanceOf = new Map<ScriptedVm, number>();
  readonly #linkRandom: SeededRandom;
  #instances = 0;
  readonly #links: Readonly<Record<'client' | 'primary' | 'secondary', [MemoryLink, MemoryLink]>>;
  readonly #vms: Record<Seat, ScriptedVm>;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#linkRandom = new SeededRandom(options.seed ^ 0x6c696e6b); // a fork would shift what the others draw
    const { clock } = this;
    this.transport = new BreakableTransport(
      new MemoryTransport(clock, options.channelDelayMs ?? CHANNEL_DELAY_MS),
    );
    const link = (name: string): [MemoryLink, MemoryLink] =>
      memoryLinkPair({
        name,
        clock,
        delayMs: options.linkDelayMs ?? LINK_DELAY_MS,
        queueBytesMax: options.linkBytesMax ?? LINK_BYTES_MAX,
      });
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
    void near.open((bytes, offset, length) => {
      this.onReleased(bytes, offset, length);
      this.wires.toClient.send(bytes.subarray(offset, offset + length));
    });
    this.#vms = { primary: this.#vm('primary', false), secondary: this.#vm('secondary', true) };
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
      transport: this.transport,
      clock,
      log: options.log ?? silentLog,
      limits: { ...LIMITS, ...options.limits },
      failoverAuto: true,
      ...options.pair,
      flowSeed: this.#random.uint32() >>> 1,
    });
  }

  /** What a frame of that VM carries now: `originOf` of its identification. */
  origin(vm: ScriptedVm): { readonly instance: number; readonly epoch: number } {
    return { instance: this.#instanceOf.get(vm)! % INSTANCES_MAX, epoch: vm.epoch % EPOCHS };
  }

  /** Cuts a connection of the control plane. */
  cut(what: 'channel' | 'primary-qmp' | 'secondary-qmp'): void {
    if (what === 'channel') {
      this.transport.cut(MIGRATION.listen);
      for (const address of Object.values(MIGRATION.connect)) this.transport.cut(address);
    } else this.transport.cut(what === 'primary-qmp' ? QMP.primary : QMP.secondary);
  }

  /** On the seat `primary`, whatever its role is today. */
  get primary(): ScriptedVm {
    return this.#vms.primary;
  }

  /** On the seat `secondary`. */
  get secondary(): ScriptedVm {
    return this.#vms.secondary;
  }

  /** Starts the primary and the pair. */
  async open(): Promise<void> {
    await this.primary.open();
    const started = this.pair.start();
    await this.run(1);
    await started;
  }

  /** Starts a secondary that waits for a state, on the seat that is not today's primary's; a fresh one each time. */
  async openSecondary(): Promise<void> {
    const { seat } = this.pair.secondary;
    this.#vms[seat].kill();
    this.#vms[seat] = this.#vm(seat, true);
    await this.#vms[seat].open();
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
    this.primary.kill();
    this.secondary.kill();
  }

  #vm(seat: Seat, isFresh: boolean): ScriptedVm {
    const manners = this.#options[seat] ?? {};
    const random = this.#random.fork(seat);
    const instance = ++this.#instances;
    const netdev = new LinkNetdev(this.#links[seat][1], this.clock, () =>
      chance(this.#linkRandom, this.vmLoss[seat]),
    );
    this.netdevs[seat] = netdev;
    const vm: ScriptedVm = new ScriptedVm({
      clock: this.clock,
      transport: this.transport,
      netdev,
      qmp: QMP[seat],
      ...(isFresh ? { incoming: 'defer' as const } : {}),
      guest: {
        addresses: GUEST_HOST,
        random,
        ipId: () => originId(instance, vm.epoch, random.uint32()),
        ...manners,
      },
      ...(this.#options.costs === undefined ? {} : { costs: this.#options.costs }),
    });
    this.#instanceOf.set(vm, instance);
    return vm;
  }
}

const INSTANCES_MAX = 16;
export const EPOCHS = 256;

/** An IPv4 identification that says which VM of the world sent the frame, and in which epoch of its own. */
function originId(instance: number, epoch: number, random: number): number {
  return ((instance % INSTANCES_MAX) << 12) | ((epoch % EPOCHS) << 4) | (random & 0xf);
}

export function originOf(ipId: number): { readonly instance: number; readonly epoch: number } {
  return { instance: ipId >>> 12, epoch: (ipId >>> 4) % EPOCHS };
}
