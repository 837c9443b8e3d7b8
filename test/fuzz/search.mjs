/**
 * The search of one target, in a worker thread of its own: mutates inputs, keeps those that reach new code, and stops at
 * the first that the target refuses, made as small as it goes. The input under way lies in shared memory, so that the
 * main thread still has it when this one hangs or runs out of memory.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { Coverage } from './coverage.mjs';
import { mutate } from './mutate.mjs';
import { CHOICE_BYTES, INPUT_BYTES_MAX, loadTargets, readRegressions, run } from './targets.mjs';

const BATCH_MS = 100;
const BATCH_INPUTS_MAX = 4096;
/** Of the time, for reading what code ran. */
const READING_SHARE_MAX = 0.4;
const MINIMISE_RUNS_MAX = 2000;

const { name, seed, seconds, dist, shared } = workerData;
const product = pathToFileURL(join(dist, '/')).href;
const coverage = new Coverage((url) => url.startsWith(product));
const { targets, SeededRandom } = await loadTargets(dist, [name]);
const target = targets[name];
const generator = new SeededRandom(seed);
const random = () => generator.uint32();

const header = new Int32Array(shared, 0, 2);
const slab = Buffer.from(shared, 8);
const corpus = [...target.seeds, ...readRegressions(name)];
const { tokens = [], bytesMax = 4096 } = target;
const limits = { corpus, tokens, bytesMax: Math.min(bytesMax, INPUT_BYTES_MAX) };
const totals = { runs: 0, slowestMs: 0 };
const beganMs = performance.now();
let readingMs = 0;

/** Throws what the target throws. */
async function attempt(input) {
  input.copy(slab);
  header[1] = input.length;
  Atomics.add(header, 0, 1);
  const startedMs = performance.now();
  const pending = run(target, input);
  if (pending !== undefined) await pending;
  totals.runs++;
  totals.slowestMs = Math.max(totals.slowestMs, performance.now() - startedMs);
}

/** The same bytes with other choices, or other bytes. */
function next() {
  const input = corpus[random() % corpus.length];
  if (random() % 4 > 0) return mutate(input, limits, random);
  const other = Buffer.from(input);
  if (other.length >= CHOICE_BYTES) other.writeUInt32BE(random(), other.length - CHOICE_BYTES);
  return other;
}

async function runAll(inputs) {
  for (const input of inputs) {
    try {
      await attempt(input);
    } catch (error) {
      throw Object.assign(error instanceof Error ? error : new Error(String(error)), { input });
    }
  }
  const startedMs = performance.now();
  const seen = coverage.take();
  readingMs += performance.now() - startedMs;
  return seen;
}

/** At first nearly every batch brings news: reading must not take most of a short search. What is put off comes again. */
function mayReadMore() {
  return readingMs < READING_SHARE_MAX * (performance.now() - beganMs);
}

/** Runs all; keeps the ones that reached something new, found by halves. */
async function explore(inputs) {
  const seen = await runAll(inputs);
  if (!coverage.isNews(seen)) return;
  if (inputs.length === 1) {
    coverage.learn(seen);
    corpus.push(inputs[0]);
    return;
  }
  if (!mayReadMore()) return;
  const half = inputs.length >> 1;
  await explore(inputs.slice(0, half));
  await explore(inputs.slice(half));
  if (mayReadMore()) coverage.learn(seen); // what only both halves together reach
}

async function failureOf(input) {
  try {
    await attempt(input);
    return undefined;
  } catch (error) {
    return signature(error);
  }
}

/** Numbers change while the input shrinks; what it is about does not. */
function signature(error) {
  return String(error?.message ?? error)
    .split('\n')[0]
    .replace(/\d+/g, '0');
}

/** Leaves out pieces, halves first, as long as the failure stays the same. */
async function minimise(input, wanted) {
  let best = input;
  let runs = 0;
  for (let piece = best.length >> 1; piece >= 1; piece >>= 1) {
    for (let at = 0; at < best.length && runs < MINIMISE_RUNS_MAX; ) {
      const shorter = Buffer.concat([best.subarray(0, at), best.subarray(at + piece)]);
      runs++;
      if ((await failureOf(shorter)) === wanted) best = shorter;
      else at += piece;
    }
  }
  return best;
}

let crash;
try {
  coverage.learn(await runAll(corpus));
  const endMs = performance.now() + 1000 * seconds;
  let size = 128;
  while (performance.now() < endMs) {
    const startedMs = performance.now();
    await explore(Array.from({ length: size }, next));
    const tookMs = performance.now() - startedMs;
    size = Math.max(1, Math.min(BATCH_INPUTS_MAX, Math.round((size * BATCH_MS) / Math.max(1, tookMs))));
    parentPort.postMessage({ totals });
  }
} catch (error) {
  if (error.input === undefined) throw error;
  crash = { text: error.stack, input: await minimise(error.input, signature(error)) };
}
await target.close?.();
parentPort.postMessage({ totals, crash, corpus: corpus.length, functions: coverage.functions, isDone: true });
