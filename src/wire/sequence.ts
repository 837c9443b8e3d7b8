/** TCP sequence numbers: unsigned 32-bit, compared modulo 2^32 (RFC 9293 3.4). */

/** `a + delta`; delta may be negative. */
export function seqAdd(a: number, delta: number): number {
  return (a + delta) >>> 0;
}

/** Signed distance from `b` to `a`, in [-2^31, 2^31). */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}

/** Is `a` after `b`? */
export function seqAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

export function seqMax(a: number, b: number): number {
  return ((a - b) | 0) >= 0 ? a : b;
}
