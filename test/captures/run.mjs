/**
 * `npm run test:captures -- [--dir DIR]... [--seed N] [--verbose]`: every capture in the folders (the project's own small
 * ones unless given) goes through the comparator against an exact oracle (oracle.mjs).
 *
 * A file is unusable only when libpcap refuses it, it is not Ethernet, or it holds no IP flow with payload: each is listed
 * with its reason. A file that libpcap reads and this does not, or not to the end, is wrong. Exit 1 when anything was wrong or
 * nothing was checked. Last line: `files F, connections C, segments S, unusable U, wrong W`.
 */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LINK_TYPE_ETHERNET, readCapture } from '../../dist/wire/capture.js';
import { hasIpPayload, readConversations } from './conversations.mjs';
import { hasLibpcap, readByLibpcap } from './libpcap.mjs';
import { check } from './oracle.mjs';
import { Random, seedOf } from './random.mjs';

const FIXTURES = fileURLToPath(new URL('../fixtures/captures', import.meta.url));
const CAPTURE_NAME = /\.(pcap|pcapng|cap|dmp|trace)$/i;

const VARIANTS = [
  { name: 'leading secondary', leads: true, heavier: true, flips: false },
  { name: 'any lag', leads: false, heavier: true, flips: false },
  { name: 'one byte flipped', leads: false, heavier: true, flips: true },
  { name: 'other direction, leading secondary', leads: true, heavier: false, flips: false },
  { name: 'other direction, any lag', leads: false, heavier: false, flips: false },
  { name: 'other direction, one byte flipped', leads: false, heavier: false, flips: true },
];

function filesUnder(folder) {
  if (statSync(folder).isFile()) return [folder];
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return filesUnder(path);
      if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return [];
      return CAPTURE_NAME.test(entry.name) || looksLikeCapture(path) ? [path] : [];
    })
    .sort();
}

/** A capture by another name. */
function looksLikeCapture(path) {
  const magic = Buffer.alloc(4);
  const file = openSync(path, 'r');
  readSync(file, magic);
  closeSync(file);
  return ['d4c3b2a1', 'a1b2c3d4', '4d3cb2a1', 'a1b23c4d', '34cdb2a1', 'a1b2cd34', '0a0d0d0a'].includes(
    magic.toString('hex'),
  );
}

/** The conversations of a file, or `{unusable}`: why it is, or `{wrong}`: why it should not be. */
function open(path) {
  let capture;
  try {
    capture = readCapture(readFileSync(path));
  } catch (error) {
    const { refusal } = readByLibpcap(path);
    if (!hasLibpcap()) return { unusable: error.message };
    return refusal === undefined ? { wrong: `libpcap reads it: ${error.message}` } : { unusable: refusal };
  }
  const frames = capture.frames.filter((frame) => frame.linkType === LINK_TYPE_ETHERNET);
  if (!capture.linkTypes.includes(LINK_TYPE_ETHERNET))
    return { unusable: `not Ethernet (link type ${capture.linkTypes.join()})` };
  const read = readConversations(frames);
  if (hasIpPayload(read)) return read;
  const { frames: framesOfLibpcap } = readByLibpcap(path);
  if (framesOfLibpcap > capture.frames.length) {
    return {
      wrong: `libpcap reads ${framesOfLibpcap} frames, this ${capture.frames.length}: ${capture.trouble}`,
    };
  }
  return { unusable: `no IP flow with payload among ${frames.length} frames` };
}

function main() {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string', multiple: true, default: [FIXTURES] },
      seed: { type: 'string', default: '1' },
      verbose: { type: 'boolean', default: false },
    },
  });
  const totals = { files: 0, connections: 0, segments: 0, flipped: 0, irregular: 0, unusable: 0, wrong: 0 };
  for (const folder of values.dir) {
    if (!existsSync(folder)) {
      console.error(`${folder} does not exist`);
      process.exitCode = 2;
      return;
    }
    for (const path of filesUnder(folder)) checkFile(path, relative(folder, path) || path, values, totals);
  }
  if (!hasLibpcap())
    console.log('tcpdump is not installed: which files are captures was not asked of libpcap');
  if (totals.files === 0) console.log('nothing was checked');
  console.log(
    `one byte flipped in ${totals.flipped} streams; ${totals.irregular} streams contradict themselves and were checked for safety only`,
  );
  const { files, connections, segments, unusable, wrong } = totals;
  console.log(
    `files ${files}, connections ${connections}, segments ${segments}, unusable ${unusable}, wrong ${wrong}`,
  );
  process.exitCode = wrong > 0 || files === 0 || segments === 0 ? 1 : 0;
}

function checkFile(path, name, values, totals) {
  const opened = open(path);
  if (opened.unusable !== undefined) {
    totals.unusable++;
    console.log(`unusable ${name}: ${opened.unusable}`);
    return;
  }
  if (opened.wrong !== undefined) {
    totals.wrong++;
    console.log(`WRONG ${name}: ${opened.wrong}`);
    return;
  }
  totals.files++;
  let isWrong = false;
  VARIANTS.forEach((variant, index) => {
    const random = new Random(seedOf(`${name} ${variant.name}`, Number(values.seed)));
    let outcome;
    try {
      outcome = check(opened, random, variant);
    } catch (error) {
      outcome = { connections: 0, segments: 0, flipped: 0, irregular: 0, problems: [`threw ${error.stack}`] };
    }
    if (index === 0) {
      totals.connections += outcome.connections;
      totals.segments += outcome.segments;
      totals.irregular += outcome.irregular;
    }
    totals.flipped += outcome.flipped;
    if (values.verbose) console.log(`${name} (${variant.name}): ${outcome.connections} connections`);
    for (const problem of outcome.problems) {
      isWrong = true;
      console.log(`WRONG ${name} (${variant.name}): ${problem}`);
    }
  });
  if (isWrong) totals.wrong++;
}

main();
