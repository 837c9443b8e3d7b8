// Seeded mutation of every parser: `npm run fuzz -- [--seconds N] [--target name] [--seed N]`. Exit code 1 on a crash;
// the input is printed in base64 with the seed that makes it.
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { loadTargets } from './targets.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const INTERESTING = [0, 1, 0x7f, 0x80, 0xff];
const INPUT_BYTES_MAX = 64 * 1024;

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    target: { type: 'string' },
    seed: { type: 'string' },
    dist: { type: 'string', default: join(ROOT, 'dist') },
  },
});
const { SeededRandom } = await import(pathToFileURL(join(options.dist, 'simulation', 'random.js')));
const targets = await loadTargets(options.dist);
const names = options.target === undefined ? Object.keys(targets) : [options.target];
for (const name of names) {
  if (targets[name] !== undefined) continue;
  console.error(`--target ${name}: expected one of ${Object.keys(targets).join(', ')}`);
  process.exit(2);
}

/** A few small changes: bytes set, flipped or inserted, pieces cut out or doubled. */
function mutate(seed, random) {
  let bytes = Buffer.from(seed);
  for (let change = random() % 8; change > 0; change--) {
    const at = bytes.length === 0 ? 0 : random() % bytes.length;
    const length = 1 + (random() % 16);
    switch (random() % 6) {
      case 0:
        if (bytes.length > 0) bytes[at] = INTERESTING[random() % INTERESTING.length];
        break;
      case 1:
        if (bytes.length > 0) bytes[at] ^= 1 << (random() % 8);
        break;
      case 2:
        if (bytes.length > 0) bytes[at] = random();
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      default:
        bytes = bytes.subarray(0, at);
    }
  }
  return bytes.subarray(0, INPUT_BYTES_MAX);
}

const first = options.seed === undefined ? randomInt(1_000_000_000) : Number(options.seed);
console.log(`seeds from ${first}`);
let crashes = 0;
for (const name of names) {
  const { seeds, run } = targets[name];
  const endMs = Date.now() + (1000 * Number(options.seconds)) / names.length;
  let runs = 0;
  let crashed = 0;
  for (; Date.now() < endMs && crashed === 0; runs++) {
    const generator = new SeededRandom(first + runs);
    const random = () => generator.uint32();
    const input = mutate(seeds[random() % seeds.length], random);
    try {
      run(input, random);
    } catch (error) {
      crashed++;
      console.log(`CRASH ${name}, seed ${first + runs}: ${error.stack}\n  ${input.toString('base64')}`);
    }
  }
  crashes += crashed;
  console.log(`${name.padEnd(12)} ${String(runs).padStart(9)} executions, ${crashed} crashes`);
}
process.exitCode = crashes === 0 ? 0 : 1;
