/**
 * `npm run test:sanitized`: the addon's tests with AddressSanitizer and UndefinedBehaviorSanitizer (and, for what the addon
 * allocates itself, LeakSanitizer). The addon is built a second time under .cache and takes the other's place in every
 * Node.js process of the tests. Exit code 1 when a test fails or a sanitizer finds something.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = join(ROOT, '.cache', 'sanitized');
const NATIVE = join(FOLDER, 'native');
const BINARIES = join(NATIVE, 'build', 'Release');
const PARTS = ['binding.gyp', 'build.mjs', 'sources.mjs', 'src', 'test-support'];
// vptr needs the type information that the addon does without
const SANITIZERS = '-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all';

const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

const UNIT_TESTS = ['test/unit/native'];
const ROOT_TESTS = ['test/netns/native-ports.test.ts', 'test/netns/native-close.test.ts'];

function newestMs(path) {
  if (!statSync(path).isDirectory()) return statSync(path).mtimeMs;
  return Math.max(...readdirSync(path).map((name) => newestMs(join(path, name))));
}

function build() {
  const binary = join(BINARIES, 'colo_native.node');
  const sources = PARTS.map((part) => join(ROOT, 'native', part));
  const newest = Math.max(...[...sources, fileURLToPath(import.meta.url)].map(newestMs));
  if (existsSync(binary) && statSync(binary).mtimeMs > newest) return;
  mkdirSync(NATIVE, { recursive: true });
  for (const part of PARTS) {
    cpSync(join(ROOT, 'native', part), join(NATIVE, part), { recursive: true, preserveTimestamps: true });
  }
  const env = {
    ...process.env,
    CXXFLAGS: `${SANITIZERS} -fno-omit-frame-pointer -g`,
    LDFLAGS: SANITIZERS,
  };
  execFileSync(process.execPath, [join(NATIVE, 'build.mjs'), '--force'], { env, stdio: 'inherit' });
}

/** Must be the first library of a process whose program was built without it. */
function sanitizerLibraries() {
  const compiler = process.env.CXX ?? 'g++';
  return ['libasan.so', 'libubsan.so'].map((name) =>
    execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
  );
}

function environment(leaks) {
  return {
    ...process.env,
    LD_PRELOAD: sanitizerLibraries().join(':'),
    ASAN_OPTIONS: `detect_leaks=${leaks ? 1 : 0}:exitcode=99:strict_string_checks=1`,
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1:exitcode=99',
    NODE_OPTIONS: `--require ${fileURLToPath(new URL('use-addon.cjs', import.meta.url))}`,
    COLO_TEST_ADDONS: BINARIES,
  };
}

function tell(title, isRight, what) {
  console.log(`${title}: ${isRight ? 'right' : what}`);
  return isRight;
}

function run(title, words) {
  console.log(`\n== ${title}`);
  const { status } = spawnSync(process.execPath, words, {
    cwd: ROOT,
    env: environment(false),
    stdio: 'inherit',
  });
  return tell(title, status === 0, `exit code ${status}`);
}

/** Node.js and V8 leave much to the end of the process: a leak is ours when the addon itself allocated it. */
function runForLeaks(title, script) {
  console.log(`\n== ${title}`);
  const words = [fileURLToPath(new URL(script, import.meta.url))];
  const { status, stderr } = spawnSync(process.execPath, words, {
    env: environment(true),
    encoding: 'utf8',
    maxBuffer: OUTPUT_BYTES_MAX,
  });
  const reports = stderr.split('\n\n');
  const ours = reports.filter((report) => /^(Direct|Indirect) leak[\s\S]*\n +#1 [^\n]* colo::/m.test(report));
  const isOnlyLeaks = status === 0 || stderr.includes('LeakSanitizer: detected memory leaks');
  if (ours.length > 0 || !isOnlyLeaks) console.error(ours.length > 0 ? ours.join('\n\n') : stderr);
  return tell(title, ours.length === 0 && isOnlyLeaks, `exit code ${status}, ${ours.length} leaks`);
}

if (sanitizerLibraries().some((path) => !existsSync(path))) {
  console.log('SKIPPED: this compiler has no libasan.so and libubsan.so');
  process.exit(0);
}
const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
build();
const outcomes = [runForLeaks('leaks', 'leaks.mjs')];
outcomes.push(run('unit tests of the addon', [vitest, 'run', '--project', 'unit', ...UNIT_TESTS]));
if (process.getuid() === 0) {
  outcomes.push(run('ports in namespaces', [vitest, 'run', '--project', 'netns', ...ROOT_TESTS]));
} else {
  console.log('SKIPPED: ports in namespaces need root');
}
process.exitCode = outcomes.every(Boolean) ? 0 : 1;
