#!/usr/bin/env node
/**
 * Builds the addon when it is missing or older than its sources; else does nothing, in milliseconds.
 * Exit code 1 with the cure when a tool is missing or the compiler fails. `--force` builds anyway.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const binary = join(folder, 'build', 'Release', 'colo_native.node');
const modifiedMs = (path) => statSync(path).mtimeMs;

function newestSourceMs() {
  const sources = readdirSync(join(folder, 'src')).map((name) => join(folder, 'src', name));
  return Math.max(...[join(folder, 'binding.gyp'), ...sources].map(modifiedMs));
}

function isUpToDate() {
  if (!existsSync(binary) || modifiedMs(binary) < newestSourceMs()) return false;
  // One that was copied from another machine may be new and still not load here.
  try {
    createRequire(import.meta.url)(binary);
    return true;
  } catch {
    return false;
  }
}

const onPath = (name) =>
  (process.env.PATH ?? '').split(delimiter).some((directory) => directory !== '' && existsSync(join(directory, name)));

function fail(message) {
  console.error(`native: ${message}`);
  process.exit(1);
}

function missingPackages() {
  const needed = [
    [process.env.CXX ?? 'g++', 'g++'],
    ['make', 'make'],
    ['python3', 'python3'],
  ];
  return needed.filter(([tool]) => !existsSync(tool) && !onPath(tool)).map(([, debianPackage]) => debianPackage);
}

/** Headers that came with this Node.js, so that none are downloaded. */
function headersNextToNode() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
}

function nodeGyp() {
  try {
    const manifest = createRequire(import.meta.url).resolve('node-gyp/package.json');
    return join(dirname(manifest), 'bin', 'node-gyp.js');
  } catch {
    return fail('node-gyp is not installed: run "npm ci" in the project first');
  }
}

function build() {
  const missing = missingPackages();
  if (missing.length > 0) {
    fail(`cannot build the addon, missing: ${missing.join(', ')} (Debian: apt-get install ${missing.join(' ')})`);
  }
  const started = performance.now();
  const result = spawnSync(process.execPath, [nodeGyp(), 'configure', 'build', '-C', folder, '--jobs=2', ...headersNextToNode()], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.status !== 0) {
    process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
    fail(`node-gyp failed (${result.error?.message ?? `exit code ${result.status}`})`);
  }
  const warnings = result.stderr.split('\n').filter((line) => line.includes('warning:'));
  for (const line of warnings) console.error(line);
  console.log(`native: built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** One build at a time; a lock older than any build was left by one that was killed. */
const lock = join(folder, '.build-lock');
const lockWaitMsMax = 180_000;

function takeLock() {
  const started = Date.now();
  for (;;) {
    try {
      closeSync(openSync(lock, 'wx'));
      process.on('exit', () => rmSync(lock, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') fail(`cannot build in ${folder}: ${error.message}`);
    }
    if (Date.now() - started > lockWaitMsMax) rmSync(lock, { force: true });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
}

const forced = process.argv.includes('--force');
if (forced || !isUpToDate()) {
  takeLock();
  // Whoever held the lock may have built it.
  if (forced || !isUpToDate()) build();
}
