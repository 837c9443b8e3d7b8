/** The coordinator's states and what moves them, as a table (DESIGN: "The checkpoint, as the proxy drives it"). */
import { SyncPoint } from '../protocol/sync-point.js';
import type { CheckpointLimits } from './limits.js';
import type { Phase } from './ports.js';

/** Which phase a word leads to. A word that is absent is out of place. */
export const PHASE_AFTER_WORD: Readonly<Record<Phase, Readonly<Partial<Record<SyncPoint, Phase>>>>> = {
  // GUEST_SHUTDOWN stands where REQUEST may. REQUEST comes unasked in `idle` (QEMU's own), asked or not in `quiescing`.
  idle: { [SyncPoint.REQUEST]: 'suspending', [SyncPoint.GUEST_SHUTDOWN]: 'idle' },
  migrating: { [SyncPoint.READY]: 'idle' },
  quiescing: { [SyncPoint.REQUEST]: 'suspending', [SyncPoint.GUEST_SHUTDOWN]: 'idle' },
  suspending: { [SyncPoint.REPLY]: 'suspended' },
  suspended: { [SyncPoint.SEND]: 'transferring' },
  transferring: { [SyncPoint.RECEIVED]: 'loading' },
  loading: { [SyncPoint.LOADED]: 'committing' },
  committing: {},
};

type PhaseLimit = Extract<
  keyof CheckpointLimits,
  | 'migrateMsMax'
  | 'requestMsMax'
  | 'suspendMsMax'
  | 'saveMsMax'
  | 'transferMsMax'
  | 'loadMsMax'
  | 'commitMsMax'
>;

/** How long a phase may last. `idle` has no end; `quiescing` is limited from the moment the primary is asked. */
export const PHASE_LIMIT: Readonly<Partial<Record<Phase, PhaseLimit>>> = {
  migrating: 'migrateMsMax',
  quiescing: 'requestMsMax',
  suspending: 'suspendMsMax',
  suspended: 'saveMsMax',
  transferring: 'transferMsMax',
  loading: 'loadMsMax',
  committing: 'commitMsMax',
};

/** In these phases the primary still runs: the checkpoint in the making covers whatever is asked for now. */
export const COVERS_NEW_REQUESTS: readonly Phase[] = ['quiescing', 'suspending', 'suspended'];

/** Until LOADED only the ended epoch is compared, so what comparing asks for is covered as well. */
export const COVERS_ENDED_EPOCH: readonly Phase[] = [...COVERS_NEW_REQUESTS, 'transferring', 'loading'];
