/** Where frames went inside the proxy: each that came in is compared, passes, waits or is counted as thrown away. */
import { Comparator } from '../../compare/comparator.js';
import { DataPlane } from '../../dataplane/data-plane.js';
import type { Pair } from '../../pair/pair.js';
import { FrameKind } from '../../wire/frame-view.js';
import type { World } from '../world.js';

/** What the primary alone speaks of, for both VMs. */
const LINK_CONTROL: ReadonlySet<number> = new Set([
  FrameKind.ARP,
  FrameKind.ND,
  FrameKind.GROUP_MEMBERSHIP,
  FrameKind.LINK_CONTROL,
]);

/** Frames that the comparators of all proxies of a world were given. */
export class Passage {
  /** Of the VM that carries the traffic, and of the other one. */
  fromCarrier = 0;
  fromOther = 0;
  /** Held by the comparator when the carrier died. */
  uncovered = 0;
  /** Of the clients, on to the VMs. */
  fromClients = 0;
  /** Link control of the carrier while there was a pair. */
  linkControl = { frames: 0, bytes: 0 };
  /** The proxies' own announcements that a full client link refused: no VM's output. */
  announcementsRefused = 0;
  /** Sum of the moments at which the carrier's frames came, in simulated milliseconds. */
  cameMs = 0;

  /** Looks over every comparator's shoulder from here on; what it returns ends that. */
  watch(world: World): () => void {
    const passage = this;
    const { primary, watch, secondary, flowFromClient, dropPrimary } = Comparator.prototype;
    const { announce } = DataPlane.prototype;
    DataPlane.prototype.announce = function (this: DataPlane, frame) {
      const { counters } = this.links.client;
      const { sendDrops } = counters;
      announce.call(this, frame);
      passage.announcementsRefused += counters.sendDrops - sendDrops;
    };
    const came = (): void => {
      passage.fromCarrier++;
      passage.cameMs += world.clock.now();
    };
    Comparator.prototype.primary = function (this: Comparator, view, flow, nowMs) {
      came();
      if (LINK_CONTROL.has(view.kind)) {
        passage.linkControl.frames++;
        passage.linkControl.bytes += view.end - view.start;
      }
      return primary.call(this, view, flow, nowMs);
    };
    Comparator.prototype.watch = function (this: Comparator, view, flow, nowMs) {
      came();
      watch.call(this, view, flow, nowMs);
    };
    Comparator.prototype.secondary = function (this: Comparator, view, flow, nowMs) {
      passage.fromOther++;
      secondary.call(this, view, flow, nowMs);
    };
    Comparator.prototype.flowFromClient = function (this: Comparator, view, nowMs) {
      passage.fromClients++;
      return flowFromClient.call(this, view, nowMs);
    };
    Comparator.prototype.dropPrimary = function (this: Comparator) {
      passage.uncovered += this.heldFrames;
      return dropPrimary.call(this);
    };
    return () => {
      DataPlane.prototype.announce = announce;
      Object.assign(Comparator.prototype, { primary, watch, secondary, flowFromClient, dropPrimary });
    };
  }
}

/** Frames that wait in a proxy for a VM, and for the end of a checkpoint. */
export function waiting(pairs: readonly Pair[]): { gate: number; parked: number } {
  const planes = pairs.flatMap(({ nics }) => nics.planes);
  return {
    gate: planes.reduce((sum, { gate }) => sum + gate.frames, 0),
    parked: planes.reduce((sum, { secondaryLeg }) => sum + secondaryLeg.parked.frames, 0),
  };
}
