import { DEFAULT_CHECKPOINT_LIMITS } from '../checkpoint/limits.js';
import { DEFAULT_COMPARE_LIMITS } from '../compare/verdict.js';
import type { Seat } from '../dataplane/data-plane.js';
import { type NicLinks, Pair, type PairLimits, type PairParts } from '../pair/pair.js';
import { upstreamDialect } from '../protocol/dialect-upstream.js';
import { type Log, silentLog } from '../system/log.js';
import { ManualClock } from '../system/manual-clock.js';
import { MemoryTransport } from '../system/memory-channel.js';
import { BreakableTransport } from './breakable-transport.js';
import type { Client } from './client/client.js';
import { LeaseArbiter } from './lease-arbiter.js';
import type { WireFaults } from './lossy-wire.js';
import { MemoryDisk } from './memory-disk.js';
import type { HostAddresses } from './neighbour-table.js';
import { SimulatedProcess } from './process.js';
import { chance, SeededRandom } from './random.js';
import { runClock } from './run-clock.js';
import type { ServiceKnobs } from './services/service.js';
import { CLIENT_HOST, GUEST_HOST, onNetwork } from './stage.js';
import type { TcpOptions } from './tcp-state.js';
import type { MachineCosts } from './vm/machine.js';
import { LinkNetdev } from './vm/netdev.js';
import { ScriptedVm } from './vm/scripted-vm.js';
import { WorldNetwork } from './world-network.js';

/** How one copy of the guest behaves; the two may differ, as two hosts do. */
export interface GuestManners {
  readonly tcp?: Partial<TcpOptions>;
  readonly services?: Partial<ServiceKnobs>;
  readonly lagMs?: number;
  readonly lagJitterMs?: number;
  readonly clockRate?: number;
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
  /** Who is asked before a promotion, and the like. */
  readonly pair?: Partial<
    Pick<PairParts, 'arbiter' | 'fence' | 'protectAuto' | 'failoverAuto' | 'state' | 'probes'>
  >;
  /** An arbiter with a lease, which can crash. */
  readonly leased?: boolean;
  /** Network interfaces of the guest, each with a network and a client of its own. */
  readonly nics?: number;
  /** Tags of every frame, as FrameView.vlan has them. */
  readonly vlan?: number;
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
const SEATS: readonly Seat[] = ['primary', 'secondary'];
const FIRST_STATE = {
  owner: '0123456789abcdef',
  generation: 0,
  carrier: 'primary',
  protecting: false,
  addresses: [],
  translations: [],
} as const;

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

/** One VM of the world, with what the world does to it. */
interface Placed {
  readonly vm: ScriptedVm;
  readonly process: SimulatedProcess;
  readonly netdevs: readonly LinkNetdev[];
}

/**
 * Clients, two VMs and the real pair between them, without a socket and without a clock of their own: one manual clock
 * drives everything, so a seed is a run. The proxy and each VM are processes: they can be killed and frozen, and what
 * outlives them is outside (wires, the state file, the arbiter).
 */
export class World {
  readonly clock = new ManualClock();
  readonly networks: readonly WorldNetwork[];
  readonly transport: BreakableTransport;
  readonly arbiter: LeaseArbiter | null;
  readonly disk = new MemoryDisk(FIRST_STATE);
  /** Probability that a frame towards that VM is lost on its link. */
  readonly vmLoss: Record<Seat, number> = { primary: 0, secondary: 0 };
  /** Proxies started so far; the number of today's. */
  proxies = 0;
  /** Sees every frame that leaves the proxy towards a client, before the wire damages it. */
  onReleased: (bytes: Buffer, offset: number, length: number, nic: number) => void = () => {};
  /** Sees every client frame before the proxy does, and when it reaches a VM. */
  onCame: (frame: Buffer, nic: number) => void = () => {};
  onTaken: (bytes: Buffer, offset: number, length: number, seat: Seat, nic: number) => void = () => {};
  /** Sees what a VM has sent. */
  onSent: (frame: Buffer, seat: Seat, nic: number) => void = () => {};
  readonly #options: WorldOptions;
  readonly #random: SeededRandom;
  readonly #linkRandom: SeededRandom;
  readonly #flowSeed: number;
  readonly #guestHosts: readonly HostAddresses[];
  readonly #instanceOf = new Map<ScriptedVm, number>();
  #instances = 0;
  readonly #placed: Record<Seat, Placed>;
  #proxy: { readonly pair: Pair; readonly process: SimulatedProcess };

  constructor(options: WorldOptions) {
    this.#options = options;
    const random = new SeededRandom(options.seed);
    this.#random = random;
    this.#linkRandom = new SeededRandom(options.seed ^ 0x6c696e6b); // a fork would shift what the others draw
    const { clock } = this;
    const channelDelayMs = options.channelDelayMs ?? CHANNEL_DELAY_MS;
    this.transport = new BreakableTransport(new MemoryTransport(clock, channelDelayMs));
    const nics = Array.from({ length: options.nics ?? 1 }, (_, nic) => nic);
    const vlan = options.vlan ?? 0;
    this.#guestHosts = nics.map((nic) => onNetwork(GUEST_HOST, nic, vlan));
    this.networks = nics.map((nic) => {
      const network = new WorldNetwork({
        nic,
        client: onNetwork(CLIENT_HOST, nic, vlan),
        clock,
        random,
        faults: { ...WIRE, ...options.wire },
        clientTcp: options.clientTcp ?? {},
        linkDelayMs: this.linkDelayMs,
        linkBytesMax: options.linkBytesMax ?? LINK_BYTES_MAX,
      });
      network.onCame = (frame) => this.onCame(frame, nic);
      network.onReleased = (bytes, offset, length) => this.onReleased(bytes, offset, length, nic);
      return network;
    });
    this.#placed = { primary: this.#place('primary', false), secondary: this.#place('secondary', true) };
    this.#flowSeed = random.uint32() >>> 1;
    this.arbiter = options.leased === true ? new LeaseArbiter(clock) : null;
    this.#proxy = this.#makeProxy();
  }

  get pair(): Pair {
    return this.#proxy.pair;
  }

  /** Of the first network. */
  get client(): Client {
    return this.networks[0]!.client;
  }

  /** On the seat `primary`, whatever its role is today. */
  get primary(): ScriptedVm {
    return this.#placed.primary.vm;
  }

  /** On the seat `secondary`. */
  get secondary(): ScriptedVm {
    return this.#placed.secondary.vm;
  }

  get proxyIsAlive(): boolean {
    return !this.#proxy.process.isDead;
  }

  /** Frames may be lost on the proxy's links for want of room. */
  get hasSmallQueues(): boolean {
    return this.#options.linkBytesMax !== undefined;
  }

  /** How long a frame is on its way from the proxy to a cable. */
  get linkDelayMs(): number {
    return this.#options.linkDelayMs ?? LINK_DELAY_MS;
  }

  /** The guest's address on that network. */
  guestHost(nic: number): HostAddresses {
    return this.#guestHosts[nic]!;
  }

  /** What a frame of that VM carries now: `originOf` of its mark. */
  origin(vm: ScriptedVm): { readonly instance: number; readonly epoch: number } {
    return { instance: this.#instanceOf.get(vm)! % INSTANCES_MAX, epoch: vm.epoch % EPOCHS };
  }

  /** May that VM speak? The first one, and whoever has loaded a checkpoint. */
  mayCarry(instance: number): boolean {
    for (const [vm, number] of this.#instanceOf) {
      if (number % INSTANCES_MAX === instance && (number === 1 || vm.loaded > 0)) return true;
    }
    return false;
  }

  /** Over all VMs: what secondaries said they have loaded, and what primaries went on after. */
  checkpointsSeen(): { readonly loaded: number; readonly taken: number } {
    const vms = [...this.#instanceOf.keys()];
    return {
      loaded: vms.reduce((sum, vm) => sum + vm.loaded, 0),
      taken: vms.reduce((sum, vm) => sum + vm.checkpoints, 0),
    };
  }

  // --- what goes wrong ----------------------------------------------------------------------------------------

  /** Cuts a connection of the control plane. */
  cut(what: 'channel' | 'primary-qmp' | 'secondary-qmp'): void {
    if (what === 'channel') {
      this.transport.cut(MIGRATION.listen);
      for (const address of Object.values(MIGRATION.connect)) this.transport.cut(address);
    } else this.transport.cut(what === 'primary-qmp' ? QMP.primary : QMP.secondary);
  }

  /** A VM whose process gets no time: it answers nothing, takes nothing, and its host's clock goes on. */
  freezeVm(seat: Seat): void {
    const { process, netdevs } = this.#placed[seat];
    process.freeze();
    for (const netdev of netdevs) netdev.stall(true);
  }

  thawVm(seat: Seat): void {
    const { process, netdevs } = this.#placed[seat];
    process.thaw();
    for (const netdev of netdevs) netdev.stall(false);
  }

  /** A VM's device that takes nothing for a while though its VM runs. */
  stallVm(seat: Seat, stalled: boolean): void {
    for (const netdev of this.#placed[seat].netdevs) netdev.stall(stalled);
  }

  freezeProxy(): void {
    this.#proxy.process.freeze();
  }

  thawProxy(): void {
    this.#proxy.process.thaw();
  }

  /** As `kill -9`: what it held is gone. */
  crashProxy(): void {
    this.#proxy.process.kill();
  }

  /** A new process that knows what the state file says. */
  async restartProxy(): Promise<void> {
    this.#proxy = this.#makeProxy();
    await this.pair.start();
  }

  // --- how it goes --------------------------------------------------------------------------------------------

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
    this.#placed[seat].vm.kill();
    this.#placed[seat] = this.#place(seat, true);
    await this.#placed[seat].vm.open();
  }

  /** Runs for `limitMs` of simulated time or until `done`; true when `done` came true. */
  run(limitMs: number, done?: () => boolean): Promise<boolean> {
    return runClock(this.clock, limitMs, done);
  }

  async close(): Promise<void> {
    if (this.proxyIsAlive) {
      const stopped = this.pair.stop();
      await this.run(5000);
      await stopped;
      this.#proxy.process.kill();
    }
    for (const { client } of this.networks) client.close();
    for (const seat of SEATS) this.#placed[seat].vm.kill();
  }

  #makeProxy(): { pair: Pair; process: SimulatedProcess } {
    const number = ++this.proxies;
    const options = this.#options;
    const process = new SimulatedProcess(this.clock, this.transport);
    const [links, ...moreNics] = this.networks.map(
      (network): NicLinks => ({
        client: process.link(network.links.client[0]),
        primary: process.link(network.links.primary[0]),
        secondary: process.link(network.links.secondary[0]),
      }),
    );
    const pair = new Pair({
      name: 'world',
      links: links!,
      moreNics,
      qmp: QMP,
      migration: MIGRATION,
      dialect: upstreamDialect,
      transport: process.transport,
      clock: process.clock,
      log: ofProcess(process, options.log ?? silentLog),
      limits: { ...LIMITS, ...options.limits },
      failoverAuto: true,
      state: { file: this.disk.stateFile(process), found: this.disk.read() },
      ...(this.arbiter === null ? {} : { arbiter: this.arbiter.for(number) }),
      ...options.pair,
      flowSeed: this.#flowSeed,
    });
    return { pair, process };
  }

  #place(seat: Seat, isFresh: boolean): Placed {
    const manners = this.#options[seat] ?? {};
    const random = this.#random.fork(seat);
    const instance = ++this.#instances;
    const process = new SimulatedProcess(this.clock, this.transport);
    const { clock, transport } = process;
    const netdevs = this.networks.map(
      ({ links }, nic) =>
        new LinkNetdev(links[seat][1], clock, (bytes, offset, length) => {
          this.onTaken(bytes, offset, length, seat, nic);
          return chance(this.#linkRandom, this.vmLoss[seat]);
        }),
    );
    for (const [nic, netdev] of netdevs.entries()) {
      netdev.onSent = (frame) => this.onSent(frame, seat, nic);
    }
    const vm: ScriptedVm = new ScriptedVm({
      clock,
      transport,
      netdev: netdevs[0]!,
      moreNics: netdevs.slice(1).map((netdev, index) => ({ netdev, addresses: this.guestHost(index + 1) })),
      qmp: QMP[seat],
      ...(isFresh ? { incoming: 'defer' as const } : {}),
      guest: {
        addresses: this.guestHost(0),
        random,
        mark: () => originMark(instance, vm.epoch, random.uint32()),
        ...manners,
      },
      ...(this.#options.costs === undefined ? {} : { costs: this.#options.costs }),
    });
    this.#instanceOf.set(vm, instance);
    return { vm, process, netdevs };
  }
}

/** A dead process says nothing. */
function ofProcess(process: SimulatedProcess, log: Log): Log {
  const mortal =
    (say: (fields: object, message: string) => void) =>
    (fields: object, message: string): void => {
      if (!process.isDead) say(fields, message);
    };
  return {
    debug: mortal((fields, message) => log.debug(fields, message)),
    info: mortal((fields, message) => log.info(fields, message)),
    warn: mortal((fields, message) => log.warn(fields, message)),
    error: mortal((fields, message) => log.error(fields, message)),
  };
}

const INSTANCES_MAX = 16;
export const EPOCHS = 256;

/** 16 bits that say which VM of the world sent a frame, and in which epoch of its own. */
function originMark(instance: number, epoch: number, random: number): number {
  return ((instance % INSTANCES_MAX) << 12) | ((epoch % EPOCHS) << 4) | (random & 0xf);
}

export function originOf(mark: number): { readonly instance: number; readonly epoch: number } {
  return { instance: mark >>> 12, epoch: (mark >>> 4) % EPOCHS };
}
