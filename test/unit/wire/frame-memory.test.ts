import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allocateFrameBytes,
  copyBytes,
  differenceOf,
  type FrameBytes,
} from '../../../src/wire/frame-memory.js';

const BYTES = 4096;
const inMemory = (): FrameBytes => allocateFrameBytes(BYTES).fill(0);
const elsewhere = (): FrameBytes => Buffer.alloc(BYTES);

const PLACES: readonly [name: string, first: FrameBytes, second: FrameBytes][] = [
  ['both in the memory', inMemory(), inMemory()],
  ['the first in it', inMemory(), elsewhere()],
  ['the second in it', elsewhere(), inMemory()],
  ['none in it', elsewhere(), elsewhere()],
];

const range = fc
  .tuple(fc.nat(600), fc.nat(600), fc.integer({ min: 0, max: 1600 }))
  .map(([a, b, length]) => ({ a, b, length }));

describe('frame memory', () => {
  it('gives ranges that do not touch each other', () => {
    const buffers = [100, 1, 70_000].map((bytes) => allocateFrameBytes(bytes));
    for (const [index, buffer] of buffers.entries()) buffer.fill(index + 1);
    expect(buffers.map((buffer) => buffer.length)).toEqual([100, 1, 70_000]);
    for (const [index, buffer] of buffers.entries()) {
      expect(buffer.every((byte) => byte === index + 1)).toBe(true);
      expect(buffer.frameAddress).toBeTypeOf('number');
    }
  });

  it('goes on in ordinary buffers when it is used up', () => {
    const large = allocateFrameBytes(600 * 1024 * 1024);
    expect(large.frameAddress).toBeUndefined();
    expect(large.length).toBe(600 * 1024 * 1024);
  });

  describe.each(PLACES)('%s', (_name, first, second) => {
    it('copies what Buffer.copy copies, and nothing beside it', () => {
      fc.assert(
        fc.property(range, fc.integer(), ({ a, b, length }, seed) => {
          for (let at = 0; at < BYTES; at += 1) first[at] = at * 31 + seed;
          second.fill(0xee);
          const expected = Buffer.alloc(BYTES, 0xee);
          first.copy(expected, b, a, a + length);
          copyBytes(first, a, second, b, length);
          expect(second.equals(expected)).toBe(true);
        }),
        { numRuns: 100 },
      );
    });

    it('finds the first difference wherever it is, and none where there is none', () => {
      fc.assert(
        fc.property(range, fc.nat(1700), fc.nat(1700), ({ a, b, length }, near, far) => {
          for (let at = 0; at < length; at += 1) first[a + at] = at * 7;
          copyBytes(first, a, second, b, length);
          // bytes around the ranges differ and do not count
          second[b + length] = first[a + length]! ^ 1;
          expect(differenceOf(first, a, second, b, length)).toBe(-1);
          const differing = [near, far].filter((at) => at < length);
          for (const at of new Set(differing)) second[b + at] = second[b + at]! ^ 0x80;
          expect(differenceOf(first, a, second, b, length)).toBe(
            differing.length === 0 ? -1 : Math.min(...differing),
          );
        }),
        { numRuns: 200 },
      );
    });

    it('finds one that differs alone at any place of any length', () => {
      first.fill(0x55);
      second.fill(0x55);
      for (let length = 0; length <= 150; length += 1) {
        const found = [];
        for (let at = 0; at < length; at += 1) {
          second[5 + at] = 0xaa;
          found.push(differenceOf(first, 3, second, 5, length));
          second[5 + at] = 0x55;
        }
        expect(found).toEqual(found.map((_, at) => at));
        expect(differenceOf(first, 3, second, 5, length)).toBe(-1);
      }
    });

    it('refuses ranges that do not lie inside their buffers', () => {
      const ranges = [
        [-1, 0, 1],
        [0, -1, 1],
        [BYTES, 0, 1],
        [0, BYTES - 3, 4],
        [0, 0, -1],
        [Number.NaN, 0, 1],
      ] as const;
      for (const [a, b, length] of ranges) {
        expect(() => copyBytes(first, a, second, b, length)).toThrow(RangeError);
        expect(() => differenceOf(first, a, second, b, length)).toThrow(RangeError);
      }
      expect(() => copyBytes(first, BYTES, second, BYTES, 0)).not.toThrow();
    });
  });
});
