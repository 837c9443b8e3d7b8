import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { getUnix } from './proxy-process.js';

/** A named pipe that is full: who writes to it waits, or is told to come again. */
function fullPipe(folder: string): number {
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const own = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    for (const some = Buffer.alloc(4096, 'x'); ; ) writeSync(own, some);
  } catch {
    return openSync(path, constants.O_WRONLY);
  }
}

/** The whole program: whatever becomes of its log, it serves, and it ends when it is told to. */
describe('a log that nobody takes', () => {
  let folder: string;
  let proxy: ChildProcess | undefined;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'colo-reader-'));
  });
  afterEach(async () => {
    if (proxy?.exitCode === null && proxy.signalCode === null) {
      proxy.kill('SIGKILL');
      await once(proxy, 'exit');
    }
    proxy = undefined;
    rmSync(folder, { recursive: true });
  });

  it.each([
    ['a pipe that is full', fullPipe],
    ['a disk that is full', () => openSync('/dev/full', 'w')],
  ])('%s', async (_title, open) => {
    const log = open(folder);
    const link = (name: string): string => `stream:unix:${folder}/${name}`;
    const words = ['--primary', link('p'), '--secondary', link('s'), '--client', `${link('c')},server`];
    words.push('--runtime-directory', folder, '--http', 'off', '--log-format', 'json');
    proxy = spawn(process.execPath, ['bin/colo-proxy.js', ...words], { stdio: ['ignore', log, 'ignore'] });
    closeSync(log);
    const ended = once(proxy, 'exit');
    const answer = () => getUnix(join(folder, 'control.sock'), '/healthz').catch(() => undefined);
    await expect.poll(async () => (await answer())?.code, { timeout: 15_000 }).toBe(200);
    proxy.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  });

  it('a socket that is not read', async () => {
    proxy = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { realClock } from './dist/system/clock.js';
         import { standardOutput } from './dist/system/log-output.js';
         const output = standardOutput(realClock);
         for (let lines = 0; lines < 30_000; lines += 1) output.write('x'.repeat(99) + '\\n');
         console.error(output.linesLeftOut > 0 && output.linesLeftOut < 20_000);
         process.exit();`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] }, // pipes of Node.js are sockets
    );
    let said = '';
    proxy.stderr!.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const [code] = await once(proxy, 'exit');
    expect(code).toBe(0);
    await expect.poll(() => said).toBe('true\n');
  });
});
