import type { Phase } from '../../checkpoint/ports.js';
import type { Timer } from '../../system/clock.js';
import { buildGratuitousArp } from '../../wire/build.js';
import type { WireFaults } from '../lossy-wire.js';
import { CLIENT_HOST } from '../stage.js';
import type { World } from '../world.js';
import { DISRUPTIVE, type FaultName, type Plan, type PlannedFault } from './plan.js';
import { seats } from './watch.js';

/** After a fault that ends protection nothing else of that kind until it has returned and this has passed. */
const DISRUPTIVE_DISTANCE_MS = 1000;
/** Everything planned has begun by then or never will. */
const OVER_AFTER_MS = 6000;
const STORM_FRAMES = 300;
const BURST_MS = 4;
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
  #begun = false;
  #waiting = 0;
  #lastDisruptionMs = Number.NEGATIVE_INFINITY;

  constructor(world: World, plan: Plan, say: (text: string) => void) {
    this.#world = world;
    this.#plan = plan;
    this.#say = say;
    this.#calm = { ...world.wires.toClient.faults };
  }

  /** Nothing planned is still to come. Faults bound to a phase may never come. */
  get isOver(): boolean {
    return this.#waiting === 0;
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
    if (DISRUPTIVE.has(name)) {
      const nowMs = this.#world.clock.now();
      if (!seats(this.#world).isProtected || nowMs - this.#lastDisruptionMs < DISRUPTIVE_DISTANCE_MS) return;
      this.#lastDisruptionMs = nowMs;
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
    storm: () => {
      const frame = buildGratuitousArp(
        Buffer.from(CLIENT_HOST.mac),
        Buffer.from(CLIENT_HOST.ipv4),
        'request',
        0,
      );
      for (let count = 0; count < STORM_FRAMES; count++) this.#world.wires.toProxy.send(frame);
    },
    checkpoint: () => {
      this.#world.pair.checkpoint().catch(() => {}); // there may be none to take now
    },
  };

  #setWires(faults: WireFaults): void {
    this.#world.wires.toClient.faults = faults;
    this.#world.wires.toProxy.faults = faults;
  }

  #stall(seat: 'primary' | 'secondary', durationMs: number): void {
    this.#world.netdevs[seat]!.stall(true);
    this.#after(durationMs, () => this.#world.netdevs[seat]!.stall(false));
  }

  #burst(seat: 'primary' | 'secondary', durationMs: number): void {
    for (let atMs = 0; atMs < durationMs; atMs += 2 * BURST_MS) {
      this.#after(atMs, () => this.#stall(seat, BURST_MS));
    }
  }

  #lose(seat: 'primary' | 'secondary', durationMs: number): void {
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
    for (const seat of ['primary', 'secondary'] as const) {
      this.#world.vmLoss[seat] = 0;
      this.#world.netdevs[seat]?.stall(false);
    }
  }
}
