/** What a pair is made of. */
import type { CheckpointLimits } from '../checkpoint/limits.js';
import type { Comparator } from '../compare/comparator.js';
import type { DataPlaneLimits, Seat, Side } from '../dataplane/data-plane.js';
import type { EvidenceLog } from '../evidence/evidence-log.js';
import type { Arbiter } from '../failover/arbiter.js';
import type { DetectorLimits } from '../failover/detector.js';
import type { MandateLimits } from '../failover/mandate.js';
import type { ProbeOptions } from '../failover/probe.js';
import type { KeptState, StateFile } from '../failover/state-file.js';
import type { Link } from '../link/link.js';
import type { DialectChoice } from '../protocol/dialects.js';
import type { Address, ListenOptions, Transport } from '../system/channel.js';
import type { Clock } from '../system/clock.js';
import type { Log } from '../system/log.js';
import type { Fence } from './authority.js';
import type { DiskReplicationOptions } from './disk-replication.js';
import type { VmLimits } from './vm.js';

export interface PairLimits {
  readonly dataPlane: DataPlaneLimits;
  readonly checkpoint: CheckpointLimits;
  readonly vm: VmLimits;
  readonly bandwidthBytesPerSecondMax: number;
  /** Pause before protection is tried again after it could not begin, and between two looks at a migration. */
  readonly protectRetryMs: number;
  readonly mandate: MandateLimits;
  readonly detector: DetectorLimits;
  readonly announceCount: number;
  readonly announceEveryMs: number;
}

/** One network interface of both VMs, and the client side it belongs to. */
export type NicLinks = Readonly<Record<Side, Link>>;

export interface PairParts {
  readonly name: string;
  /** Of the VMs' first network interface, and of more. */
  readonly links: NicLinks;
  readonly moreNics?: readonly NicLinks[];
  readonly qmp: { readonly primary: Address; readonly secondary: Address };
  /** Where the primary migrates to (the relay listens there), and where a fresh secondary on each seat waits. */
  readonly migration: {
    readonly listen: Address;
    readonly connect: Readonly<Record<Seat, Address>>;
    readonly socket?: ListenOptions;
  };
  /** Drives that are replicated; none unless given. */
  readonly disks?: DiskReplicationOptions;
  readonly dialect: DialectChoice;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: PairLimits;
  /** False: a VM's death is reported and nothing is promoted. */
  readonly failoverAuto: boolean;
  /** False: protection begins only when it is asked for. Default: as soon as a fresh secondary is there. */
  readonly protectAuto?: boolean;
  /** Asked before any promotion. Without one there is one host and this proxy alone. */
  readonly arbiter?: Arbiter;
  readonly fence?: Fence;
  /** Looks at the guest from elsewhere; none unless given. */
  readonly probes?: readonly ProbeOptions[];
  /** What an earlier process left, and where this one writes; forgotten with the process unless given. */
  readonly state?: { readonly file: StateFile; readonly found: KeptState };
  /** Keys the flow hash. */
  readonly flowSeed: number;
  /** Where divergences are explained and kept; in memory alone unless given. */
  readonly evidence?: EvidenceLog;
  /** A comparator that is recorded, say; `nic` counts from 0. */
  readonly makeComparator?: (nic: number, ...needs: ConstructorParameters<typeof Comparator>) => Comparator;
}
