// `npm test`: set-up, lint, types, unit tests, then what needs root (namespaces, kernel facts, two real VMs).
// What cannot run here is skipped loudly and counted. The last line is the sum, alone: `N passed, N failed`.
//   node test/run.mjs [--only NAME]...     NAME: lint, types, unit, sanitized, simulate, fuzz, demo, browser, package, captures, differential, netns, qemu, readme, failover
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { setup } from '../bin/setup.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUTPUT = join(ROOT, 'test-output');
const KILL_AFTER_MS = 30_000;
/** Of what a failed command said last, and of the tests that failed: repeated under the table. */
const LINES_REPEATED_MAX = 12;
const isRoot = process.getuid() === 0;

/** Each gives `{passed, failed, skipped, notes}`; `msMax` ends a part that hangs. */
const PARTS = [
  { name: 'lint', run: lint, msMax: 2 * 60_000 },
  { name: 'types', run: types, msMax: 5 * 60_000 },
  { name: 'unit', run: (msMax) => vitest(['unit'], msMax), msMax: 10 * 60_000 },
  { name: 'sanitized', run: sanitized, msMax: 8 * 60_000 },
  { name: 'simulate', run: simulate, msMax: 20 * 60_000 },
  { name: 'fuzz', run: fuzz, msMax: 3 * 60_000 },
  { name: 'demo', run: demo, msMax: 3 * 60_000 },
  { name: 'browser', run: browser, msMax: 3 * 60_000 },
  { name: 'package', run: (msMax) => vitest(['package'], msMax), msMax: 10 * 60_000 },
  { name: 'captures', run: captures, msMax: 3 * 60_000 },
  { name: 'differential', run: differential, msMax: 3 * 60_000 },
  { name: 'netns', run: netns, msMax: 12 * 60_000 },
  { name: 'qemu', run: qemu, msMax: 8 * 60_000 },
  { name: 'readme', run: readme, msMax: 4 * 60_000 },
  { name: 'failover', run: failover, msMax: 6 * 60_000 },
];

async function lint(msMax) {
  const biome = await check('biome check', 'npx', ['biome', 'check', '--diagnostic-level=warn'], msMax);
  if (!(await hasCommand('clang-format'))) return sum([biome, skip('clang-format is not installed')]);
  const files = await trackedFiles(['native/*.cc', 'native/*.h', 'test/*.c', 'test/*.h']);
  if (files.length === 0) return biome;
  return sum([
    biome,
    await check('clang-format', 'clang-format', ['--dry-run', '--Werror', ...files], msMax),
  ]);
}

function types(msMax) {
  return check('tsc -p test', 'npx', ['tsc', '-p', 'test'], msMax);
}

async function netns(msMax) {
  if (!isRoot) return skip('the namespace and kernel tests need root');
  if (!(await canMakeNamespaces())) return skip('this machine does not let root make network namespaces');
  return vitest(['netns', 'kernel'], msMax);
}

/** Two real VMs in the short form. The harness says itself when QEMU cannot be had: exit code 0 and `skipped`. */
async function qemu(msMax) {
  const runner = join(ROOT, 'test', 'qemu', 'run.mjs');
  if (!isRoot) return skip('the test of two real VMs needs root');
  if (!(await hasCommand('qemu-system-x86_64'))) return skip('qemu-system-x86_64 is not installed');
  if (!(await canMakeNamespaces())) return skip('this machine does not let root make network namespaces');
  const json = join(OUTPUT, 'qemu.json');
  rmSync(json, { force: true });
  const outcome = await check('two real VMs', process.execPath, [runner, '--short', '--json', json], msMax);
  if (!existsSync(json)) return outcome;
  const { skipped, rows = [] } = JSON.parse(readFileSync(json, 'utf8'));
  if (skipped !== undefined) return skip(`the test of two real VMs needs ${skipped.join('; ')}`);
  const missed = rows
    .filter((row) => !row.ok)
    .map((row) => `${row.links} ${row.point}: ${row.check}: ${row.seen}`);
  return {
    passed: rows.length - missed.length,
    failed: Math.max(missed.length, outcome.failed),
    skipped: 0,
    notes: missed.length > 0 ? missed : outcome.notes,
  };
}

/** README's commands for two real VMs, as they are written there. */
async function readme(msMax) {
  if (!isRoot) return skip("README's set-up needs root");
  if (!(await hasCommand('qemu-system-x86_64'))) return skip('qemu-system-x86_64 is not installed');
  if (!(await canMakeNamespaces())) return skip('this machine does not let root make network namespaces');
  return check("README's set-up", process.execPath, [join(ROOT, 'test', 'qemu', 'readme.mjs')], msMax);
}

/** The failover matrix in its short form, and two proxies that claim the same pair. */
async function failover(msMax) {
  if (!isRoot) return skip('the failover matrix needs root');
  if (!(await hasCommand('qemu-system-x86_64'))) return skip('qemu-system-x86_64 is not installed');
  if (!(await canMakeNamespaces())) return skip('this machine does not let root make network namespaces');
  const json = join(OUTPUT, 'failover-short.json');
  rmSync(json, { force: true });
  const folder = join(ROOT, 'test', 'failover');
  const matrixArgs = [join(folder, 'run.mjs'), '--short', '--json', json];
  const matrix = await check('failover matrix', process.execPath, matrixArgs, msMax);
  const brainArgs = [join(folder, 'split-brain.mjs'), '--rounds', '1'];
  const brain = sum([
    await check('split brain, file', process.execPath, brainArgs, msMax),
    await check(
      'split brain, etcd',
      process.execPath,
      [...brainArgs, '--arbiter', 'etcd', '--how', 'frozen,cut'],
      msMax,
    ),
  ]);
  if (!existsSync(json)) return sum([matrix, brain]);
  const cells = JSON.parse(readFileSync(json, 'utf8'));
  const missed = cells.filter(({ ok }) => !ok).map(({ cell, problems }) => `${cell}: ${problems.join('; ')}`);
  const passed = cells.length - missed.length;
  const failed = Math.max(missed.length, matrix.failed);
  return sum([{ passed, failed, skipped: 0, notes: missed.length > 0 ? missed : matrix.notes }, brain]);
}

/** What `npm start -- --once` plays: exit code 0 when every byte was right. */
function demo(msMax) {
  return check(
    'demo',
    process.execPath,
    [join(ROOT, 'bin', 'colo-proxy.js'), 'demo', '--once', '--http', 'off'],
    msMax,
  );
}

/** The status page in Debian's chromium. */
async function browser(msMax) {
  if (!(await hasCommand('chromium'))) return skip('chromium is not installed');
  return vitest(['browser'], msMax);
}

/** Seeded worlds: a fixed set, every sync-point in turn, a quiet one, and fresh seeds for three minutes, printed. */
async function simulate(msMax) {
  const runner = join(ROOT, 'test', 'simulation', 'run.mjs');
  const forms = [
    ['fixed seeds', '--seed', '1', '--seeds', '100', '--copies', '0'],
    ['every sync-point', '--seed', '1', '--directed', '--copies', '0'],
    ['quiet world', '--seed', '1', '--light', '--copies', '0'],
    ['fresh seeds', '--seeds', '1000000', '--seconds', '180'],
  ];
  const outcomes = [];
  for (const [title, ...words] of forms) {
    outcomes.push(
      await check(`simulate, ${title}`, process.execPath, [runner, ...words], msMax / forms.length),
    );
  }
  return sum(outcomes);
}

/** The addon's tests again, with sanitizers in it. */
function sanitized(msMax) {
  return check('sanitized addon', process.execPath, [join(ROOT, 'test', 'sanitize', 'run.mjs')], msMax);
}

function fuzz(msMax) {
  const runner = join(ROOT, 'test', 'fuzz', 'run.mjs');
  return check('fuzz', process.execPath, [runner, '--seconds', '25'], msMax);
}

/** The captures of test/fixtures/captures against an exact oracle. */
function captures(msMax) {
  return check('captures', process.execPath, [join(ROOT, 'test', 'captures', 'run.mjs')], msMax);
}

/** Our verdicts beside those of QEMU's own colo-compare. */
async function differential(msMax) {
  if (!(await hasCommand('qemu-system-x86_64'))) return skip('qemu-system-x86_64 is not installed');
  return check('differential', process.execPath, [join(ROOT, 'test', 'differential', 'run.mjs')], msMax);
}

async function vitest(projects, msMax) {
  const json = join(OUTPUT, `vitest-${projects.join('-')}.json`);
  rmSync(json, { force: true });
  const selection = projects.flatMap((project) => ['--project', project]);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${json}`];
  const code = await run('npx', ['vitest', 'run', '--passWithNoTests', ...selection, ...reporters], msMax);
  if (!existsSync(json)) return { ...nothing(), failed: 1, notes: ['vitest wrote no report'] };
  const report = JSON.parse(readFileSync(json, 'utf8'));
  const isBroken = (file) =>
    file.status === 'failed' && file.assertionResults.every((one) => one.status !== 'failed');
  const brokenFiles = report.testResults.filter(isBroken).map((file) => `${file.name} could not run`);
  const failed = report.numFailedTests + brokenFiles.length;
  const failedTests = report.testResults
    .flatMap((file) => file.assertionResults.filter((one) => one.status === 'failed'))
    .map((one) => `failed: ${one.fullName}`);
  const outcome = {
    passed: report.numPassedTests,
    failed: failed === 0 && code !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
    notes: [...brokenFiles, ...failedTests.slice(0, LINES_REPEATED_MAX)],
  };
  if (outcome.skipped > 0) outcome.notes.push(`${outcome.skipped} tests skipped; their names are above`);
  return outcome;
}

/** A command that counts as one test. */
async function check(title, command, parameters, msMax) {
  const last = [];
  const code = await run(command, parameters, msMax, ['ignore', 'pipe', 'pipe'], (line) => {
    console.log(line);
    last.push(`  ${line}`);
    if (last.length > LINES_REPEATED_MAX) last.shift();
  });
  if (code === 0) return { ...nothing(), passed: 1 };
  const how = code === null ? `ended after ${msMax} ms` : `exit ${code}`;
  return { ...nothing(), failed: 1, notes: [[`${title}: ${how}`, ...last].join('\n')] };
}

/** Exit code, or null when it was ended for taking too long. `onLine` is given what a piped output says. */
function run(command, parameters, msMax, stdio = ['ignore', 'inherit', 'inherit'], onLine = () => {}) {
  return new Promise((resolve) => {
    // A process group of its own, so that a hang takes its children along and nothing else.
    const child = spawn(command, parameters, { cwd: ROOT, stdio, detached: true });
    for (const output of [child.stdout, child.stderr]) {
      if (output !== null) createInterface({ input: output }).on('line', onLine);
    }
    let late = false;
    let killTimer;
    const timer = setTimeout(() => {
      late = true;
      endGroup(child.pid, 'SIGTERM'); // lets it take down what it made
      killTimer = setTimeout(() => endGroup(child.pid, 'SIGKILL'), KILL_AFTER_MS);
    }, msMax);
    const end = (code) => {
      clearTimeout(timer);
      clearTimeout(killTimer);
      resolve(late ? null : code);
    };
    child.on('error', () => end(127));
    child.on('close', end);
  });
}

function endGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

async function hasCommand(name) {
  return (await run('sh', ['-c', `command -v ${name}`], 5000, 'ignore')) === 0;
}

/** Tries, in a namespace that is gone at once. */
async function canMakeNamespaces() {
  return (await run('unshare', ['--net', 'true'], 5000, 'ignore')) === 0;
}

async function trackedFiles(patterns) {
  const child = spawn('git', ['ls-files', '--', ...patterns], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  return text.split('\n').filter((file) => file !== '' && existsSync(join(ROOT, file)));
}

function nothing() {
  return { passed: 0, failed: 0, skipped: 0, notes: [] };
}

function skip(reason) {
  return { ...nothing(), skipped: 1, notes: [`SKIPPED: ${reason}`] };
}

function sum(outcomes) {
  return {
    passed: outcomes.reduce((total, one) => total + one.passed, 0),
    failed: outcomes.reduce((total, one) => total + one.failed, 0),
    skipped: outcomes.reduce((total, one) => total + one.skipped, 0),
    notes: outcomes.flatMap((one) => one.notes),
  };
}

function chosenParts() {
  const names = process.argv.flatMap((word, index) => (word === '--only' ? [process.argv[index + 1]] : []));
  const unknown = names.filter((name) => PARTS.every((part) => part.name !== name));
  if (unknown.length > 0) throw new Error(`unknown part ${unknown.join(', ')}`);
  return names.length === 0 ? PARTS : PARTS.filter((part) => names.includes(part.name));
}

async function main() {
  mkdirSync(OUTPUT, { recursive: true });
  const results = [];
  try {
    const parts = chosenParts();
    await setup({ forTests: true });
    for (const part of parts) {
      console.log(`\n== ${part.name}`);
      const startedMs = Date.now();
      const outcome = await part.run(part.msMax);
      for (const note of outcome.notes) console.log(`${part.name}: ${note}`);
      results.push({ name: part.name, seconds: (Date.now() - startedMs) / 1000, ...outcome });
    }
  } catch (error) {
    console.log(`set-up failed: ${error.message}`);
    results.push({ name: 'set-up', seconds: 0, ...nothing(), failed: 1, notes: [error.message] });
  }

  console.log('\npart      passed  failed  skipped  seconds');
  for (const { name, passed, failed, skipped, seconds } of results) {
    const cells = [String(passed).padStart(6), String(failed).padStart(6), String(skipped).padStart(7)];
    console.log(`${name.padEnd(8)}  ${cells.join('  ')}  ${seconds.toFixed(1).padStart(7)}`);
  }
  const notes = results.flatMap((result) => result.notes.map((note) => `${result.name}: ${note}`));
  if (notes.length > 0) console.log(notes.join('\n'));
  const total = sum(results);
  console.log(
    `${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`,
  );
  process.exitCode = total.failed === 0 ? 0 : 1;
}

await main();
