// The whole program, one VM's traffic passing, while something else goes on beside the frames.
import { execFile, execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, Child, driver, measured, ROOT, raise, sleep, withUndo } from '../lib/tools.mjs';
import { inside, ns, untilUpIs, withNamespaces } from './namespaces.mjs';

const ADMIN_PORT = '9129';
const FLOWS = '16';
const FLAP_PERIOD_MS = 250;
/** In its first seconds, while its threads start, the program stops for 30 to 50 ms where others keep the core busy. */
const SETTLED_MS = 8000;
const part = (name) => join(ROOT, 'test/bench/net', name);

/**
 * `alone`: nothing else. `watched`: somebody looks all the time, 40 requests a second and the status page open.
 * `logging`: 2,000 lines a second go to a file, twenty at a time; `unread log`: to a pipe that nobody reads.
 * `flapping`: the secondary's interface is taken down and up twice a second.
 */
export const WATCHED_VARIANTS = ['alone', 'watched', 'logging', 'unread log', 'flapping'];

function openLog(variant, directory) {
  if (variant !== 'unread log') return [openSync(join(directory, 'log'), 'w')];
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return [openSync(path, 'w'), reader];
}

async function lookAllTheTime() {
  const words = [process.execPath, part('reader.mjs'), ADMIN_PORT, '40'];
  const reader = new Child(inside('host', measured(...words)));
  await reader.line();
  return {
    async end() {
      const answers = Number(await reader.ask());
      await reader.end();
      return answers;
    },
  };
}

function flap() {
  let flaps = 0;
  const timer = setInterval(() => {
    flaps += 1;
    execFile('ip', ['-n', ns('host'), 'link', 'set', 'tap1', flaps % 2 === 0 ? 'up' : 'down']);
  }, FLAP_PERIOD_MS);
  return {
    end() {
      clearInterval(timer);
      return flaps;
    },
  };
}

/** Latencies of `packets` at `perSecond`, and `done`: answers read, or changes of the interface. */
export async function watchedRun(variant, perSecond, packets) {
  const generator = build('net-generator', 'net/generator.c');
  const directory = mkdtempSync(join(tmpdir(), 'colo-bench-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  return withUndo(remove, () =>
    withNamespaces(['host'], async () => {
      const words = [process.execPath, join(ROOT, 'bin/colo-proxy.js'), 'run', '--name', 'bench'];
      words.push('--primary-tap', 'tap0', '--secondary-tap', 'tap1', '--runtime-directory', directory);
      words.push('--http', `127.0.0.1:${ADMIN_PORT}`, '--log-format', 'json');
      const logs = openLog(variant, directory);
      const chatters = ['logging', 'unread log'].includes(variant);
      const proxy = new Child(inside('host', measured(...words)), {
        stdio: ['pipe', logs[0], 'inherit'],
        env: { ...process.env, ...(chatters && { NODE_OPTIONS: `--import ${part('chatter.mjs')}` }) },
      });
      try {
        await untilUpIs('tap0');
        // of all threads only the one that handles frames: the runtime's helpers, which collect garbage for the admin
        // threads too, would run before it otherwise
        raise(proxy.pid, [proxy.pid]);
        await sleep(SETTLED_MS);
        const numbers = [FLOWS, Math.round(packets), 512, perSecond].map(String);
        const pid = String(proxy.pid);
        const child = new Child(
          inside('host', driver(generator, 'out', pid, 'small', ...numbers, 'colo0', 'tap0')),
        );
        await child.line();
        await sleep(800);
        let beside;
        if (variant === 'watched') beside = await lookAllTheTime();
        if (variant === 'flapping') beside = flap();
        const result = JSON.parse(await child.ask('go'));
        await child.end();
        return { ...result, done: (await beside?.end()) ?? 0 };
      } finally {
        await proxy.kill('SIGTERM');
        for (const log of logs) closeSync(log);
      }
    }),
  );
}
