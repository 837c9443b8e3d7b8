import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seqAdd, seqAfter, seqDiff, seqMax } from '../../../src/wire/sequence.js';
import { u32 } from './arbitraries.js';

const near = fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 });

describe('sequence numbers modulo 2^32', () => {
  it('add and diff are inverse, across the wrap', () => {
    fc.assert(
      fc.property(u32, near, (a, delta) => {
        const b = seqAdd(a, delta);
        expect(b).toBeGreaterThanOrEqual(0);
        expect(b).toBeLessThan(2 ** 32);
        expect(seqDiff(b, a)).toBe(delta);
      }),
    );
  });
  it('order follows the distance', () => {
    fc.assert(
      fc.property(u32, near, (a, delta) => {
        const b = seqAdd(a, delta);
        expect(seqAfter(b, a)).toBe(delta > 0);
        expect(seqMax(a, b)).toBe(delta > 0 ? b : a);
      }),
    );
  });
  it('0 comes after 2^32 - 1', () => {
    expect(seqAdd(0xffffffff, 1)).toBe(0);
    expect(seqAfter(0, 0xffffffff)).toBe(true);
    expect(seqMax(5, 0xfffffff0)).toBe(5);
  });
});
