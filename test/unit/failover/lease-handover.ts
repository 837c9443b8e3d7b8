import { expect } from 'vitest';
import type { Arbiter } from '../../../src/failover/arbiter.js';
import { Mandate } from '../../../src/failover/mandate.js';
import { type Clock, realClock, sleep } from '../../../src/system/clock.js';

const SHIFT_MS = 5000;
/** As another process shows the same moments. */
const shiftedClock: Clock = {
  now: () => realClock.now() + SHIFT_MS,
  wallMs: () => realClock.wallMs(),
  after: (ms, action) => realClock.after(ms, action),
  every: (ms, action) => realClock.every(ms, action),
};

/**
 * The right goes from one process to the next, as in a hot restart, while a rival claims it all the time: it is never
 * free, and of the same generation. Given back at the end, it is the rival's.
 */
export async function expectRightWithoutGap(
  leaseMs: number,
  arbiterOf: (owner: string, process: string, clock: Clock) => Arbiter,
): Promise<void> {
  const lost: string[] = [];
  const mandateOf = (process: string, clock: Clock): Mandate =>
    new Mandate(
      arbiterOf('a', process, clock),
      0,
      clock,
      { claimMsMax: 1000, retryMs: 50 },
      {
        held: () => undefined,
        lost: (detail) => lost.push(detail),
        generationChanged: () => undefined,
      },
    );
  const first = mandateOf('a-1', realClock);
  first.start('primary');
  while (!first.isHeld(realClock.now())) await sleep(realClock, 10);

  const rival = arbiterOf('b', 'b-1', realClock);
  const claim = { reason: 'start', seat: 'primary', generation: 0 } as const;
  const { signal } = new AbortController();
  const told: string[] = [];
  let isOver = false;
  const claiming = (async () => {
    while (!isOver) {
      told.push((await rival.claim(claim, signal)).outcome);
      await sleep(realClock, 10);
    }
  })();

  const second = mandateOf('a-2', shiftedClock);
  first.pause();
  second.load(structuredClone(first.save()), SHIFT_MS);
  second.resume();
  const endMs = realClock.now() + 2.5 * leaseMs;
  while (realClock.now() < endMs) {
    expect(second.isHeld(shiftedClock.now())).toBe(true);
    await sleep(realClock, 20);
  }
  isOver = true;
  await claiming;
  expect(second.generation).toBe(first.generation);
  expect(lost).toEqual([]);
  expect(new Set(told)).toEqual(new Set(['lost']));
  await second.stop();
  expect(await rival.claim(claim, signal)).toMatchObject({ outcome: 'won', generation: 2 });
}
