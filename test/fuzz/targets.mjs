/**
 * What is fuzzed. A target has `seeds` (good inputs), perhaps `tokens` (byte strings that mean something in its format)
 * and `bytesMax`, and `run(bytes, random)`, which throws, or rejects, when the product did something it must not; a
 * ColoError is a refusal and right. `random` draws from the last four bytes of the input, so an input says all there is
 * to say about a run.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const CORPUS = fileURLToPath(new URL('corpus', import.meta.url));
export const INPUT_BYTES_MAX = 64 * 1024;
/** At the end of an input: what `random` draws from. */
export const CHOICE_BYTES = 4;

/** Module under targets/ by target; each exports `make(load)`, which resolves with targets by name. */
const MODULES = {
  frame: 'frames',
  options: 'frames',
  offload: 'frames',
  checksum: 'frames',
  translator: 'frames',
  comparator: 'comparing',
  fragments: 'comparing',
  recording: 'comparing',
  words: 'channels',
  framing: 'channels',
  chardev: 'channels',
  notify: 'channels',
  qmp: 'channels',
  config: 'files',
  values: 'files',
  url: 'files',
  capture: 'files',
  state: 'files',
  netlink: 'files',
  http: 'http',
  arbiter: 'arbiter',
};
export const TARGET_NAMES = Object.keys(MODULES);

/** @param place folder of the built modules, or what imports `wire/parse.js` and the like from elsewhere. */
export async function loadTargets(place, names = TARGET_NAMES) {
  const load = typeof place === 'function' ? place : (path) => import(pathToFileURL(join(place, path)).href);
  const { SeededRandom } = await load('simulation/random.js');
  const targets = {};
  for (const module of new Set(names.map((name) => MODULES[name]))) {
    const { make } = await import(`./targets/${module}.mjs`);
    for (const [name, target] of Object.entries(await make(load))) {
      if (!names.includes(name)) continue;
      const seeds = target.seeds.map((bytes) => Buffer.concat([bytes, Buffer.alloc(CHOICE_BYTES)]));
      targets[name] = { ...target, seeds, SeededRandom };
    }
  }
  return { targets, SeededRandom };
}

/** Inputs that were wrong once. */
export function readRegressions(name) {
  const folder = join(CORPUS, name);
  return existsSync(folder) ? readdirSync(folder).map((file) => readFileSync(join(folder, file))) : [];
}

/** Runs one input: a promise from a target that answers later, else undefined. */
export function run(target, input) {
  const split = Math.max(0, input.length - CHOICE_BYTES);
  const seed = input.length >= CHOICE_BYTES ? input.readUInt32BE(split) : 0;
  const generator = new target.SeededRandom(seed);
  return target.run(Buffer.from(input.subarray(0, split)), () => generator.uint32());
}
