/**
 * All network interfaces of the pair as one: each has a data plane of its own, and one epoch holds for all of them
 * (trap T22). A barrier has passed when it has passed everywhere; a commit happens on all in one turn of the event
 * loop, so that no frame of one interface's new epoch is seen beside another's old one.
 */
import type { CheckpointMode, EpochGate } from '../checkpoint/ports.js';
import type { DataPlane, Seat } from '../dataplane/data-plane.js';
import { type AnnounceOptions, Announcer } from '../failover/announce.js';

export class Nics implements EpochGate {
  readonly planes: readonly DataPlane[];
  readonly #announcers: readonly Announcer[];
  /** Called at every commit between the ended epoch and the new one, while it is set. */
  betweenEpochs: (() => Promise<void>) | null = null;

  /** At least one. */
  constructor(planes: readonly DataPlane[], announce: AnnounceOptions) {
    this.planes = planes;
    this.#announcers = planes.map((plane) => new Announcer(announce, (frame) => plane.announce(frame)));
  }

  /** Seat of today's primary. */
  get carrier(): Seat {
    return this.planes[0]!.carrier;
  }

  /** Every link of the seat that is not today's primary's is up. */
  get secondaryIsLinked(): boolean {
    return this.planes.every(({ secondaryLeg }) => secondaryLeg.link.state === 'up');
  }

  async open(): Promise<void> {
    for (const plane of this.planes) await plane.open();
  }

  /** After an `open` that stood by. Rejects as `open`. */
  secure(): Promise<void> {
    return this.#all((plane) => plane.secure());
  }

  async close(): Promise<void> {
    for (const announcer of this.#announcers) announcer.stop();
    await this.#all((plane) => plane.close());
  }

  // --- epochs -------------------------------------------------------------------------------------------------

  closeGate(): Promise<void> {
    return this.#all((plane) => plane.closeGate());
  }

  openGate(): Promise<void> {
    return this.#all((plane) => plane.openGate());
  }

  async untaken(): Promise<{ primary: number; secondary: number }> {
    const each = await Promise.all(this.planes.map((plane) => plane.untaken()));
    return {
      primary: each.reduce((sum, { primary }) => sum + primary, 0),
      secondary: each.reduce((sum, { secondary }) => sum + secondary, 0),
    };
  }

  secondaryStopped(): Promise<void> {
    return this.#all((plane) => plane.secondaryStopped());
  }

  primaryStopped(): Promise<void> {
    return this.#all((plane) => plane.primaryStopped());
  }

  async commit(mode: CheckpointMode): Promise<void> {
    if (this.betweenEpochs === null) return this.#all((plane) => plane.commit(mode));
    for (const plane of this.planes) plane.commitEnded(mode);
    await this.betweenEpochs();
    this.beginEpoch();
  }

  beginEpoch(): void {
    for (const plane of this.planes) plane.beginEpoch();
  }

  abandon(): Promise<void> {
    return this.#all((plane) => plane.abandon());
  }

  // --- who carries the traffic --------------------------------------------------------------------------------

  continueOnPrimary(): void {
    for (const plane of this.planes) plane.continueOnPrimary();
  }

  promoteSecondary(): void {
    for (const plane of this.planes) plane.promoteSecondary();
  }

  releaseSurvivor(): void {
    for (const plane of this.planes) plane.releaseSurvivor();
  }

  /** Tells each client side where the guest's addresses, learnt on that interface, live now. */
  announce(): void {
    for (const [index, plane] of this.planes.entries()) {
      this.#announcers[index]!.start(plane.guest.addresses);
    }
  }

  /** Nobody lives at the guest's addresses any more. */
  stopAnnouncing(): void {
    for (const announcer of this.#announcers) announcer.stop();
  }

  /** Calls all in the same turn; one that fails keeps no other from it, and its error is told afterwards. */
  async #all(step: (plane: DataPlane) => Promise<void>): Promise<void> {
    const outcomes = await Promise.allSettled(this.planes.map(step));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }
}
