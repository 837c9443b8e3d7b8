import { otherSeat } from '../dataplane/data-plane.js';
import { asColoError } from '../errors.js';
import type { Timer } from '../system/clock.js';
import type { Protectors } from './protectors.js';
import type { Vm } from './vm.js';

/**
 * One VM goes on alone. Who is lost has been decided, and the arbiter has allowed it; here is the order in which it is
 * done: first what makes two heads impossible, then what must be remembered, then output.
 */
export class Takeover {
  /** Why the VM that goes on has not left COLO, for people; empty when it has. It is told again and again. */
  problem = '';
  readonly #with: Protectors;
  #again: Timer | null = null;

  constructor(protectors: Protectors) {
    this.#with = protectors;
  }

  stop(): void {
    this.#again?.cancel();
  }

  /**
   * The primary cannot go on: the secondary is today's primary from here on. Until the state file says so nothing
   * leaves, however long that takes. `began`: it carries the traffic.
   */
  async promote(began: () => void): Promise<void> {
    const { relay, nics, keeper, coordinator, history, vms } = this.#with;
    relay.closeChannel();
    nics.promoteSecondary();
    const survivor = vms[nics.carrier];
    const left = this.#leaveAsSurvivor(survivor); // QEMU stops and runs its guest for that: the file is written meanwhile
    await keeper.save({ protecting: false });
    nics.releaseSurvivor();
    await coordinator.abandon();
    history.failovers['primary-lost']++;
    began();
    nics.announce();
    await left;
    await vms[otherSeat(nics.carrier)].quit();
  }

  /**
   * The primary carries the traffic alone. Before the first held frame leaves, the old secondary is void for good:
   * channel closed, told to quit, its frames ignored; only a secondary that loads a new state may take part again. The
   * state file has said so since protection began, so one that cannot be written now holds nothing up. `began`: what
   * was held has left.
   */
  async goOn(
    how: { readonly secondaryDied: boolean; readonly guestIsDown: boolean },
    began: () => void,
  ): Promise<void> {
    const { relay, nics, keeper, coordinator, history, vms } = this.#with;
    relay.closeChannel();
    const told = vms[otherSeat(nics.carrier)].quit(); // it may be silent, and wake up later
    // A guest that is down stays down: leaving COLO would run it again.
    const left = this.#leaveAlone(vms[nics.carrier], how.guestIsDown);
    keeper.note({ protecting: false });
    nics.continueOnPrimary();
    await coordinator.abandon();
    if (how.secondaryDied) history.failovers['secondary-lost']++;
    began();
    await Promise.all([left, told]);
  }

  async #leaveAsSurvivor(survivor: Vm): Promise<void> {
    await this.#with.disks?.leaveOnSecondary(survivor.monitor);
    await this.#leaveColo(survivor);
  }

  /** Nothing is void yet. False: the primary stays stopped for COLO. */
  async primaryLeaves(): Promise<boolean> {
    const { vms, nics, disks } = this.#with;
    const primary = vms[nics.carrier];
    await disks?.leaveOnPrimary(primary.monitor);
    return primary.leaveColo().then(
      () => true,
      () => false,
    );
  }

  async #leaveAlone(primary: Vm, guestIsDown: boolean): Promise<void> {
    const { disks } = this.#with;
    await disks?.leaveOnPrimary(primary.monitor);
    if (guestIsDown) return;
    await this.#leaveColo(primary);
    await disks?.resumeGuest(primary.monitor);
  }

  /** A VM that refuses, or cannot be reached now, is told again: if it is stopped for a checkpoint it would stay so. */
  async #leaveColo(vm: Vm): Promise<void> {
    this.#again?.cancel();
    const { log, clock, limits } = this.#with.parts;
    try {
      await vm.leaveColo();
      this.problem = '';
    } catch (error) {
      const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', 'x-colo-lost-heartbeat');
      if (this.problem !== reason.message) log.error({ code: reason.code, vm: vm.seat }, reason.message);
      this.problem = reason.message;
      this.#again = clock.after(limits.mandate.retryMs, () => void this.#leaveColo(vm));
    }
  }
}
