/** What a pair is made of. */
import type { CheckpointLimits } from '../checkpoint/limits.js';
import type { DataPlaneLimits, Side } from '../dataplane/data-plane.js';
import type { EvidenceLog } from '../evidence/evidence-log.js';
import type { Link } from '../link/link.js';
import type { DialectChoice } from '../protocol/dialects.js';
import type { Address, ListenOptions, Transport } from '../system/channel.js';
import type { Clock } from '../system/clock.js';
import type { Log } from '../system/log.js';
import type { VmLimits } from './vm.js';

export interface PairLimits {
  readonly dataPlane: DataPlaneLimits;
  readonly checkpoint: CheckpointLimits;
  readonly vm: VmLimits;
  readonly bandwidthBytesPerSecondMax: number;
  /** Pause before protection is tried again after it could not begin, and between two looks at a migration. */
  readonly protectRetryMs: number;
  readonly announceCount: number;
  readonly announceEveryMs: number;
}

export interface PairParts {
  readonly name: string;
  readonly links: Readonly<Record<Side, Link>>;
  readonly qmp: { readonly primary: Address; readonly secondary: Address };
  /** Where the primary migrates to (the relay listens there), and where the secondary waits. */
  readonly migration: {
    readonly listen: Address;
    readonly connect: Address;
    readonly socket?: ListenOptions;
  };
  readonly dialect: DialectChoice;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: PairLimits;
  /** False: a VM's death is reported and nothing is promoted. */
  readonly failoverAuto: boolean;
  /** Keys the flow hash. */
  readonly flowSeed: number;
  /** Where divergences are explained and kept; in memory alone unless given. */
  readonly evidence?: EvidenceLog;
}
