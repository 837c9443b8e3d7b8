#!/usr/bin/env node
/**
 * Builds the addon when it is missing or made from other sources; else does nothing, in milliseconds.
 * Exit code 1 with the cure when a tool is missing or the compiler fails. `--force` builds all of it anyway.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binary, buildWith, isBuilt } from './sources.mjs';

const folder = dirname(fileURLToPath(import.meta.url));

function isUpToDate() {
  if (!isBuilt()) return false;
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

/** One build at a time: the lock holds its owner's process id, so that a dead owner's does not count. */
const lock = join(folder, 'build', '.lock');

function ownerIsAlive() {
  try {
    const owner = Number(readFileSync(lock, 'utf8'));
    // Just made and not yet written.
    if (owner === 0) return true;
    process.kill(owner, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function takeLock() {
  mkdirSync(dirname(lock), { recursive: true });
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      process.on('exit', () => rmSync(lock, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') fail(`cannot build in ${folder}: ${error.message}`);
    }
    if (!ownerIsAlive()) rmSync(lock, { force: true });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
}

const forced = process.argv.includes('--force');
if (forced || !isUpToDate()) {
  takeLock();
  // Whoever held the lock may have built it.
  if (forced || !isUpToDate()) buildWith(build);
}
