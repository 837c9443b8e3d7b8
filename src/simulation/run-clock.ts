import { promiseHooks } from 'node:v8';
import type { ManualClock } from '../system/manual-clock.js';

/** A turn of the event loop now and then, so that a long run starves nobody outside the world. */
const TURN_EVERY = 512;
let settled = 0;

/**
 * Lets everything that waits on a promise go on, to the last: ticks are run when no promise job is left. Nothing in a
 * world waits for the event loop itself.
 */
function settlePromises(): Promise<void> {
  settled = (settled + 1) % TURN_EVERY;
  return new Promise((resolve) => (settled === 0 ? setImmediate(resolve) : process.nextTick(resolve)));
}

/**
 * Runs a world on a manual clock: one timer, then whatever its promises lead to, then the next timer. True when
 * `done` came true, false when `limitMs` of simulated time had passed (time then stands exactly there) or
 * nothing was left to happen.
 *
 * Letting promises go on costs more than most timers: it is done when the timer made or settled one.
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
