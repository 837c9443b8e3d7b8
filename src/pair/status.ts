/** What a protected pair tells about itself: read at scrape time by observe/, never per frame. */
import type { CheckpointPlan } from '../checkpoint/coordinator.js';
import type { CheckpointCause, CheckpointRecord, Phase } from '../checkpoint/ports.js';
import type { SyncPointSeen } from '../checkpoint/sync-point-record.js';
import type { Divergence, DivergenceReason, ReleaseReason } from '../compare/verdict.js';
import { DROP_REASONS, type DropReason } from '../dataplane/counters.js';
import type { EvidenceStatus } from '../evidence/evidence-log.js';
import type { Sign } from '../failover/detector.js';
import type { LinkAbilities, LinkCounters, LinkState } from '../link/link.js';
import type { DialectName } from '../protocol/dialect.js';
import type { SyncPoint } from '../protocol/sync-point.js';
import type { Histogram } from '../system/histogram.js';
import type { CopyProgress } from './initial-copy.js';

export type ProtectionState =
  | 'unprotected' // the primary's traffic simply passes
  | 'starting' // a secondary is being loaded
  | 'protected'
  | 'checkpointing'
  | 'failed-over' // one VM is gone, the survivor carries the traffic
  | 'resyncing'; // protection is being built anew after a failover

export type Side = 'client' | 'primary' | 'secondary';

export interface LinkStatus {
  /** Number of the network interface, from 0. */
  readonly nic: number;
  readonly side: Side;
  readonly url: string;
  readonly state: LinkState;
  readonly abilities: LinkAbilities;
  readonly counters: Readonly<LinkCounters>;
}

/** One thing the service needs; `/readyz` names those that are not ready. */
export interface PartStatus {
  /**
   * `client link`, `primary link`, `secondary link` of the first interface, `client link 1` ... of the next,
   * `primary qmp`, `secondary qmp`, `protection`; `arbiter`, `state file`, `survivor` where there is one to tell of.
   */
  readonly name: string;
  readonly ready: boolean;
  /** What it waits for or what went wrong, for people. */
  readonly detail: string;
}

export { DROP_REASONS, type DropReason };

/** One reason to let frames go uncompared, and how much left by it. */
export interface WaiverStatus {
  /** `link-control`, or the number of the rule in the configuration, from 1. */
  readonly rule: string;
  readonly why: string;
  readonly frames: number;
  readonly bytes: number;
}

export interface PairStatus {
  readonly name: string;
  readonly state: ProtectionState;
  /** Seat of the VM whose output reaches the clients; none: the arbiter has not let this side go on. */
  readonly carrier: 'primary' | 'secondary' | 'none';
  /** The arbiter's, 0 before the first claim. */
  readonly generation: number;
  /** Signs that the VM that carries the traffic may be lost. */
  readonly signs: readonly Sign[];
  /** While a fresh secondary is being loaded. */
  readonly copy: CopyProgress | null;
  /** Connections that are translated for the clients since a failover. */
  readonly translatedConnections: number;
  readonly phase: Phase;
  readonly epoch: number;
  readonly parts: readonly PartStatus[];
  readonly links: readonly LinkStatus[];
  readonly heldFrames: number;
  readonly heldBytes: number;
  /** How far the VMs' equal output lies apart (99 % quantile), and how long one-sided output waits for that reason. */
  readonly lagMs: number;
  readonly holdMs: number;
  readonly gateClosed: boolean;
  readonly gateFrames: number;
  readonly gateBytes: number;
  readonly flows: number;
  readonly framesReleased: Readonly<Record<ReleaseReason, number>>;
  readonly bytesReleased: Readonly<Record<ReleaseReason, number>>;
  /** What left the protected guest uncompared, by what let it go. */
  readonly waivers: readonly WaiverStatus[];
  readonly drops: Readonly<Record<DropReason, number>>;
  readonly divergences: Readonly<Record<DivergenceReason, number>>;
  readonly checkpoints: Readonly<Record<CheckpointCause, number>>;
  readonly checkpointsFailed: number;
  /** How the present epoch is handled, and whether that came by itself because the outputs never agree. */
  readonly checkpointPlan: CheckpointPlan & { readonly adapted: boolean };
  /** Own checkpoints put off because a VM had not taken what was fed to it. */
  readonly checkpointsPutOff: number;
  /** Client frames that a VM had not taken when it was stopped: possibly lost or doubled there. */
  readonly framesMaybeLost: number;
  /** Segments signed with TCP MD5 or AO that passed untranslated, though the VMs' or the client's numbers differ. */
  readonly signedUntranslated: number;
  /** First fragments of TCP that passed untranslated because they do not hold the whole header. */
  readonly fragmentsUntranslated: number;
  readonly dialect: DialectName | 'auto';
  /** Each sync-point of the migration channel: how often, and when last. */
  readonly syncPoints: Readonly<Record<SyncPoint, Readonly<SyncPointSeen>>>;
  readonly failovers: Readonly<Record<'primary-lost' | 'secondary-lost', number>>;
  /** Of each checkpoint of ours: from the closing of the gate to the question to the primary, and on to its REQUEST. */
  readonly ask: Histogram;
  readonly request: Histogram;
  /** How long the primary's guest was stopped by each checkpoint. */
  readonly pause: Histogram;
  /** How long released frames were held. */
  readonly releaseLatency: Histogram;
  readonly lastCheckpoint: CheckpointRecord | null;
  readonly lastDivergence: Divergence | null;
  readonly evidence: EvidenceStatus;
  /** Guest addresses learnt by watching, as text. */
  readonly guestAddresses: readonly string[];
}
