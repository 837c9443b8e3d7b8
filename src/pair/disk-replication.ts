/**
 * Block replication of the drives that the configuration names, as QEMU has it (docs/block-replication.txt): on both
 * VMs each drive is a quorum of one child. The fresh secondary exports the disk below its own replication node by NBD;
 * the primary mirrors its drive there, and when the mirror has caught up a replication node takes its place as the
 * quorum's second child. From then on every write reaches both, and every checkpoint makes the secondary's disk the
 * primary's.
 *
 * Between the end of the mirror and the beginning of COLO a write would reach one disk only, so the guest stands still
 * from the one to the other, as QEMU's own sequence has it (docs/COLO-FT.txt).
 */
import type { Seat } from '../dataplane/data-plane.js';
import { asColoError, ColoError } from '../errors.js';
import {
  addReplicationNode,
  blockJobCancel,
  changeQuorum,
  driveMirror,
  namedNodes,
  nbdServerAdd,
  nbdServerStart,
  nbdServerStop,
  nbdUri,
  queryBlockJobs,
  removeNode,
  stopGuest,
  yankReplicationNode,
} from '../qmp/block-commands.js';
import { cont, type QmpExecutor, queryStatus } from '../qmp/commands.js';
import type { Address } from '../system/channel.js';
import { type Clock, sleep } from '../system/clock.js';
import type { Log } from '../system/log.js';

export interface ReplicatedDisk {
  /** Id of the quorum drive, the same on both VMs. */
  readonly drive: string;
  /** Id of the drive below the secondary's replication node, which it exports. */
  readonly parent: string;
}

export interface DiskReplicationOptions {
  readonly disks: readonly ReplicatedDisk[];
  /** Where the NBD server of a secondary on that seat listens, and the primary finds it. */
  readonly nbd: Readonly<Record<Seat, Address>>;
  /** A job that was cancelled has ended after this, or protection is given up. */
  readonly cancelMsMax: number;
}

/** Of the mirrors together. */
export interface MirrorProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly isReady: boolean;
}

/** A quorum begins with one child, `children.0`; a second is always this (block/quorum.c, quorum_add_child). */
const REPLICA_CHILD = 'children.1';
/** Between two looks at jobs that were cancelled. */
const JOB_LOOK_MS = 5;

export class DiskReplication {
  readonly #options: DiskReplicationOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  /** The guest stands still until COLO begins. */
  #isGuestStopped = false;

  constructor(options: DiskReplicationOptions, clock: Clock, log: Log) {
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
  }

  /** Starts the mirrors onto a fresh secondary; what an earlier attempt left is removed first. Rejects when a VM refuses. */
  async begin(primary: QmpExecutor, secondary: QmpExecutor, secondarySeat: Seat): Promise<void> {
    const nbd = this.#options.nbd[secondarySeat];
    await this.#clear(primary);
    await nbdServerStop(secondary).catch(ignore); // of an attempt that was cancelled
    await nbdServerStart(secondary, nbd);
    for (const { parent } of this.#options.disks) await nbdServerAdd(secondary, parent);
    for (const { drive, parent } of this.#options.disks) {
      await driveMirror(primary, { id: jobOf(drive), drive, target: nbdUri(nbd, parent) });
    }
  }

  /** Rejects with COLO_ERR_DISK when a mirror has ended by itself. */
  async progress(primary: QmpExecutor): Promise<MirrorProgress> {
    const jobs = await queryBlockJobs(primary);
    let bytesDone = 0;
    let bytesTotal = 0;
    let isReady = true;
    for (const { drive } of this.#options.disks) {
      const job = jobs.find(({ id }) => id === jobOf(drive));
      if (job === undefined) throw new ColoError('COLO_ERR_DISK', `the mirror of ${drive} has failed`);
      bytesDone += job.bytesDone;
      bytesTotal += job.bytesTotal;
      isReady &&= job.ready;
    }
    return { bytesDone, bytesTotal, isReady };
  }

  /** The mirrors have caught up: the guest stops, and replication nodes take their places. COLO must follow at once. */
  async couple(primary: QmpExecutor, secondarySeat: Seat): Promise<void> {
    const nbd = this.#options.nbd[secondarySeat];
    this.#isGuestStopped = true;
    await stopGuest(primary);
    for (const { drive } of this.#options.disks) await blockJobCancel(primary, jobOf(drive), false);
    await this.#jobsEnd(primary);
    for (const [index, { drive, parent }] of this.#options.disks.entries()) {
      await addReplicationNode(primary, nodeOf(index), nbd, parent);
      await changeQuorum(primary, drive, { node: nodeOf(index) });
    }
  }

  /** COLO has begun, and runs the guest. */
  coupled(): void {
    this.#isGuestStopped = false;
  }

  /** The secondary is lost or void: before the primary leaves COLO its drives let go of the replica. Never rejects. */
  async leaveOnPrimary(primary: QmpExecutor): Promise<void> {
    await this.#clear(primary).catch((error: unknown) => this.#tell(error));
  }

  /** After it has left COLO, or never came under it. Never rejects. */
  async resumeGuest(primary: QmpExecutor): Promise<void> {
    if (!this.#isGuestStopped) return;
    this.#isGuestStopped = false;
    await cont(primary).catch((error: unknown) => this.#tell(error));
  }

  /** After a process that died while it protected: the guest may stand still, and drives may still have a replica. Never rejects. */
  async recover(primary: QmpExecutor): Promise<void> {
    await this.leaveOnPrimary(primary);
    const { status } = await queryStatus(primary).catch(() => ({ status: '' }));
    this.#isGuestStopped = status === 'paused';
    await this.resumeGuest(primary);
  }

  /** The primary is lost: before the secondary leaves COLO its disks are its own. Never rejects. */
  async leaveOnSecondary(secondary: QmpExecutor): Promise<void> {
    await nbdServerStop(secondary).catch((error: unknown) => this.#tell(error));
  }

  /** Whatever mirror or replica a VM's drives have, they have none afterwards. Safe to repeat. */
  async #clear(vm: QmpExecutor): Promise<void> {
    const nodes = await namedNodes(vm);
    for (const [index, { drive }] of this.#options.disks.entries()) {
      const node = nodeOf(index);
      if (!nodes.has(node)) continue;
      await yankReplicationNode(vm, node).catch(ignore); // its connection may be gone already
      await changeQuorum(vm, drive, { child: REPLICA_CHILD }).catch(ignore); // it had not become a child yet
      await removeNode(vm, node);
    }
    const jobs = await queryBlockJobs(vm);
    for (const { drive } of this.#options.disks) {
      // It may have ended meanwhile.
      if (jobs.some(({ id }) => id === jobOf(drive)))
        await blockJobCancel(vm, jobOf(drive), true).catch(ignore);
    }
    await this.#jobsEnd(vm);
  }

  async #jobsEnd(vm: QmpExecutor): Promise<void> {
    const ours = new Set(this.#options.disks.map(({ drive }) => jobOf(drive)));
    const endMs = this.#clock.now() + this.#options.cancelMsMax;
    while ((await queryBlockJobs(vm)).some(({ id }) => ours.has(id))) {
      if (this.#clock.now() >= endMs) {
        throw new ColoError(
          'COLO_ERR_DISK',
          `a mirror has not ended ${this.#options.cancelMsMax} ms after its end was asked for`,
        );
      }
      await sleep(this.#clock, JOB_LOOK_MS);
    }
  }

  #tell(error: unknown): void {
    const reason = asColoError(error, 'COLO_ERR_DISK', 'disk replication');
    this.#log.error({ code: reason.code }, reason.message);
  }
}

function jobOf(drive: string): string {
  return `colo-mirror-${drive}`;
}

/** By number: a node's name may have 31 characters (block.c, bdrv_assign_node_name). */
function nodeOf(index: number): string {
  return `colo-replica${index}`;
}

function ignore(): void {}
