/**
 * `npm run fuzz -- [--seconds N] [--target NAME]... [--seed N] [--captures PATH]... [--replay FILE]`: every parser and codec
 * against mutated inputs, guided by what code they reach; and frames, captured and changed, against tshark's reading.
 * A crash, a hang or a run out of memory ends the target; its input is written to test/fuzz/corpus, where the unit tests
 * find it from then on. Exit code 1 when there was any.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { CORPUS, INPUT_BYTES_MAX, loadTargets, run, TARGET_NAMES } from './targets.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** One input may take this long. */
const HANG_MS = 10_000;
const HEAP_MIB_MAX = 512;
const WORKERS_MAX = 2;
/** Not searched but compared: tshark.mjs. */
const TSHARK = 'tshark';
const ALL_NAMES = [...TARGET_NAMES, TSHARK];

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    target: { type: 'string', multiple: true },
    seed: { type: 'string' },
    replay: { type: 'string' },
    captures: { type: 'string', multiple: true },
    dist: { type: 'string', default: join(ROOT, 'dist') },
  },
});
const names = options.target ?? ALL_NAMES;
for (const name of names) {
  if (ALL_NAMES.includes(name)) continue;
  console.error(`--target ${name}: expected one of ${ALL_NAMES.join(', ')}`);
  process.exit(2);
}
if (!(Number(options.seconds) > 0)) {
  console.error(`--seconds ${options.seconds}: expected a number above 0`);
  process.exit(2);
}

async function replay(file) {
  const [name] = names;
  const { targets } = await loadTargets(options.dist, [name]);
  await run(targets[name], readFileSync(file));
  await targets[name].close?.();
  console.log(`${name}: ${file} is right`);
}

/** Resolves with what came of it; never rejects. */
function search(name, seed, seconds) {
  return new Promise((resolve) => {
    const shared = new SharedArrayBuffer(8 + INPUT_BYTES_MAX);
    const header = new Int32Array(shared, 0, 2);
    const inputUnderWay = () => Buffer.from(Buffer.from(shared, 8, header[1]));
    let result = { totals: { runs: 0, slowestMs: 0 }, corpus: 0, functions: 0 };
    const worker = new Worker(new URL('search.mjs', import.meta.url), {
      workerData: { name, seed, seconds, dist: options.dist, shared },
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
    });
    let lastCount = -1;
    const watchdog = setInterval(() => {
      const count = Atomics.load(header, 0);
      if (count === lastCount && count > 0 && !result.isDone) {
        finish({ text: `one input takes longer than ${HANG_MS} ms`, input: inputUnderWay() });
      }
      lastCount = count;
    }, HANG_MS);
    const finish = (crash) => {
      clearInterval(watchdog);
      void worker.terminate();
      resolve({ name, ...result, ...(crash === undefined ? {} : { crash }) });
    };
    worker.on('message', (message) => {
      result = { ...result, ...message };
      if (result.isDone) finish();
    });
    worker.on('error', (error) => finish({ text: error.stack, input: inputUnderWay() }));
    worker.on('exit', () =>
      finish(result.isDone ? undefined : { text: 'it ended by itself', input: inputUnderWay() }),
    );
  });
}

function keep(name, input) {
  const folder = join(CORPUS, name);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${createHash('sha1').update(input).digest('hex').slice(0, 12)}.bin`);
  writeFileSync(file, input);
  return file;
}

function report({ name, totals, corpus, functions, crash }, seconds) {
  const cells = [
    name.padEnd(12),
    String(totals.runs).padStart(11),
    Math.round(totals.runs / seconds)
      .toString()
      .padStart(9),
    String(corpus).padStart(7),
    String(functions).padStart(10),
    totals.slowestMs.toFixed(1).padStart(11),
    crash === undefined ? '0' : '1',
  ];
  console.log(cells.join(' '));
  if (crash === undefined) return;
  console.log(`CRASH ${name}: ${crash.text}\n  ${crash.input.length} bytes: ${keep(name, crash.input)}`);
}

/** Whether nothing was read differently. */
function compareWithTshark(seed, seconds) {
  const script = fileURLToPath(new URL('tshark.mjs', import.meta.url));
  const words = ['--dist', options.dist, '--seed', String(seed), '--mutate', String(seconds)];
  const captures = (options.captures ?? []).flatMap((path) => ['--captures', path]);
  return spawnSync(process.execPath, [script, ...words, ...captures], { stdio: 'inherit' }).status === 0;
}

async function fuzz() {
  const first = options.seed === undefined ? randomInt(1_000_000_000) : Number(options.seed);
  const workers = Math.min(WORKERS_MAX, availableParallelism(), names.length);
  const seconds = (Number(options.seconds) * workers) / names.length;
  console.log(`seeds from ${first}, ${seconds.toFixed(1)} s a target\n`);
  console.log('target        executions  a second  corpus  functions  slowest ms crashes');
  const waiting = names
    .filter((name) => name !== TSHARK)
    .map((name, index) => ({ name, seed: first + index }));
  let crashes = 0;
  let executions = 0;
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const outcome = await search(next.name, next.seed, seconds);
      report(outcome, seconds);
      executions += outcome.totals.runs;
      if (outcome.crash !== undefined) crashes++;
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  if (names.includes(TSHARK) && !compareWithTshark(first, seconds)) crashes++;
  console.log(`\n${names.length} targets, ${executions} executions, ${crashes} crashes`);
  process.exitCode = crashes === 0 ? 0 : 1;
}

if (options.replay === undefined) await fuzz();
else await replay(options.replay);
