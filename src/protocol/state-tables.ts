/**
 * The checkpoint protocol as tables: which word may come in which state, and what state it leads to
 * (QEMU migration/colo.c: colo_do_checkpoint_transaction, colo_incoming_process_checkpoint). The words of the
 * two VMs alternate strictly, so one table serves both; a role only says who sends a word and who receives it.
 */
import { type Dialect, says } from './dialect.js';
import { type Direction, SyncPoint } from './sync-point.js';

export type Role = 'primary' | 'secondary';

/** Named for the last word that passed. Both VMs run in `starting` (the primary alone) and `running`. */
export const PROTOCOL_STATES = [
  'starting', // the initial migration stream; READY has not come
  'running', // READY or LOADED has passed
  'requested', // REQUEST has passed: the secondary is to stop
  'replied', // REPLY has passed: the secondary is stopped, the primary is to stop
  'sending', // SEND has passed: both are stopped, RAM follows
  'sized', // SIZE has passed: device state follows (only its two ends see this word)
  'received', // RECEIVED has passed: the secondary loads
  'ended', // GUEST_SHUTDOWN has passed: the guest has shut down, both VMs end
] as const;
export type ProtocolState = (typeof PROTOCOL_STATES)[number];

export type StateTable = Readonly<Record<ProtocolState, Readonly<Partial<Record<SyncPoint, ProtocolState>>>>>;

/** Who looks at the words: an end of the channel, or a relay, to which everything from SEND to RECEIVED is opaque. */
export type Observer = 'endpoint' | 'relay';

/** The table of a dialect. One without SIZE says the size with SEND; one with GUEST_SHUTDOWN ends with it. */
export function stateTable(dialect: Dialect, observer: Observer): StateTable {
  const isSized = says(dialect, SyncPoint.SIZE);
  const state: StateTable = {
    starting: { [SyncPoint.READY]: 'running' },
    running: { [SyncPoint.REQUEST]: 'requested' },
    requested: { [SyncPoint.REPLY]: 'replied' },
    replied: { [SyncPoint.SEND]: 'sending' },
    sending: { [SyncPoint.SIZE]: 'sized' },
    sized: { [SyncPoint.RECEIVED]: 'received' },
    received: { [SyncPoint.LOADED]: 'running' },
    ended: {},
  };
  return {
    ...state,
    ...(says(dialect, SyncPoint.GUEST_SHUTDOWN) && {
      running: { ...state.running, [SyncPoint.GUEST_SHUTDOWN]: 'ended' },
    }),
    ...((observer === 'relay' || !isSized) && {
      sending: { [SyncPoint.RECEIVED]: 'received' },
      sized: {},
    }),
  };
}

const DIRECTIONS: Readonly<Record<SyncPoint, Direction>> = {
  [SyncPoint.READY]: 'secondary-to-primary',
  [SyncPoint.REQUEST]: 'primary-to-secondary',
  [SyncPoint.REPLY]: 'secondary-to-primary',
  [SyncPoint.SEND]: 'primary-to-secondary',
  [SyncPoint.SIZE]: 'primary-to-secondary',
  [SyncPoint.RECEIVED]: 'secondary-to-primary',
  [SyncPoint.LOADED]: 'secondary-to-primary',
  [SyncPoint.GUEST_SHUTDOWN]: 'primary-to-secondary',
};

export function directionOf(word: SyncPoint): Direction {
  return DIRECTIONS[word];
}

export function senderOf(word: SyncPoint): Role {
  return DIRECTIONS[word] === 'primary-to-secondary' ? 'primary' : 'secondary';
}

/** Where `word` leads from `state`, or undefined when it has no place there. */
export function nextState(
  table: StateTable,
  state: ProtocolState,
  word: SyncPoint,
): ProtocolState | undefined {
  return table[state][word];
}

/** The words that `direction` may carry in `state`. */
export function expectedWords(table: StateTable, state: ProtocolState, direction: Direction): SyncPoint[] {
  return (Object.keys(table[state]) as SyncPoint[]).filter((word) => DIRECTIONS[word] === direction);
}
