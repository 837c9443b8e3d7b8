/** Made-up state of any length whose every byte is known: the same everywhere, and no two near chunks are alike. */

export const STATE_CHUNK_BYTES = 256 * 1024;
/** Prime, so that chunks do not line up with it. */
const PERIOD_BYTES = 1_048_573;

let pattern: Buffer | undefined;

/** One period and a chunk more, made when first asked for (xorshift, Marsaglia 2003). */
function bytesOfPattern(): Buffer {
  if (pattern !== undefined) return pattern;
  pattern = Buffer.alloc(PERIOD_BYTES + STATE_CHUNK_BYTES);
  let word = 0x2545f491;
  for (let at = 0; at < PERIOD_BYTES; at++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    pattern[at] = word & 0xff;
  }
  pattern.copy(pattern, PERIOD_BYTES, 0, STATE_CHUNK_BYTES);
  return pattern;
}

/** Up to STATE_CHUNK_BYTES bytes of the state from `position` on; not to be changed. */
export function stateChunk(position: number, length: number): Buffer {
  const at = position % PERIOD_BYTES;
  return bytesOfPattern().subarray(at, at + length);
}

/** Index of the first byte of `bytes` that is not the state's at `position`; -1 when all are. */
export function compareState(bytes: Buffer, position: number): number {
  for (let at = 0; at < bytes.length; at += STATE_CHUNK_BYTES) {
    const part = bytes.subarray(at, at + STATE_CHUNK_BYTES);
    const expected = stateChunk(position + at, part.length);
    if (part.equals(expected)) continue;
    return at + part.findIndex((byte, index) => byte !== expected[index]);
  }
  return -1;
}
