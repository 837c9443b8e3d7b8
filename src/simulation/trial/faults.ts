import type { Phase } from '../../checkpoint/ports.js';
import { Comparator } from '../../compare/comparator.js';
import { otherSeat, type Seat } from '../../dataplane/data-plane.js';
import type { Timer } from '../../system/clock.js';
import { buildGratuitousArp } from '../../wire/build.js';
import type { WireFaults } from '../lossy-wire.js';
import type { World } from '../world.js';
import { DISRUPTIVE, type FaultName, LASTING, type Plan, type PlannedFault } from './plan.js';
import { isProtected, seats } from './seats.js';

/** After a fault that ends protection nothing else of that kind until it has returned and this has passed. */
const DISRUPTIVE_DISTANCE_MS = 1000;
/** Everything planned has begun by then or never will. */
const OVER_AFTER_MS = 6000;
const STORM_FRAMES = 300;
const BURST_MS = 4;
/** What is frozen or out of order is so this much longer than a bad cable. */
const FREEZE_TIMES = 5;
const WALL_JUMP_MS = 3_600_000;

/** What each fault does to a wire. */
const WIRE_FAULTS: Partial<Record<FaultName, Partial<WireFaults>>> = {
  loss: { loss: 0.08 },
  duplication: { duplication: 0.2 },
  reordering: { jitterMs: 3 },
  delay: { delayMs: 40 },
  corruption: { corruption: 0.05 },
  partition: { loss: 1 },
};

/** Makes the planned faults strike, and ends them. */
export class Faults {
  readonly struck: Record<string, number> = {};
  readonly overAfterMs = OVER_AFTER_MS;
  readonly #world: World;
  readonly #plan: Plan;
  readonly #say: (text: string) => void;
  readonly #calm: WireFaults;
  readonly #phasesSeen = new Map<Phase, number>();
  readonly #timers: Timer[] = [];
  /** What ends the faults that go on. */
  readonly #ends: (() => void)[] = [];
  #begun = false;
  readonly #unwatchCommits: () => void;
  #waiting = 0;
  #lastDisruptionMs = Number.NEGATIVE_INFINITY;
  #isSpent = false;

  constructor(world: World, plan: Plan, say: (text: string) => void) {
    this.#world = world;
    this.#plan = plan;
    this.#say = say;
    this.#calm = { ...world.networks[0]!.wires.toClient.faults };
    this.#unwatchCommits = this.#watchCommits();
  }

  /** Nothing planned is still to come. Faults bound to a phase may never come. */
  get isOver(): boolean {
    return this.#waiting === 0;
  }

  /** Protected, and nothing that ends protection has struck of late: a failure now is a single one. */
  get isQuiet(): boolean {
    const sinceMs = this.#world.clock.now() - this.#lastDisruptionMs;
    return sinceMs >= DISRUPTIVE_DISTANCE_MS && isProtected(this.#world);
  }

  /** The service is down: a VM died before the other one could take its place. */
  isDown = false;

  /** Protection is being built: the secondary has loaded no checkpoint, and must not be promoted. */
  #crashUnprotected(): void {
    const { proxyIsAlive, pair } = this.#world;
    if (this.#isSpent || !proxyIsAlive || (pair.state !== 'starting' && pair.state !== 'resyncing')) return;
    this.struck['crash-unprotected'] = (this.struck['crash-unprotected'] ?? 0) + 1;
    this.#say('FAULT crash-unprotected');
    this.#isSpent = true;
    this.isDown = true;
    seats(this.#world).carrier.kill();
  }

  /** The one failure that the promise is about; no other follows. */
  kill(victim: 'carrier' | 'other'): void {
    this.#isSpent = true;
    this.#say(`FAULT the ${victim === 'carrier' ? 'primary' : 'secondary'} of this copy of the world dies`);
    seats(this.#world)[victim].kill();
  }

  begin(): void {
    this.#begun = true;
    this.#waiting = this.#plan.faults.length;
    for (const fault of this.#plan.faults) {
      if ('atMs' in fault.when) this.#later(fault.when.atMs, fault);
    }
  }

  /** A phase of a checkpoint has begun. */
  phaseIs(phase: Phase): void {
    if (!this.#begun) return;
    const nth = (this.#phasesSeen.get(phase) ?? 0) + 1;
    this.#phasesSeen.set(phase, nth);
    for (const fault of this.#plan.faults) {
      const { when } = fault;
      if (!('phase' in when) || when.phase !== phase || when.nth !== nth) continue;
      if (when.afterMs === 0) this.#strike(fault);
      else this.#later(when.afterMs, fault);
    }
  }

  /**
   * A commit is over within one turn, before anybody could look at its phase: it is struck between what it lets leave
   * and what the primary is told.
   */
  #watchCommits(): () => void {
    const faults = this;
    const { commit } = Comparator.prototype;
    let isTold = false;
    Comparator.prototype.commit = function (this: Comparator, nowMs: number): void {
      commit.call(this, nowMs);
      if (isTold) return; // the commit of another interface
      isTold = true;
      queueMicrotask(() => {
        isTold = false;
        faults.phaseIs('committing');
      });
    };
    return () => {
      Comparator.prototype.commit = commit;
    };
  }

  close(): void {
    this.#unwatchCommits();
  }

  /** Ends whatever still goes on. */
  stop(): void {
    this.#begun = false;
    for (const timer of this.#timers) timer.cancel();
    this.#calmDown();
  }

  #later(delayMs: number, fault: PlannedFault): void {
    this.#timers.push(this.#world.clock.after(delayMs, () => this.#strike(fault)));
  }

  #strike(fault: PlannedFault): void {
    this.#waiting--;
    const { name, durationMs } = fault;
    if (name === 'crash-unprotected') {
      this.#crashUnprotected();
      return;
    }
    if (DISRUPTIVE.has(name)) {
      if (this.#isSpent || !this.isQuiet) return;
      this.#lastDisruptionMs = this.#world.clock.now() + (LASTING.has(name) ? FREEZE_TIMES * durationMs : 0);
    }
    this.struck[name] = (this.struck[name] ?? 0) + 1;
    this.#say(`FAULT ${name}`);
    const wire = WIRE_FAULTS[name];
    if (wire !== undefined) {
      this.#setWires({ ...this.#calm, ...wire });
      this.#after(durationMs, () => this.#setWires(this.#calm));
    } else this.#actions[name]?.(durationMs);
  }

  readonly #actions: Partial<Record<FaultName, (durationMs: number) => void>> = {
    'stall-primary': (durationMs) => this.#stall('primary', durationMs),
    'stall-secondary': (durationMs) => this.#stall('secondary', durationMs),
    'burst-primary': (durationMs) => this.#burst('primary', durationMs),
    'burst-secondary': (durationMs) => this.#burst('secondary', durationMs),
    'loss-primary': (durationMs) => this.#lose('primary', durationMs),
    'loss-secondary': (durationMs) => this.#lose('secondary', durationMs),
    'crash-primary': () => seats(this.#world).carrier.kill(),
    'crash-secondary': () => seats(this.#world).other.kill(),
    'cut-channel': () => this.#world.cut('channel'),
    'cut-primary-qmp': () => this.#world.cut('primary-qmp'),
    'cut-secondary-qmp': () => this.#world.cut('secondary-qmp'),
    'wall-jump': (durationMs) => {
      this.#world.clock.jumpWall(durationMs % 2 === 0 ? WALL_JUMP_MS : -WALL_JUMP_MS);
    },
    'crash-proxy': (durationMs) => {
      this.#world.crashProxy();
      this.#after(durationMs, () => this.#restart());
    },
    'freeze-primary': (durationMs) => this.#freeze(this.#carrierSeat, durationMs),
    'freeze-secondary': (durationMs) => this.#freeze(otherSeat(this.#carrierSeat), durationMs),
    'freeze-proxy': (durationMs) => {
      this.#world.freezeProxy();
      this.#after(FREEZE_TIMES * durationMs, () => this.#world.thawProxy());
    },
    'crash-arbiter': (durationMs) => this.#down(this.#world.arbiter, 'isUp', false, durationMs),
    'disk-full': (durationMs) => this.#down(this.#world.disk, 'isFull', true, durationMs),
    storm: () => {
      for (const { client, wires } of this.#world.networks) {
        const { mac, ipv4, vlan } = client.stack.addresses;
        const frame = buildGratuitousArp(Buffer.from(mac), Buffer.from(ipv4), 'request', vlan);
        for (let count = 0; count < STORM_FRAMES; count++) wires.toProxy.send(frame);
      }
    },
    checkpoint: () => {
      this.#world.pair.checkpoint().catch(() => {}); // there may be none to take now
    },
  };

  get #carrierSeat(): Seat {
    return this.#world.pair.nics.carrier;
  }

  #setWires(faults: WireFaults): void {
    for (const network of this.#world.networks) network.setFaults(faults);
  }

  #stall(seat: Seat, durationMs: number): void {
    this.#world.stallVm(seat, true);
    this.#after(durationMs, () => this.#world.stallVm(seat, false));
  }

  #freeze(seat: Seat, durationMs: number): void {
    this.#world.freezeVm(seat);
    this.#ends.push(() => this.#world.thawVm(seat));
    this.#after(FREEZE_TIMES * durationMs, () => this.#world.thawVm(seat));
  }

  /** Out of order for a while; longer than an arbiter's lease at most. */
  #down<K extends string>(part: Record<K, boolean> | null, key: K, value: boolean, durationMs: number): void {
    if (part === null) return;
    part[key] = value;
    this.#ends.push(() => {
      part[key] = !value;
    });
    this.#after(FREEZE_TIMES * durationMs, () => {
      part[key] = !value;
    });
  }

  /** The service manager starts a fresh proxy. */
  #restart(): void {
    if (this.#world.proxyIsAlive) return;
    this.#say('a fresh proxy is started');
    this.#world
      .restartProxy()
      .catch((error: unknown) => this.#say(`the proxy does not start: ${String(error)}`));
  }

  #burst(seat: Seat, durationMs: number): void {
    for (let atMs = 0; atMs < durationMs; atMs += 2 * BURST_MS) {
      this.#after(atMs, () => this.#stall(seat, BURST_MS));
    }
  }

  #lose(seat: Seat, durationMs: number): void {
    this.#world.vmLoss[seat] = 0.1;
    this.#after(durationMs, () => {
      this.#world.vmLoss[seat] = 0;
    });
  }

  #after(delayMs: number, action: () => void): void {
    this.#timers.push(this.#world.clock.after(delayMs, action));
  }

  #calmDown(): void {
    this.#setWires(this.#calm);
    this.#world.thawProxy();
    for (const end of this.#ends.splice(0)) end();
    this.#restart();
    for (const seat of ['primary', 'secondary'] as const) {
      this.#world.vmLoss[seat] = 0;
      this.#world.stallVm(seat, false);
    }
  }
}
