/**
 * A hot restart: another process takes the pair over, between two checkpoints, with COLO going on. The successor has been
 * started and inherits every descriptor; it touches none before it is told to. This process takes a checkpoint, and at
 * its LOADED, with everything released, stops reading and says what it knows. LOADED itself is said by the successor.
 */
import type { CheckpointPlan, Coordinator } from '../checkpoint/coordinator.js';
import type { RelayInheritance } from '../checkpoint/relay.js';
import type { Side } from '../dataplane/data-plane.js';
import { loadPlane, type PlaneSnapshot, savePlane } from '../dataplane/plane-snapshot.js';
import { ColoError } from '../errors.js';
import type { MandateSnapshot } from '../failover/mandate.js';
import type { KeptState } from '../failover/state-file.js';
import type { Link, LinkInheritance } from '../link/link.js';
import type { Clock } from '../system/clock.js';
import type { Protection } from './protection.js';
import type { Protectors } from './protectors.js';
import type { ProtectionState } from './status.js';

/** By number of the network interface; -1 for a link that is not up, which the successor opens itself. */
type LinkDescriptors = readonly Readonly<Record<Side, number>>[];

/** What the successor needs open. Numbers of this process; the successor's are its own. */
export interface PairDescriptors {
  readonly links: LinkDescriptors;
  /** Null: there is no pair under COLO. */
  readonly relay: RelayInheritance | null;
}

/** Everything else; every part survives a structured clone. */
export interface PairInheritance {
  /** The clock of the machine and of this process at the same moment. */
  readonly clock: { readonly machineMs: number; readonly nowMs: number };
  readonly state: ProtectionState;
  readonly epoch: number;
  /** Where an operator has chosen how checkpoints are taken. */
  readonly plan: CheckpointPlan | undefined;
  readonly planes: readonly PlaneSnapshot[];
  readonly links: readonly Readonly<Record<Side, LinkInheritance | null>>[];
  readonly mandate: MandateSnapshot;
  readonly kept: KeptState;
}

/** The process that is to go on. */
export interface Successor {
  /** Resolves with true when it has understood everything; nothing has been touched yet. */
  prepare(inheritance: PairInheritance): Promise<boolean>;
}

export interface HandoverParts extends Protectors {
  readonly protection: Protection;
  readonly coordinator: Coordinator;
  readonly clock: Clock;
  /** Milliseconds of the machine's monotonic clock, which all processes share. */
  readonly machineMs: () => number;
}

const SIDES: readonly Side[] = ['client', 'primary', 'secondary'];

export class Handover {
  readonly #with: HandoverParts;

  constructor(parts: HandoverParts) {
    this.#with = parts;
  }

  /** What is open now. Throws COLO_ERR_HANDOVER when the pair is being changed, or a link is not up. */
  get descriptors(): PairDescriptors {
    const { relay, nics, protection, coordinator } = this.#with;
    const { state } = protection;
    if (state === 'starting' || state === 'resyncing') throw refusal(`the pair is ${state}`);
    const relayed = coordinator.coupled ? relay.inheritance : null;
    if (coordinator.coupled && relayed === null) throw refusal('the migration channel is busy');
    const links = nics.planes.map((plane) => eachSide((side) => descriptorOf(plane.links[side])));
    return { links, relay: relayed };
  }

  /**
   * Resolves when the successor has everything: it is to be told to go on at once, and this process to end. Rejects with
   * COLO_ERR_HANDOVER or COLO_ERR_CHECKPOINT; then this process goes on as if nothing had been.
   */
  async give(descriptors: PairDescriptors, successor: Successor): Promise<void> {
    if (descriptors.relay === null) return this.#give(descriptors, successor);
    const { nics, coordinator } = this.#with;
    await new Promise<void>((resolve, reject) => {
      nics.betweenEpochs = async () => {
        nics.betweenEpochs = null;
        try {
          await this.#give(descriptors, successor);
        } catch (error) {
          reject(error);
          return; // LOADED is passed on, and the new epoch begins here
        }
        resolve();
        await new Promise(() => {}); // in this process it never begins
      };
      coordinator.take().catch(reject);
    }).finally(() => {
      nics.betweenEpochs = null;
    });
  }

  async #give(descriptors: PairDescriptors, successor: Successor): Promise<void> {
    const { nics, relay, keeper, authority, protection, coordinator, history, clock } = this.#with;
    const suspended: Link[] = [];
    const suspend = (link: Link): LinkInheritance | null => {
      if (descriptorOf(link) < 0) return null;
      const inheritance = link.suspend?.() ?? null;
      if (inheritance === null) throw refusal(`${link.url} is busy or was lost`);
      suspended.push(link);
      return inheritance;
    };
    try {
      const links = nics.planes.map(({ links: of }) => eachSide((side) => suspend(of[side])));
      relay.setReading(false);
      // what was lost and opened anew in the meantime has another number, or stands for something else
      if (JSON.stringify(this.descriptors) !== JSON.stringify(descriptors))
        throw refusal('a connection was lost');
      const inheritance: PairInheritance = {
        clock: { machineMs: this.#with.machineMs(), nowMs: clock.now() },
        state: protection.state,
        epoch: history.epoch + (descriptors.relay === null ? 0 : 1), // the one that ends here
        plan: coordinator.isAdapted ? undefined : coordinator.plan,
        planes: nics.planes.map(savePlane),
        links,
        mandate: authority.mandate.save(),
        kept: keeper.saved,
      };
      if (!(await successor.prepare(inheritance))) throw refusal('the successor did not take over');
    } catch (error) {
      authority.mandate.resume();
      relay.setReading(true);
      for (const link of suspended) link.resume!();
      throw error;
    }
  }

  /** The successor goes on now: what only one process can have is its. */
  async release(): Promise<void> {
    const { nics, relay, vms, keeper, coordinator } = this.#with;
    coordinator.stop();
    keeper.stop();
    vms.primary.stop();
    vms.secondary.stop();
    const links = nics.planes.flatMap((plane) => SIDES.map((side) => plane.links[side]));
    await Promise.all([relay.release(), ...links.map((link) => link.release?.())]);
  }

  /** In the successor, before anything is opened: `from` is understood. Throws when the configuration is another. */
  take(from: PairInheritance): void {
    const { nics, keeper, authority, protection, coordinator, history, clock } = this.#with;
    if (from.planes.length !== nics.planes.length)
      throw refusal('the number of network interfaces has changed');
    const shiftMs = clock.now() - from.clock.nowMs - (this.#with.machineMs() - from.clock.machineMs);
    for (const [index, plane] of nics.planes.entries()) loadPlane(plane, from.planes[index]!, shiftMs);
    keeper.inherit(from.kept);
    authority.mandate.load(from.mandate, shiftMs);
    history.epoch = from.epoch;
    protection.inherit(from.state);
    if (protection.isProtected) coordinator.inherit(from.epoch, from.plan);
  }

  /**
   * In the successor: it goes on. Links and relay before all else, since their peers wait.
   * @returns for how many milliseconds no process has read or written
   */
  async begin(from: PairInheritance, descriptors: PairDescriptors): Promise<number> {
    const { nics, relay, coordinator } = this.#with;
    for (const [index, plane] of nics.planes.entries()) {
      for (const side of SIDES) {
        const inheritance = from.links[index]![side];
        if (inheritance !== null) plane.links[side].inherit!(descriptors.links[index]![side], inheritance);
      }
    }
    await nics.open();
    if (descriptors.relay !== null) relay.inherit(descriptors.relay);
    nics.beginEpoch();
    if (descriptors.relay === null) await nics.openGate();
    else await coordinator.abandon();
    const holdMs = this.#with.machineMs() - from.clock.machineMs;
    await relay.start();
    return holdMs;
  }
}

function descriptorOf({ state, descriptor = -1 }: Link): number {
  return state === 'up' ? descriptor : -1;
}

function eachSide<Value>(read: (side: Side) => Value): Record<Side, Value> {
  return { client: read('client'), primary: read('primary'), secondary: read('secondary') };
}

function refusal(what: string): ColoError {
  return new ColoError('COLO_ERR_HANDOVER', what);
}
