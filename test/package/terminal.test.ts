/** `top` and `status --watch` in a real terminal, by tmux: redrawn in place, within the window, ended by Ctrl-C. */
import { execFileSync, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AdminServer } from '../../src/observe/http.js';
import type { PairStatus } from '../../src/pair/status.js';
import { realClock } from '../../src/system/clock.js';
import { silentLog } from '../../src/system/log.js';
import { sampleStatus } from '../unit/observe/sample-status.js';

const hasTmux = spawnSync('tmux', ['-V']).status === 0;
if (!hasTmux) process.stderr.write('SKIPPED: tmux is not installed (apt-get install tmux)\n');

const WAIT_MS_MAX = 20_000;
const socket = `colo-test-${process.pid}`;
const tmux = (...words: string[]): string =>
  execFileSync('tmux', ['-L', socket, ...words], { encoding: 'utf8' });

async function screenWith(pattern: RegExp): Promise<string> {
  const endMs = Date.now() + WAIT_MS_MAX;
  for (;;) {
    const screen = tmux('capture-pane', '-p');
    if (pattern.test(screen)) return screen;
    if (Date.now() > endMs) throw new Error(`${pattern} did not come:\n${screen}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

describe.skipIf(!hasTmux)('in a terminal', () => {
  let server: AdminServer;
  let status: PairStatus;
  beforeAll(async () => {
    status = sampleStatus();
    server = new AdminServer({
      listen: '127.0.0.1:0',
      status: () => status,
      flows: () => [{ flow: 'tcp 10.0.0.2:80 > 10.0.0.1:40000', heldBytes: 2048, idleMs: 1500 }],
      log: silentLog,
      clock: realClock,
      build: { version: '1' },
    });
    await server.open();
    tmux('new-session', '-d', '-x', '100', '-y', '40', 'env', 'PS1=ready>', 'bash', '--norc', '--noprofile');
  });
  afterAll(async () => {
    spawnSync('tmux', ['-L', socket, 'kill-server']);
    await server.close();
  });

  it.each(['top', 'status --watch'])('%s', async (words) => {
    status = sampleStatus();
    tmux('send-keys', `clear; node ${resolve('bin/colo-proxy.js')} ${words} --url ${server.url()}`, 'Enter');
    await screenWith(/web: protected, the primary carries the traffic/);
    if (words === 'top') await screenWith(/tcp 10\.0\.0\.2:80 > 10\.0\.0\.1:40000 +2\.0 KiB +1\.5 s/);
    status = sampleStatus({ state: 'failed-over', carrier: 'secondary' });
    const screen = await screenWith(/web: failed over, the secondary carries the traffic/);
    expect(screen).not.toContain('web: protected');
    tmux('send-keys', 'C-c');
    await screenWith(/ready>\s*$/);
  });
});
