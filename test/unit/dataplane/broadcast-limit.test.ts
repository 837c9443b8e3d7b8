import { describe, expect, it } from 'vitest';
import { BroadcastLimit } from '../../../src/dataplane/broadcast-limit.js';

describe('BroadcastLimit', () => {
  it('lets a second’s worth through at once, then the rate', () => {
    const limit = new BroadcastLimit(100);
    let passed = 0;
    for (let index = 0; index < 500; index++) if (limit.take(1000)) passed++;
    expect(passed).toBe(100);
    for (let index = 0; index < 500; index++) if (limit.take(1500)) passed++;
    expect(passed).toBe(150);
  });

  it('lets nothing through at rate 0', () => {
    const limit = new BroadcastLimit(0);
    expect(limit.take(1000)).toBe(false);
    expect(limit.take(100_000)).toBe(false);
  });
});
