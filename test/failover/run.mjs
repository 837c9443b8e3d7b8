/**
 * The failover matrix on two real QEMU VMs.
 *
 *   node test/failover/run.mjs [--short] [--cells FILTER] [--links stream|tap] [--minutes N] [--again]
 *                             [--random N [--seed S] [--skip N]] [--kills N] [--rounds N] [--json FILE]
 *
 * FILTER is a part of cell names (VICTIM/TRAFFIC/MOMENT), several with commas. Results are appended to one JSON file, and
 * cells that are in it are not played again unless --again says so: a long matrix may take several runs.
 * --random: N cells drawn from all but *both*, by the seed that is printed; --skip: those played already.
 * --kills: the primary N times in turn, with little traffic: the gap. --rounds: N failovers to and fro, each protected
 * again, with the same connections all along.
 * Exit code 0: every cell played was met, or the laboratory cannot be had here; 1: a miss; 2: wrong usage.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { guestImage } from '../qemu/lib/guest-image.mjs';
import { CHECKOUT } from '../qemu/lib/paths.mjs';
import { findQemu } from '../qemu/lib/qemu.mjs';
import { missingRequirements } from '../qemu/lib/requirements.mjs';
import { Rig } from '../qemu/lib/rig.mjs';
import { RunFolder } from '../qemu/lib/run-folder.mjs';
import { allCells, nameOf, SHORT_CELLS } from './cells.mjs';
import { begin, play } from './play.mjs';
import { playRounds } from './rounds.mjs';

const log = (text) => console.log(text);
/** Each fresh secondary is a QEMU process with its logs: after so many cells a new pair is begun. */
const CELLS_PER_RIG_MAX = 24;
/** One connection that asks every 5 ms, and nothing else. */
const LIGHT_KILL = { victim: 'primary', traffic: 'idle', moment: 'between' };
const CHECKPOINT = { periodMsMax: 0, distanceMsMin: 20 };

function readOptions() {
  const { values } = parseArgs({
    options: {
      short: { type: 'boolean', default: false },
      cells: { type: 'string' },
      links: { type: 'string', default: 'stream' },
      minutes: { type: 'string', default: '55' },
      again: { type: 'boolean', default: false },
      random: { type: 'string' },
      seed: { type: 'string' },
      skip: { type: 'string', default: '0' },
      kills: { type: 'string' },
      rounds: { type: 'string' },
      json: { type: 'string', default: path.join(CHECKOUT, 'test-output/failover.json') },
      qemu: { type: 'string', default: '7' },
    },
  });
  if (!['stream', 'tap'].includes(values.links))
    throw new Error(`--links ${values.links}: expected stream or tap`);
  return values;
}

function randomCells(count, seed) {
  const cells = allCells().filter(({ victim }) => victim !== 'both');
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  log(`${count} random cells, --seed ${seed}`);
  return Array.from({ length: count }, () => cells[Math.floor(next() * cells.length)]);
}

function wantedCells({ short, cells, again, random, seed, skip, kills, links }, results) {
  if (random) {
    const drawn = randomCells(Number(random), seed ? Number(seed) : Math.floor(Math.random() * 2 ** 31));
    return drawn.slice(Number(skip));
  }
  if (kills) return Array.from({ length: Number(kills) }, () => LIGHT_KILL);
  const all = allCells();
  const names = short ? SHORT_CELLS : all.map(nameOf);
  const parts = cells?.split(',');
  const met = results.filter((one) => one.ok && one.links === links).map(({ cell }) => cell);
  const done = new Set(again || short ? [] : met);
  const byName = new Map(all.map((cell) => [nameOf(cell), cell]));
  return names
    .filter((name) => !parts || parts.some((part) => name.includes(part)))
    .filter((name) => !done.has(name))
    .map((name) => byName.get(name));
}

function quantile(sorted, share) {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

function inWords({ when, phase, figures }) {
  const steps = Object.entries(figures).filter(([, ms]) => Number.isFinite(ms));
  const times = steps.map(([name, ms]) => `${name.replace('Ms', '')} ${ms.toFixed(0)}`).join(', ');
  const place = when === undefined || when === 'between' ? '' : `${when}, ${phase}; `;
  return times === '' ? place : `${place}ms: ${times}`;
}

function tellGaps(played) {
  const kinds = [
    ['the primary dies', /^primary\/|^round /],
    ['the primary dies under light traffic', /^primary\/(idle|older|younger)\/|^round /],
    ['the primary is frozen', /^frozen\//],
    ['the secondary is frozen', /^frozen-secondary\//],
  ];
  for (const [what, pattern] of kinds) {
    const gaps = played.flatMap(({ cell, figures }) =>
      pattern.test(cell) ? [figures.gapMs ?? []].flat() : [],
    );
    gaps.sort((a, b) => a - b);
    if (gaps.length === 0) continue;
    const [p50, p99] = [0.5, 0.99].map((share) => quantile(gaps, share).toFixed(0));
    log(`gap when ${what}, ${gaps.length} times: p50 ${p50} ms, p99 ${p99} ms`);
  }
}

async function main() {
  const options = readOptions();
  const missing = await missingRequirements({ qemu: options.qemu, log });
  if (missing.length > 0) {
    log(
      `\n${'!'.repeat(70)}\nSKIPPED: the failover matrix. Missing: ${missing.join(', ')}\n${'!'.repeat(70)}\n`,
    );
    return 0;
  }
  fs.mkdirSync(path.dirname(options.json), { recursive: true });
  const results = fs.existsSync(options.json) ? JSON.parse(fs.readFileSync(options.json, 'utf8')) : [];
  const cells = wantedCells(options, results);
  const runFolder = new RunFolder();
  for (const event of ['SIGINT', 'SIGTERM', 'uncaughtException']) {
    process.once(event, (reason) => {
      if (reason instanceof Error) console.error(reason);
      runFolder.end().then(() => process.exit(1));
    });
  }
  const qemu = await findQemu(options.qemu, 'tcg');
  const laboratory = { qemu, accelerator: 'tcg', image: await guestImage() };
  const endMs = performance.now() + Number(options.minutes) * 60_000;
  const newRig = async () => {
    const rig = new Rig({
      ...{ runFolder, name: 'failover', linkKind: options.links, holdWords: true },
      config: { checkpoint: CHECKPOINT },
      ...laboratory,
    });
    log(path.relative(CHECKOUT, rig.logs));
    await rig.startUnprotected();
    return rig;
  };
  const played = [];
  const tell = (name, result) => {
    played.push({ cell: name, links: options.links, qemu: qemu.version, ...result });
    log(`${result.ok ? 'ok  ' : 'MISS'} ${name.padEnd(40)} ${inWords(result)} ${result.problems.join('; ')}`);
    fs.writeFileSync(options.json, `${JSON.stringify([...results, ...played], null, 1)}\n`);
  };

  try {
    if (options.rounds) {
      const rig = await newRig();
      await playRounds(rig, Number(options.rounds), (round) =>
        tell(`round ${round.round}: ${round.moment}`, round),
      );
      await rig.end();
    }
    let rig;
    let onRig = 0;
    for (const cell of options.rounds ? [] : cells) {
      if (performance.now() > endMs) {
        log(`the time is over: ${cells.length - played.length} cells are left for the next run`);
        break;
      }
      if (rig === undefined || onRig >= CELLS_PER_RIG_MAX) {
        await rig?.end();
        rig = await newRig();
        await begin(rig);
        onRig = 0;
      }
      onRig++;
      const result = await play(rig, cell).catch((error) => ({
        ok: false,
        problems: [error.message],
        figures: {},
      }));
      tell(nameOf(cell), { round: onRig, ...result });
      if (!result.ok || cell.victim === 'both') {
        await rig.end();
        rig = undefined;
      }
    }
  } finally {
    await runFolder.end();
  }
  const misses = played.filter(({ ok }) => !ok).length;
  tellGaps(played);
  log(`QEMU ${qemu.version}: ${played.length - misses} cells met, ${misses} missed`);
  return misses === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = error.code?.startsWith('ERR_PARSE_ARGS') || /^--/.test(error.message) ? 2 : 1;
}
