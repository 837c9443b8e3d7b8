import { promiseHooks } from 'node:v8';
import type { ManualClock } from '../system/manual-clock.js';

/** Lets everything that waits on a promise go on, to the last. */
export function settlePromises(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Runs a world on a manual clock: one timer, then whatever its promises lead to, then the next timer. True when
 * `done` came true, false when `limitMs` of simulated time had passed (time then stands exactly there) or
 * nothing was left to happen.
 *
 * A turn of the event loop costs far more than most timers, and only promises need one: it is taken when the
 * timer made or settled a promise.
 */
export async function runClock(
  clock: ManualClock,
  limitMs: number,
  done: () => boolean = () => false,
): Promise<boolean> {
  const endMs = clock.now() + limitMs;
  let touched = true;
  const touch = (): void => {
    touched = true;
  };
  const stopHooks = promiseHooks.createHook({ init: touch, settled: touch });
  try {
    for (;;) {
      if (touched) {
        await settlePromises();
        touched = false;
      }
      if (done()) return true;
      if (clock.step(endMs)) continue;
      if (Number.isFinite(endMs)) clock.advance(Math.max(0, endMs - clock.now()));
      return false;
    }
  } finally {
    stopHooks();
  }
}
