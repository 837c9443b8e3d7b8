// Makes the checkout ready to run: node modules, native addon, TypeScript build; with --test also the Debian
// packages the tests need. Does only what is missing, and costs well under a second when nothing is.
// Plain Node without dependencies, since it runs before there are any. Safe when two run at once.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isBuilt } from '../native/sources.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LOCK = join(ROOT, '.cache', 'setup.lock');
const LOCK_WAIT_MS_MAX = 20 * 60_000;
const NODE_MAJOR_MIN = 20;

/** What the addon's build needs, each a command and a Debian package; python3 and make are for node-gyp. */
const BUILD_TOOLS = ['g++', 'make', 'python3'];
/** What the tests need: namespaces, clients, captures, two real VMs, a browser, an arbiter, shells, formatting of C++. */
const TEST_PACKAGES = [
  ...['iproute2', 'nftables', 'ethtool', 'iputils-ping', 'curl', 'socat', 'tcpdump', 'tshark'],
  ...['qemu-system-x86', 'busybox-static', 'cpio', 'kmod', 'gcc', 'libc6-dev', 'clang-format'],
  ...['chromium', 'fonts-dejavu-core', 'prometheus', 'etcd-server', 'tmux', 'zsh', 'fish'],
  ...['dpkg', 'debootstrap'],
];

/** In the order of their needs. */
const STEPS = [
  { name: 'node modules', isMissing: () => !modulesMatchLock(), make: installModules },
  { name: 'native addon', isMissing: () => !isBuilt(), make: buildAddon },
  { name: 'build', isMissing: () => readStamp() !== sourcesHash(), make: buildSources },
];

/** True when what npm installed is what package-lock.json says. Packages for other platforms may be absent. */
function modulesMatchLock() {
  const installed = readJson(join(ROOT, 'node_modules', '.package-lock.json'))?.packages;
  if (installed === undefined) return false;
  const wanted = readJson(join(ROOT, 'package-lock.json')).packages;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true;
    return installed[path] === undefined ? optional === true : installed[path].version === version;
  });
}

function installModules() {
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

function buildAddon() {
  const absent = BUILD_TOOLS.filter((tool) => !isOnPath(tool));
  if (absent.length > 0) installPackages(absent); // native/build.mjs names what is missing after this
  run(process.execPath, [join(ROOT, 'native', 'build.mjs')]);
}

const STAMP = join(ROOT, 'dist', '.sources-hash');

function sourcesHash() {
  const hash = createHash('sha256');
  const files = [
    ...filesUnder(join(ROOT, 'src'), /\.ts$/),
    join(ROOT, 'tsconfig.json'),
    join(ROOT, 'package-lock.json'),
  ];
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  return hash.digest('hex');
}

function readStamp() {
  return existsSync(STAMP) && existsSync(join(ROOT, 'dist', 'cli', 'main.js'))
    ? readFileSync(STAMP, 'utf8')
    : null;
}

function buildSources() {
  const hash = sourcesHash();
  rmSync(STAMP, { force: true });
  run(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', ROOT]);
  writeFileSync(STAMP, hash);
}

/** As root on Debian; elsewhere nothing can be installed. */
function installPackages(names) {
  if (process.getuid() !== 0 || !existsSync('/usr/bin/apt-get')) return;
  say(`installing Debian packages: ${names.join(' ')}`);
  if (!aptInstall(names)) {
    aptGet(['update', '-q']);
    aptInstall(names);
  }
}

/** Optional ones: what cannot be installed is named, and the tests that need it are skipped. */
function installTestPackages() {
  const absent = absentPackages(TEST_PACKAGES);
  if (absent.length > 0) installPackages(absent);
  const still = absentPackages(TEST_PACKAGES);
  if (still.length === 0) return;
  const command = `apt-get install --no-install-recommends ${still.join(' ')}`;
  say(`WARNING: missing Debian packages, the tests that need them are skipped. As root: ${command}`);
}

function isOnPath(command) {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, command)));
}

function aptInstall(packages) {
  return aptGet(['install', '-q', '-y', '--no-install-recommends', ...packages]);
}

function aptGet(parameters) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=2'];
  return spawnSync('apt-get', [...options, ...parameters], { env, stdio: ['ignore', 2, 2] }).status === 0;
}

/** Off Debian nothing can be known, so nothing is called absent. */
function absentPackages(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own form
  const query = spawnSync('dpkg-query', ['-W', '-f=${Package} ${db:Status-Status}\n', ...names], {
    encoding: 'utf8',
  });
  if (query.error) return [];
  const installed = new Set(
    query.stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return names.filter((name) => !installed.has(name));
}

/** One set-up at a time: the second waits, then finds everything done. */
async function withLock(work) {
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  const startedMs = Date.now();
  let told = false;
  while (!tryLock()) {
    if (Date.now() - startedMs > LOCK_WAIT_MS_MAX)
      throw new Error(`${LOCK} is held by another set-up; remove it if none runs`);
    if (!told) say('waiting for another set-up to end');
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  try {
    work();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

function tryLock() {
  try {
    writeFileSync(LOCK, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    if (isHolderGone()) rmSync(LOCK, { force: true });
    return false;
  }
}

function isHolderGone() {
  try {
    const pid = Number(readFileSync(LOCK, 'utf8'));
    if (pid === 0) return Date.now() - statSync(LOCK).mtimeMs > 1000; // made, and its number not yet written
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}

function run(command, parameters) {
  const { status, error } = spawnSync(command, parameters, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (status !== 0)
    throw new Error(`${command} ${parameters.join(' ')} failed${error ? `: ${error.message}` : ''}`);
}

function filesUnder(folder, pattern) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((file) => pattern.test(file))
    .sort();
}

function readJson(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/** Throws when something required cannot be had. */
export async function setup({ forTests = false } = {}) {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < NODE_MAJOR_MIN)
    throw new Error(`Node.js ${NODE_MAJOR_MIN} or newer is needed; this is ${process.version}`);
  if (STEPS.some((step) => step.isMissing())) {
    await withLock(() => {
      for (const step of STEPS) {
        if (!step.isMissing()) continue;
        say(`making ${step.name}`);
        step.make();
      }
    });
  }
  if (forTests && absentPackages(TEST_PACKAGES).length > 0) {
    await withLock(installTestPackages);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await setup({ forTests: process.argv.includes('--test') });
  } catch (error) {
    say(`failed: ${error.message}`);
    process.exitCode = 1;
  }
}
