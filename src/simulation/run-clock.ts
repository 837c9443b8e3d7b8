import type { ManualClock } from '../system/manual-clock.js';

/** Lets everything that waits on a promise go on, to the last. */
export function settlePromises(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Runs a world on a manual clock: one timer, then whatever its promises lead to, then the next timer. True when
 * `done` came true, false when `limitMs` of simulated time had passed (time then stands exactly there) or
 * nothing was left to happen.
 */
export async function runClock(
  clock: ManualClock,
  limitMs: number,
  done: () => boolean = () => false,
): Promise<boolean> {
  const endMs = clock.now() + limitMs;
  for (;;) {
    await settlePromises();
    if (done()) return true;
    if (clock.step(endMs)) continue;
    if (Number.isFinite(endMs)) clock.advance(Math.max(0, endMs - clock.now()));
    return false;
  }
}
