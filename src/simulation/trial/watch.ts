/**
 * The promise, looked at from outside whenever something has happened in a world. Each check reads what the clients got
 * and what the VMs are, never what the proxy believes.
 */
import type { World } from '../world.js';
import { Counts } from './counts.js';
import { checkCoverage } from './coverage.js';
import { watchEpochs } from './epochs.js';
import { watchOrder } from './order.js';
import { Passage } from './passage.js';
import { ReleasedFrames } from './released.js';
import { isProtected as isProtectedNow, seats } from './seats.js';
import type { Fail, Invariant, Violation } from './violation.js';

export class Watch {
  violation: Violation | null = null;
  steps = 0;
  readonly released: ReleasedFrames;
  readonly #counts: Counts;
  readonly #world: World;
  readonly #memoryMax: { readonly held: number; readonly gate: number };
  readonly #fail: Fail = (invariant, what) => this.fail(invariant, what);
  readonly #unwatch: () => void;
  /** What `#coverage` has looked at: nothing changes between two steps without somebody's activity. */
  readonly #lookedAt = { activity: -1, proxies: 0, carrier: '', isProtected: false };

  constructor(world: World, memoryMax: { held: number; gate: number }) {
    this.#world = world;
    this.#memoryMax = memoryMax;
    this.released = new ReleasedFrames(world, this.#fail);
    const passage = new Passage();
    const unwatchPassage = passage.watch(world);
    const unwatchEpochs = watchEpochs(world, this.#fail);
    this.#unwatch = () => {
      unwatchEpochs();
      unwatchPassage();
    };
    this.#counts = new Counts(world, this.released, passage);
    watchOrder(world, this.#fail);
  }

  close(): void {
    this.#unwatch();
  }

  /** Keeps the first violation only: the rest follows from it. */
  fail(invariant: Invariant, what: string): void {
    this.violation ??= { invariant, atMs: this.#world.clock.now(), what };
  }

  /** After each step. True: a violation was found. */
  check(): boolean {
    this.steps++;
    this.#counts.look();
    this.#coverage();
    this.#memory();
    return this.violation !== null;
  }

  /** (1) */
  #coverage(): void {
    const { networks, proxies, pair, primary, secondary } = this.#world;
    let activity = 0;
    for (let nic = 0; nic < networks.length; nic++) {
      activity += networks[nic]!.client.stack.activity;
      activity += primary.guest.stacks[nic]!.activity + secondary.guest.stacks[nic]!.activity;
    }
    const last = this.#lookedAt;
    const seat = pair.nics.carrier;
    if (
      last.activity === activity &&
      last.proxies === proxies &&
      last.carrier === seat &&
      last.isProtected === isProtectedNow(this.#world)
    ) {
      return;
    }
    const { carrier, other, isProtected } = seats(this.#world);
    Object.assign(last, { activity, proxies, carrier: seat, isProtected });
    for (let nic = 0; nic < networks.length; nic++) {
      const client = networks[nic]!.client.stack;
      if (carrier.alive) {
        checkCoverage(client, carrier.guest.stacks[nic]!, 'the VM that carries the traffic', this.#fail);
      }
      if (isProtected && other.alive) {
        checkCoverage(client, other.guest.stacks[nic]!, 'the secondary', this.#fail);
      }
    }
  }

  /** (4) */
  #memory(): void {
    for (const { comparator, gate } of this.#world.pair.nics.planes) {
      const { held, gate: gateMax } = this.#memoryMax;
      const { heldBytes } = comparator;
      if (heldBytes > held) this.fail('memory', `${heldBytes} bytes are held, the limit is ${held}`);
      if (gate.bytes > gateMax) {
        this.fail('memory', `${gate.bytes} bytes wait at the gate, the limit is ${gateMax}`);
      }
    }
  }

  /** (7) Null when the product's counters agree with what was seen; no frame may be on its way. */
  metricsProblem(): string | null {
    return this.#counts.problem();
  }

  /** (7) The same of divergences, where nothing but `answersMax` answers makes the VMs differ. */
  divergenceProblem(answersMax: number): string | null {
    return this.#counts.divergenceProblem(answersMax);
  }
}
