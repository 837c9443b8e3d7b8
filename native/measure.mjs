#!/usr/bin/env node
/** Prices of the byte kernels' calls against what JavaScript has: the tables in native/README.md. */
import { firstDifference, sum16 } from './index.js';

/** Nanoseconds per call, the best of several rounds: others share the machine. */
function price(action) {
  let best = Infinity;
  let calls = 1000;
  for (let round = 0; round < 12; round++) {
    const started = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) action(i & 7);
    const ns = Number(process.hrtime.bigint() - started);
    best = Math.min(best, ns / calls);
    calls = Math.max(1000, Math.min(500_000, Math.round(4e7 / best / 4)));
  }
  return best;
}

function differenceByLoop(a, aOffset, b, bOffset, length) {
  for (let i = 0; i < length; i++) if (a[aOffset + i] !== b[bOffset + i]) return i;
  return -1;
}

function sumByLoop(bytes, offset, length, initial) {
  let sum = initial;
  const even = length & ~1;
  for (let i = offset; i < offset + even; i += 2) sum += (bytes[i] << 8) | bytes[i + 1];
  if (even < length) sum += bytes[offset + even] << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

const a = Buffer.alloc(70_000, 'payload');
const b = Buffer.from(a);
console.log('bytes | firstDifference | Buffer.compare | loop || sum16 | loop   (ns)');
for (const length of [20, 40, 64, 200, 1448, 60_000]) {
  const prices = [
    price((shift) => firstDifference(a, shift, b, shift, length)),
    price((shift) => a.compare(b, shift, shift + length, shift, shift + length)),
    price((shift) => differenceByLoop(a, shift, b, shift, length)),
    price((shift) => sum16(a, shift, length, 0)),
    price((shift) => sumByLoop(a, shift, length, 0)),
  ].map((ns) => ns.toFixed(0).padStart(6));
  console.log(`${String(length).padStart(6)} | ${prices.slice(0, 3).join(' | ')} || ${prices.slice(3).join(' | ')}`);
}
