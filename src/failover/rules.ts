import type { Phase } from '../checkpoint/ports.js';

/**
 * What the death of the primary means in each phase of a checkpoint. The question is always the same: which
 * state would the secondary go on from?
 *
 * - `no-replica`: no checkpoint was ever loaded, the secondary must not be promoted: the service waits for the
 *   primary.
 * - `old-state`: the secondary has loaded nothing of this checkpoint: close its channel, promote it as it is.
 * - `wait-received`: all of the state may be under way: the secondary's channel stays open for a moment; with
 *   RECEIVED it is `wait-loaded`, without it `old-state`.
 * - `wait-loaded`: the secondary is loading and nobody can tell which state it would go on from: wait for LOADED,
 *   commit, then promote. QEMU answers a failover during the load by relaunching it after the load anyway
 *   (migration/colo-failover.c, FAILOVER_STATUS_RELAUNCH).
 *
 * The death of the secondary needs no table: in every phase it is void for good and the primary goes on.
 */
export type PrimaryLostRule = 'no-replica' | 'old-state' | 'wait-received' | 'wait-loaded';

export const PRIMARY_LOST_RULES: Readonly<Record<Phase, PrimaryLostRule>> = {
  idle: 'old-state',
  migrating: 'no-replica',
  quiescing: 'old-state',
  suspending: 'old-state',
  suspended: 'old-state',
  transferring: 'wait-received',
  loading: 'wait-loaded',
  committing: 'wait-loaded',
};

/** The rule for the primary's death now; `protectedOnce` is false until the first LOADED of this secondary. */
export function primaryLostRule(phase: Phase, protectedOnce: boolean): PrimaryLostRule {
  return protectedOnce ? PRIMARY_LOST_RULES[phase] : 'no-replica';
}
