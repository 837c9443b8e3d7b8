import { setBusyPoll } from '../../native/index.js';

/**
 * Adaptive busy polling: while frames come, and for `forUs` microseconds longer, the event loop does not go to sleep. A
 * wake-up costs tens of microseconds; the price is up to one core. 0: off.
 */
export function busyPoll(forUs: number): void {
  if (forUs > 0) setBusyPoll(forUs);
}
