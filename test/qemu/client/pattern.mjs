/** The bytes that the guest's HTTP server gives: the same function as pattern_word() in guest/services.c. */
import crypto from 'node:crypto';

function patternWord(seed, index) {
  let x = (Math.imul(index, 0x9e3779b1) + Math.imul(seed, 0x27d4eb2f)) >>> 0;
  x ^= x >>> 15;
  x = Math.imul(x, 0x85ebca77);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae3d);
  return (x ^ (x >>> 16)) >>> 0;
}

const known = new Map();

/**
 * @param {number} bytes a multiple of 4
 * @returns {{content: Buffer, sha256: string}}
 */
export function pattern(seed, bytes) {
  const key = `${seed}/${bytes}`;
  let entry = known.get(key);
  if (!entry) {
    const words = new Uint32Array(bytes / 4);
    for (let index = 0; index < words.length; index++) words[index] = patternWord(seed, index);
    const content = Buffer.from(words.buffer);
    entry = { content, sha256: crypto.createHash('sha256').update(content).digest('hex') };
    known.set(key, entry);
  }
  return entry;
}

/** Seeds and sizes of the server's named files. */
export const FILES = { '/1m.bin': { seed: 1, bytes: 1 << 20 }, '/64k.bin': { seed: 2, bytes: 1 << 16 } };
