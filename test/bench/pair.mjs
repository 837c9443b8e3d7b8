// The same real guest and the same client: the guest alone, protected by QEMU's own filters (filter-mirror,
// filter-redirector, colo-compare, filter-rewriter), and by colo-proxy over TAPs and over stream links, in turn. Prints
// medians over the rounds and what is kept of the guest alone. Each is warm before it is measured.
//
//   npm run bench:pair [-- --rounds 3 --worlds alone,suite,tap,stream --json FILE]
//
// With --json what was played is kept after each world, and an interrupted run goes on where it ended. Root, Debian and
// QEMU 7.2, as for test/qemu.
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { guestImage } from '../qemu/lib/guest-image.mjs';
import { findQemu } from '../qemu/lib/qemu.mjs';
import { missingRequirements } from '../qemu/lib/requirements.mjs';
import { RunFolder } from '../qemu/lib/run-folder.mjs';
import { show, summary } from './lib/tools.mjs';
import { play, WORKLOADS, warmUp } from './pair/workloads.mjs';
import { GuestAlone, Proxied, QemuSuite } from './pair/worlds.mjs';

const WORLDS = {
  alone: (options) => new GuestAlone(options),
  suite: (options) => new QemuSuite(options),
  tap: (options) => new Proxied({ ...options, linkKind: 'tap' }),
  stream: (options) => new Proxied({ ...options, linkKind: 'stream' }),
};

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    worlds: { type: 'string', default: Object.keys(WORLDS).join(',') },
    json: { type: 'string' },
  },
});
const worlds = options.worlds.split(',');

/** @type {{round: number, world: string, results: object}[]} */
const plays =
  options.json && fs.existsSync(options.json) ? JSON.parse(fs.readFileSync(options.json, 'utf8')).plays : [];

async function playWorld(runFolder, laboratory, name, round) {
  const world = WORLDS[name]({ runFolder, name, laboratory });
  const results = {};
  try {
    await world.start();
    await warmUp(world);
    for (const [key, , workload] of WORKLOADS) {
      const result = await play(world, workload);
      if (result) results[key] = result;
      if (result?.error) console.log(`${name}, ${key}: ${result.error}`);
    }
  } finally {
    await world.end();
  }
  plays.push({ round, world: name, results });
  const text = JSON.stringify({ plays }, null, 1);
  if (options.json) fs.writeFileSync(options.json, `${text}\n`);
}

const quantile = (values, share) => values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1];

/** One number of each round, of those rounds in which the workload came to its end. */
function perRound(world, key, read) {
  return plays
    .filter((one) => one.world === world && one.results[key]?.ms)
    .map(({ results }) => read(results[key]))
    .filter(Number.isFinite);
}

const FIGURES = [
  ['p50 ms', ({ ms }) => quantile(ms, 0.5)],
  ['p99 ms', ({ ms }) => quantile(ms, 0.99)],
  ['MB/s', ({ bytes, seconds }) => bytes / seconds / 1e6],
  ['checkpoints', ({ checkpoints }) => checkpoints],
  ['without one', ({ withoutCheckpoint }) => withoutCheckpoint],
  ['pause p50 ms', ({ pauseMs }) => pauseMs && quantile(pauseMs, 0.5)],
  ['silence beyond the pause, worst ms', ({ ms, pauseMs }) => pauseMs && worstBeyond(ms, pauseMs)],
];

const worstBeyond = (ms, pauseMs) => Math.max(...ms.map((silence, index) => silence - pauseMs[index]));

function printTables() {
  for (const [key, title] of WORKLOADS) {
    console.log(`\n${title}`);
    for (const [figure, read] of FIGURES) {
      const cells = worlds.map((world) => [world, perRound(world, key, read)]);
      if (cells.every(([, numbers]) => numbers.length === 0)) continue;
      const suite = summary(perRound('suite', key, read)).median;
      const texts = cells.map(([world, numbers]) => {
        if (numbers.length === 0) return `${world} -`;
        const ratio = suite && world !== 'suite' ? ` (${(summary(numbers).median / suite).toFixed(2)})` : '';
        return `${world} ${show(summary(numbers))}${ratio}`;
      });
      console.log(`  ${figure.padEnd(36)} ${texts.join('   ')}`);
    }
  }
  console.log("\nmedian [least..most] of the rounds; in brackets the ratio to QEMU's own suite");
}

const log = (text) => console.log(text);
const missing = await missingRequirements({ qemu: '7', log });
if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}`);
const runFolder = new RunFolder();
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => runFolder.end().then(() => process.exit(1)));
}
const laboratory = { qemu: await findQemu('7', 'tcg'), accelerator: 'tcg', image: await guestImage() };
for (let round = 1; round <= Number(options.rounds); round++) {
  for (const name of worlds) {
    if (plays.some((one) => one.round === round && one.world === name)) continue;
    console.log(`round ${round}, ${name}`);
    await playWorld(runFolder, laboratory, name, round).catch((error) => {
      console.log(`${name} did not start: ${error.message}`);
    });
  }
}
await runFolder.end();
printTables();
