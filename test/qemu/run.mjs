/**
 * Two real QEMU VMs behind the proxy, real client traffic, real deaths. See README.md.
 *
 *   node test/qemu/run.mjs [--short] [--qemu 7|10|11] [--links tap,stream] [--only NAMES] [--accel tcg|kvm] [--json FILE]
 *
 * Exit code 0: every check was met, or the laboratory cannot be had here (said loudly); 1: a miss; 2: wrong usage.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { guestImage } from './lib/guest-image.mjs';
import { CHECKOUT, PROXY } from './lib/paths.mjs';
import { findQemu, QEMUS } from './lib/qemu.mjs';
import { differencesFromRecording } from './lib/qmp-session.mjs';
import { Report } from './lib/report.mjs';
import { missingRequirements } from './lib/requirements.mjs';
import { Rig } from './lib/rig.mjs';
import { RunFolder } from './lib/run-folder.mjs';
import { WORDS } from './lib/word-stop.mjs';
import { death } from './scenarios/death.mjs';
import { DISKS, diskArgs, disks } from './scenarios/disks.mjs';
import { divergence } from './scenarios/divergence.mjs';
import { hotRestart } from './scenarios/hot-restart.mjs';
import { adaptive, periodic } from './scenarios/modes.mjs';
import { twoNics } from './scenarios/nics.mjs';
import { powerOff } from './scenarios/power-off.mjs';
import { reboot } from './scenarios/reboot.mjs';
import { seeWhy } from './scenarios/see-why.mjs';
import { lag, requestLatency, soak } from './scenarios/soak.mjs';
import { killAt } from './scenarios/sync-points.mjs';
import { traffic, unprotectedTraffic } from './scenarios/traffic.mjs';

const FULL = {
  downloads: 20,
  requests: 1000,
  shortConnections: 200,
  datagrams: 500,
  pings: 50,
  checkpoints: 200,
  divergences: 12,
  killDownloadBytes: 64 << 20,
  soakCheckpoints: 1000,
  soakDivergences: 100,
  hotRestarts: 5,
  lagSeconds: 30,
};
const SHORT = {
  downloads: 3,
  requests: 200,
  shortConnections: 20,
  datagrams: 50,
  pings: 10,
  checkpoints: 30,
  divergences: 4,
  killDownloadBytes: 48 << 20,
  soakCheckpoints: 100,
  soakDivergences: 10,
  hotRestarts: 2,
  lagSeconds: 10,
};
/** A checkpoint every so often while ordinary traffic runs; elsewhere they come from divergences alone. */
const PERIOD_MS = 100;

/** Each plays on a pair of its own. */
const STORIES = {
  traffic: {
    checkpoint: { periodMsMax: PERIOD_MS },
    async play(rig, section, sizes) {
      await unprotectedTraffic(rig, section);
      await rig.protect();
      await traffic(rig, section, sizes);
    },
  },
  'primary-dies': {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section, sizes) {
      await rig.protect();
      await divergence(rig, section, sizes);
      await death(rig, section, sizes, 'primary');
    },
  },
  'secondary-dies': {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section, sizes) {
      await rig.protect();
      await death(rig, section, sizes, 'secondary');
      await rig.protect();
      await death(rig, section, sizes, 'primary', { pointName: '3 protected again' });
    },
  },
  'any-moment': {
    checkpoint: { periodMsMax: 1, distanceMsMin: 10 },
    async play(rig, section, sizes) {
      await rig.protect();
      await death(rig, section, sizes, 'primary', { pointName: '3 at any moment', anyMoment: true });
    },
  },
  reboot: {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section) {
      await rig.protect();
      await reboot(rig, section);
    },
  },
  'power-off': {
    checkpoint: { periodMsMax: 0 },
    rig: { qemuArgs: ['-no-shutdown'] },
    async play(rig, section) {
      await rig.protect();
      await powerOff(rig, section);
    },
  },
  periodic: {
    checkpoint: { mode: 'periodic', periodicMs: 20, distanceMsMin: 20 },
    async play(rig, section) {
      await rig.protect();
      await periodic(rig, section);
    },
  },
  adaptive: {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section) {
      await rig.protect();
      await adaptive(rig, section);
    },
  },
  'see-why': {
    checkpoint: { periodMsMax: 0 },
    rig: { recorded: true },
    async play(rig, section) {
      await rig.protect();
      await seeWhy(rig, section);
    },
  },
  'two-nics': {
    checkpoint: { periodMsMax: 20, distanceMsMin: 20 },
    rig: { twoNics: true },
    async play(rig, section) {
      await rig.protect();
      await twoNics(rig, section);
    },
  },
  disks: {
    checkpoint: { periodMsMax: 0 },
    rig: { config: { checkpoint: { periodMsMax: 0 }, disks: DISKS }, qemuArgs: diskArgs },
    async play(rig, section) {
      await disks(rig, section);
    },
  },
  'hot-restart': {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section, sizes) {
      await rig.protect();
      await hotRestart(rig, section, { rounds: sizes.hotRestarts });
    },
  },
  soak: {
    checkpoint: { periodMsMax: 20, distanceMsMin: 20 },
    async play(rig, section, sizes) {
      await rig.protect();
      await soak(rig, section, sizes);
    },
  },
  lag: {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section, sizes) {
      await rig.protect();
      await lag(rig, section, sizes);
    },
  },
  figures: {
    checkpoint: { periodMsMax: 0 },
    async play(rig, section, sizes) {
      await rig.protect();
      await requestLatency(rig, section, sizes);
    },
  },
  // Roles change seats with each death of a primary.
  words: {
    checkpoint: { periodMsMax: 0, distanceMsMin: 0 },
    rig: { holdWords: true },
    async play(rig, section) {
      for (const word of WORDS) {
        for (const when of ['before', 'after']) {
          for (const victim of ['secondary', 'primary']) {
            await rig.protect();
            await killAt(rig, section, victim, word, when);
          }
        }
      }
    },
  },
};
const LINK_KINDS = ['tap', 'stream'];
/** The short form plays each story once. */
const SHORT_PLAN = [
  ['tap', 'traffic'],
  ['stream', 'primary-dies'],
  ['tap', 'secondary-dies'],
  ['stream', 'soak'],
];

const log = (text) => console.log(text);

function readOptions() {
  const { values } = parseArgs({
    options: {
      short: { type: 'boolean', default: false },
      qemu: { type: 'string', default: '7' },
      links: { type: 'string', default: LINK_KINDS.join(',') },
      only: { type: 'string' },
      accel: { type: 'string', default: 'tcg' },
      json: { type: 'string' },
    },
  });
  const links = values.links.split(',');
  const refuse = (what) => {
    throw new Error(what);
  };
  if (!QEMUS.includes(values.qemu)) refuse(`--qemu ${values.qemu}: expected ${QEMUS.join(', ')}`);
  if (!['tcg', 'kvm'].includes(values.accel)) refuse(`--accel ${values.accel}: expected tcg or kvm`);
  if (!links.every((kind) => LINK_KINDS.includes(kind)))
    refuse(`--links ${values.links}: expected tap,stream`);
  const only = values.only?.split(',');
  const unknown = only?.find((name) => !STORIES[name]);
  if (unknown !== undefined) refuse(`--only ${unknown}: expected ${Object.keys(STORIES).join(', ')}`);
  return { ...values, links, only };
}

function planOf({ short, links, only }) {
  const all = links.flatMap((kind) => Object.keys(STORIES).map((story) => [kind, story]));
  const wanted = short && !only ? SHORT_PLAN.filter(([kind]) => links.includes(kind)) : all;
  return wanted.filter(([, story]) => !only || only.includes(story));
}

function skip(missing) {
  const lines = [
    'SKIPPED: the two real VMs were not started. Missing:',
    ...missing.map((what) => `  - ${what}`),
  ];
  log(`\n${'!'.repeat(70)}\n${lines.join('\n')}\n${'!'.repeat(70)}\n`);
}

async function playStory(runFolder, report, laboratory, [linkKind, story], sizes) {
  const section = report.forLinks(linkKind);
  const { checkpoint, play, rig: options } = STORIES[story];
  const rig = new Rig({
    runFolder,
    name: story,
    linkKind,
    config: { checkpoint },
    ...options,
    ...laboratory,
  });
  log(`\n${linkKind} links, ${story}: ${path.relative(CHECKOUT, rig.logs)}`);
  try {
    await rig.startUnprotected();
    await play(rig, section, sizes);
  } catch (error) {
    section.at(story).expect('played to its end', false, error.message);
  }
  await rig.proxy?.stop();
  const { exitCode, signal } = rig.proxy?.child ?? {};
  section.at(story).expect('the proxy ends with 0 on SIGTERM', exitCode === 0, String(exitCode ?? signal));
  await rig.end();
}

async function main() {
  const options = readOptions();
  const started = performance.now();
  const missing = await missingRequirements({ qemu: options.qemu, log });
  if (!fs.existsSync(path.join(CHECKOUT, 'dist'))) missing.push('the built proxy: npm run build');
  if (missing.length > 0) {
    skip(missing);
    writeJson(options.json, { skipped: missing });
    return 0;
  }

  const runFolder = new RunFolder();
  // Whatever ends the run early, nothing of it stays.
  for (const event of ['SIGINT', 'SIGTERM', 'uncaughtException']) {
    process.once(event, (reason) => {
      if (reason instanceof Error) console.error(reason);
      runFolder.end().then(() => process.exit(1));
    });
  }
  const qemu = await findQemu(options.qemu, options.accel);
  const laboratory = { qemu, accelerator: options.accel, image: await guestImage() };
  log(
    `QEMU ${qemu.version} (${options.accel}), ${path.basename(laboratory.image.kernel)}, ${path.basename(PROXY)}`,
  );

  const report = new Report({ log });
  if (options.qemu === '7') {
    const differences = await differencesFromRecording();
    const point = report.forLinks('none').at('QMP');
    point.expect(
      'answers as in the recorded session',
      differences.length === 0,
      differences.join('; ') || 'the same',
    );
  }
  for (const step of planOf(options)) {
    await playStory(runFolder, report, laboratory, step, options.short ? SHORT : FULL);
  }
  await runFolder.end();

  const seconds = (performance.now() - started) / 1000;
  const { rows, misses } = report;
  log(`\n${report.table()}\n`);
  log(`QEMU ${qemu.version}: ${rows.length - misses} met, ${misses} missed, ${seconds.toFixed(0)} s`);
  writeJson(options.json, { qemu: qemu.version, accelerator: options.accel, seconds, misses, rows });
  return misses === 0 ? 0 : 1;
}

function writeJson(file, value) {
  if (file) fs.writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = error.code?.startsWith('ERR_PARSE_ARGS') || /^--/.test(error.message) ? 2 : 1;
}
