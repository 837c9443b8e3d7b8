import { type FlowSnapshot, loadFlows, saveFlows } from '../flow/flow-snapshot.js';
import type { DataPlane, Seat } from './data-plane.js';
import type { SavedFrame } from './frame-queue.js';
import type { GuestAddress } from './guest-addresses.js';

/** A data plane between two epochs, for a successor process; every part survives a structured clone. */
export interface PlaneSnapshot {
  readonly mode: DataPlane['mode'];
  readonly carrier: Seat;
  readonly buffersOnly: boolean;
  readonly isSurvivor: boolean;
  readonly flows: FlowSnapshot;
  readonly gate: readonly SavedFrame[];
  readonly parked: readonly SavedFrame[];
  readonly guest: readonly GuestAddress[];
  readonly neighbours: ReadonlyMap<string, Uint8Array>;
}

/** With nothing held: right after DataPlane.commitEnded, or while nothing is compared. */
export function savePlane(plane: DataPlane): PlaneSnapshot {
  return {
    mode: plane.mode,
    carrier: plane.carrier,
    buffersOnly: plane.comparator.buffersOnly,
    isSurvivor: plane.isSurvivor,
    flows: saveFlows(plane.flows),
    gate: plane.gate.save(),
    parked: plane.secondaryLeg.parked.save(),
    guest: plane.guest.addresses,
    neighbours: plane.neighbours.save(),
  };
}

/** In place of what was loaded before; no frame has passed. The gate is closed, and the new epoch has not begun. */
export function loadPlane(plane: DataPlane, from: PlaneSnapshot, shiftMs: number): void {
  plane.mode = from.mode;
  plane.startOn(from.carrier);
  plane.comparator.buffersOnly = from.buffersOnly;
  plane.isSurvivor = from.isSurvivor;
  loadFlows(plane.flows, from.flows, shiftMs);
  plane.gateClosed = true;
  plane.gate.clear();
  plane.gate.load(from.gate);
  plane.secondaryLeg.parking = from.mode === 'comparing';
  plane.secondaryLeg.parked.clear();
  plane.secondaryLeg.parked.load(from.parked);
  for (const address of from.guest) plane.guest.restore(address);
  plane.neighbours.load(from.neighbours);
}
