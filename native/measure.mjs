#!/usr/bin/env node
/** Prices of the addon's calls: the tables in native/README.md. */
import { execFileSync } from 'node:child_process';
import { firstDifference, openPacketSocket, openTap, sum16 } from './index.js';

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

function measureKernels() {
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
}

/**
 * Nanoseconds per frame of one call that moves `batch` frames, host side to TAP and back. `--io`, as root in a
 * namespace of its own: `unshare --net node native/measure.mjs --io`.
 */
function measurePorts() {
  const vm = openTap({ name: 'measure0' });
  execFileSync('ip', ['link', 'set', 'dev', 'measure0', 'arp', 'off', 'addrgenmode', 'none']);
  execFileSync('ip', ['link', 'set', 'dev', 'measure0', 'up']);
  const wire = openPacketSocket({ interface: 'measure0', receiveBufferBytes: 1 << 24 });
  const slotBytes = 2048;
  const slab = Buffer.alloc(slotBytes * 64, 0x5a);
  const offsets = Int32Array.from({ length: 64 }, (_, i) => i * slotBytes + 16);
  const received = [new Int32Array(64), new Int32Array(64)];
  const sink = Buffer.alloc(slotBytes * 64);
  console.log('bytes, batch | TAP send | packet receive | packet send | TAP receive   (ns per frame)');
  for (const [length, batch] of [
    [64, 1],
    [64, 64],
    [1514, 64],
  ]) {
    const lengths = new Int32Array(64).fill(length);
    const send = (port) => port.send(slab, offsets, lengths, 0, 0, batch);
    const receive = (port) => port.receive(sink, received[0], received[1], slotBytes, batch);
    const steps = [() => send(vm), () => receive(wire), () => send(wire), () => receive(vm)];
    const best = steps.map(() => Infinity);
    for (let round = 0; round < 20_000 / batch; round++) {
      steps.forEach((step, i) => {
        const started = process.hrtime.bigint();
        if (step() !== batch) throw new Error(`step ${i} moved fewer frames than it was given`);
        best[i] = Math.min(best[i], Number(process.hrtime.bigint() - started) / batch);
      });
    }
    console.log(`${length}, ${batch} | ${best.map((ns) => ns.toFixed(0)).join(' | ')}`);
  }
  vm.close();
  wire.close();
}

if (process.argv.includes('--io')) measurePorts();
else measureKernels();
