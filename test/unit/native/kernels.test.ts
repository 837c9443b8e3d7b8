import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { firstDifference, sum16 } from '../../../native/index.js';

describe('firstDifference', () => {
  it('agrees with a byte loop, at any offset, for any length', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 900 }),
        fc.nat(20),
        fc.nat(20),
        fc.array(fc.nat(899), { maxLength: 3 }),
        (bytes, aOffset, bOffset, changes) => {
          const a = Buffer.alloc(bytes.length + aOffset + 1, 0xaa);
          const b = Buffer.alloc(bytes.length + bOffset + 1, 0xbb);
          a.set(bytes, aOffset);
          b.set(bytes, bOffset);
          for (const at of changes) if (at < bytes.length) b[bOffset + at] ^= 0x80;
          let expected = -1;
          for (let i = bytes.length - 1; i >= 0; i--) if (a[aOffset + i] !== b[bOffset + i]) expected = i;
          expect(firstDifference(a, aOffset, b, bOffset, bytes.length)).toBe(expected);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('finds a difference in every position of a super-frame', () => {
    const a = Buffer.alloc(65_000, 1);
    const b = Buffer.from(a);
    for (let at = 0; at < a.length; at += 251) {
      b[at] = 2;
      expect(firstDifference(a, 0, b, 0, a.length)).toBe(at);
      expect(firstDifference(a, 0, b, 0, at)).toBe(-1);
      b[at] = 1;
    }
  });
});

describe('sum16', () => {
  const byLoop = (bytes: Uint8Array, initial: number) => {
    let sum = initial;
    for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] << 8) + (bytes[i + 1] ?? 0);
    while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
    return sum;
  };

  it('gives the example of RFC 1071 section 3', () => {
    expect(sum16(Buffer.from('0001f203f4f5f6f7', 'hex'), 0, 8, 0)).toBe(0xddf2);
  });

  it('agrees with a loop over words, at any offset, for odd lengths and any initial sum', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2000 }),
        fc.nat(9),
        fc.nat(0xffffffff),
        (bytes, offset, initial) => {
          const buffer = Buffer.alloc(bytes.length + offset + 3, 0xee);
          buffer.set(bytes, offset);
          expect(sum16(buffer, offset, bytes.length, initial)).toBe(byLoop(bytes, initial));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('folds the largest range without losing a carry', () => {
    const ones = Buffer.alloc(1 << 20, 0xff);
    expect(sum16(ones, 0, ones.length, 0xffffffff)).toBe(0xffff);
  });
});

describe('ranges that end where their memory does', () => {
  // what is read beyond shows only under a sanitizer (npm run test:sanitized)
  it.each([0, 1, 2, 3, 4, 5, 7, 8, 31, 255, 256, 257, 511, 1021])('%i bytes', (length) => {
    const [a, b] = [new Uint8Array(length), new Uint8Array(length)];
    expect(firstDifference(a, 0, b, 0, length)).toBe(-1);
    expect(sum16(a, 0, length, 0)).toBe(0);
    if (length === 0) return;
    b[length - 1] = 1;
    expect(firstDifference(a, 0, b, 0, length)).toBe(length - 1);
    expect(sum16(b, 0, length, 0)).toBe(length % 2 === 1 ? 256 : 1);
  });
});

describe('hostile arguments', () => {
  const bytes = Buffer.alloc(10);
  it.each([
    [0, 11],
    [11, 0],
    [10, 1],
    [-1, 1],
    [0, -1],
    [0.5, 1],
    [Number.NaN, 1],
    [Number.POSITIVE_INFINITY, 1],
    [2 ** 32, 1],
    [4294967295, 4294967295],
  ])('offset %d, length %d is a RangeError', (offset, length) => {
    expect(() => sum16(bytes, offset, length, 0)).toThrow(RangeError);
    expect(() => firstDifference(bytes, offset, Buffer.alloc(100), 0, length)).toThrow(RangeError);
    expect(() => firstDifference(Buffer.alloc(100), 0, bytes, offset, length)).toThrow(RangeError);
  });

  it('wrong types are TypeErrors', () => {
    for (const value of [
      undefined,
      null,
      'text',
      7,
      {},
      [1, 2],
      new Uint16Array(9),
      new DataView(new ArrayBuffer(9)),
    ]) {
      expect(() => sum16(value as never, 0, 1, 0)).toThrow(TypeError);
      expect(() => firstDifference(bytes, 0, value as never, 0, 1)).toThrow(TypeError);
    }
    for (const value of [undefined, null, '1', {}, 1n, Symbol('x')]) {
      expect(() => sum16(bytes, value as never, 1, 0)).toThrow(TypeError);
    }
  });

  it('an empty range at the end is fine', () => {
    expect(sum16(bytes, 10, 0, 5)).toBe(5);
    expect(firstDifference(bytes, 10, bytes, 3, 0)).toBe(-1);
    expect(sum16(new Uint8Array(0), 0, 0, 0)).toBe(0);
  });
});
