import { expect, it } from 'vitest';
import { DEFAULT_COMPARE_LIMITS } from '../../../src/compare/verdict.js';
import { DataPlane } from '../../../src/dataplane/data-plane.js';
import type { LinkHandler } from '../../../src/link/link.js';
import { memoryLinkPair } from '../../../src/link/memory-link.js';
import { ManualClock } from '../../../src/system/manual-clock.js';

it('a frame that waited for a slow client side does not leave after the mandate has ended', async () => {
  const clock = new ManualClock();
  const mandate = { heldUntilMs: 1000 };
  const near = (name: string) => memoryLinkPair({ name })[0];
  const inner = near('client');
  let handler: LinkHandler | undefined;
  const open = inner.open.bind(inner);
  inner.open = (given) => {
    handler = given;
    return open(given);
  };
  const plane = new DataPlane({
    links: {
      client: inner,
      primary: near('primary'),
      secondary: near('secondary'),
    },
    clock,
    mandate,
    limits: {
      gate: { framesMax: 10, bytesMax: 10_000 },
      parked: { framesMax: 10, bytesMax: 10_000 },
      broadcastPerSecondMax: 1000,
      compare: DEFAULT_COMPARE_LIMITS,
    },
    flowSeed: 1,
    events: { diverged() {}, linkChanged() {}, looped() {}, signedUntranslated() {} },
  });
  await plane.open();
  expect(handler!.maySend!()).toBe(true);
  clock.advance(999);
  expect(handler!.maySend!()).toBe(true);
  clock.advance(1);
  expect(handler!.maySend!()).toBe(false);
  mandate.heldUntilMs = 5000;
  expect(handler!.maySend!()).toBe(true);
  await plane.close();
});
