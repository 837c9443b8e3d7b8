/**
 * A hot restart: another process takes the pair over, between two checkpoints, with COLO going on. The successor has been
 * started and inherits every descriptor; before anything stops it has everything open and has understood a draft of what
 * it is to have. This process then takes a checkpoint, and at its LOADED, with everything released, stops reading and
 * says what it knows. LOADED itself is said by the successor.
 */
import type { CheckpointPlan, Coordinator } from '../checkpoint/coordinator.js';
import type { RelayInheritance } from '../checkpoint/relay.js';
import type { Side } from '../dataplane/data-plane.js';
import { loadPlane, type PlaneSnapshot, savePlane } from '../dataplane/plane-snapshot.js';
import { ColoError } from '../errors.js';
import type { MandateSnapshot } from '../failover/mandate.js';
import type { KeptState } from '../failover/state-file.js';
import type { Link } from '../link/link.js';
import type { Clock } from '../system/clock.js';
import type { Protection } from './protection.js';
import type { Protectors } from './protectors.js';
import type { ProtectionState } from './status.js';

type BySide<Value> = Readonly<Record<Side, Value>>;

/** What the successor needs open. Numbers of this process; the successor's are its own. */
export interface PairDescriptors {
  /** By number of the network interface; -1 for a link that is not up, which the successor opens itself. */
  readonly links: readonly BySide<number>[];
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
  readonly links: readonly BySide<LinkLeft>[];
  readonly mandate: MandateSnapshot;
  readonly kept: KeptState;
}

interface LinkLeft {
  /** What undoing the link's set-up needs, as the link knows it. */
  readonly setup: unknown;
  /** Of a frame of which the rest has not been read. Null: the link was not up, or is a draft's. */
  readonly unread: Uint8Array | null;
}

/** The process that is to go on. */
export interface Successor {
  /** Resolves when it has everything open and waits. */
  standBy(draft: PairInheritance): Promise<void>;
  /** Resolves when it goes on. Rejects when it never will: then it has ended. */
  goOn(inheritance: PairInheritance): Promise<void>;
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

  /** What is open now. Throws COLO_ERR_HANDOVER when the pair is being changed, or nothing may leave. */
  get descriptors(): PairDescriptors {
    const { relay, nics, protection, coordinator, authority } = this.#with;
    const { state, isProtected } = protection;
    if (!authority.isHeld) throw refusal('the arbiter lets nothing leave');
    if (state === 'starting' || state === 'resyncing' || isProtected !== coordinator.coupled)
      throw refusal(`the pair is ${state}`);
    const relayed = isProtected ? relay.inheritance : null;
    if (isProtected && relayed === null) throw refusal('the migration channel is busy');
    const links = nics.planes.map((plane) => eachSide((side) => descriptorOf(plane.links[side])));
    return { links, relay: relayed };
  }

  /**
   * Resolves when the successor goes on: this process is to end. Rejects with COLO_ERR_HANDOVER or COLO_ERR_CHECKPOINT;
   * then this process goes on as if nothing had been.
   */
  async give(descriptors: PairDescriptors, successor: Successor): Promise<void> {
    const { nics, coordinator } = this.#with;
    const setups = nics.planes.map(({ links }) =>
      eachSide((side) => ({ setup: links[side].setup, unread: null })),
    );
    await successor.standBy(this.#inheritance(descriptors, setups));
    await new Promise<void>((resolve, reject) => {
      const hold = async (): Promise<void> => {
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
      if (descriptors.relay === null) return void this.#alone(hold).catch(reject);
      nics.betweenEpochs = () => this.#alone(hold).catch(reject);
      coordinator.take().catch(reject);
    }).finally(() => {
      nics.betweenEpochs = null;
    });
  }

  /** What changes the pair waits until the hold is over: for ever, when another process goes on. */
  #alone(hold: () => Promise<void>): Promise<void> {
    return this.#with.protection.steps.runNow('hot restart', hold);
  }

  async #give(descriptors: PairDescriptors, successor: Successor): Promise<void> {
    const { nics, relay, authority } = this.#with;
    const suspended: Link[] = [];
    const suspend = (link: Link): LinkLeft => {
      if (descriptorOf(link) < 0) return { setup: null, unread: null };
      const unread = link.suspend?.() ?? null;
      if (unread === null) throw refusal(`${link.url} is busy or was lost`);
      suspended.push(link);
      return { setup: link.setup, unread };
    };
    nics.stopAnnouncing();
    try {
      const links = nics.planes.map(({ links: of }) => eachSide((side) => suspend(of[side])));
      relay.setReading(false);
      // what was lost and opened anew in the meantime has another number, or stands for something else
      if (JSON.stringify(this.descriptors) !== JSON.stringify(descriptors))
        throw refusal('a connection was lost');
      authority.mandate.pause();
      await successor.goOn(this.#inheritance(descriptors, links));
    } catch (error) {
      authority.mandate.resume();
      relay.setReading(true);
      for (const link of suspended) link.resume!();
      throw error;
    }
  }

  #inheritance(descriptors: PairDescriptors, links: PairInheritance['links']): PairInheritance {
    const { nics, keeper, authority, protection, coordinator, history, clock, machineMs } = this.#with;
    return {
      clock: { machineMs: machineMs(), nowMs: clock.now() },
      state: protection.state,
      epoch: history.epoch + (descriptors.relay === null ? 0 : 1), // the one that ends here
      plan: coordinator.isAdapted ? undefined : coordinator.plan,
      planes: nics.planes.map(savePlane),
      links,
      mandate: authority.mandate.save(),
      kept: keeper.saved,
    };
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

  // --- in the successor -----------------------------------------------------------------------------------------

  /** Opens what the other process has open, and reads and writes nothing. Rejects when the configuration is another. */
  async standBy(draft: PairInheritance, descriptors: PairDescriptors): Promise<void> {
    const { nics, relay } = this.#with;
    if (draft.planes.length !== nics.planes.length)
      throw refusal('the number of network interfaces has changed');
    this.#take(draft);
    const open: Link[] = [];
    for (const [nic, { links }] of nics.planes.entries()) {
      for (const side of SIDES) {
        const descriptor = descriptors.links[nic]![side];
        links[side].standBy!(descriptor, draft.links[nic]![side].setup);
        if (descriptor >= 0) open.push(links[side]);
      }
    }
    await nics.open();
    const lost = open.find((link) => descriptorOf(link) < 0);
    if (lost !== undefined) throw refusal(`${lost.url} could not be taken over`);
    if (descriptors.relay !== null) relay.standBy(descriptors.relay);
  }

  /**
   * The other process reads and writes nothing any more: this one goes on at once, since both VMs wait.
   * @returns for how many milliseconds no process has read or written
   */
  goOn(from: PairInheritance): number {
    const { nics, relay, coordinator, authority, protection } = this.#with;
    this.#take(from);
    authority.mandate.resume();
    for (const [nic, { links }] of nics.planes.entries()) {
      for (const side of SIDES) {
        const { unread } = from.links[nic]![side];
        if (unread !== null) links[side].resume!(unread);
      }
    }
    if (protection.isProtected) {
      relay.goOn();
      coordinator.inherit(from.epoch, from.plan);
    }
    nics.beginEpoch();
    if (protection.isProtected) void coordinator.abandon();
    else void nics.openGate();
    return this.#with.machineMs() - from.clock.machineMs;
  }

  /** The other process has let go of what only one can have. Rejects as Nics.open and Relay.start. */
  async secure(): Promise<void> {
    const { nics, relay, keeper, protection } = this.#with;
    keeper.start();
    await relay.start();
    await nics.secure();
    if (protection.state === 'failed-over') nics.announce();
  }

  #take(from: PairInheritance): void {
    const { nics, keeper, authority, protection, history, clock, machineMs } = this.#with;
    const shiftMs = clock.now() - from.clock.nowMs - (machineMs() - from.clock.machineMs);
    for (const [index, plane] of nics.planes.entries()) loadPlane(plane, from.planes[index]!, shiftMs);
    keeper.inherit(from.kept);
    authority.mandate.load(from.mandate, shiftMs);
    history.epoch = from.epoch;
    protection.inherit(from.state);
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
