import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GUEST_HOST, Stage, stageSockets } from '../../../src/simulation/stage.js';
import { realClock } from '../../../src/system/clock.js';
import { socketTransport } from '../../../src/system/socket-channel.js';
import { getUnix, ProxyProcess } from './proxy-process.js';

const { ipv4, ipv6 } = GUEST_HOST;
const WAIT_MS_MAX = 90_000;

interface Status {
  readonly state: string;
  readonly carrier: string;
  readonly epoch: number;
  readonly generation: number;
  readonly failovers: Readonly<Record<string, number>>;
}

/** The built program between scripted VMs on real sockets; each hot restart makes a new process. */
describe('SIGUSR2', () => {
  let folder: string;
  let proxy: ProxyProcess;
  let stage: Stage;
  /** A module that each successor runs before it begins. */
  let successorsOwn: string;
  /** The process that has the pair now. */
  let pid: number;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'colo-hot-'));
    stage = new Stage({ directory: folder, seed: 5, clock: realClock, transport: socketTransport });
    await stage.open();
    const sockets = stageSockets(folder);
    // the scripted VMs share this process with the test, and may be slow to answer
    const file = join(folder, 'c.yaml');
    const loader = join(folder, 'loader.mjs');
    const fence = join(folder, 'fence');
    writeFileSync(fence, `#!/bin/sh\necho "$@" >> ${folder}/fenced\n`);
    chmodSync(fence, 0o755);
    const arbiter = `{ kind: file, directory: ${folder}, leaseMs: 20000 }`;
    writeFileSync(
      file,
      `failover: { heartbeatMsMax: 20000, heartbeatAloneMsMax: 60000, arbiter: ${arbiter}, fenceProgram: ${fence} }\n`,
    );
    const words = [
      ...['--config', file],
      ...[
        '--primary',
        `stream:unix:${sockets.primaryNet}`,
        '--secondary',
        `stream:unix:${sockets.secondaryNet}`,
      ],
      ...['--client', `stream:unix:${sockets.clientNet}`, '--runtime-directory', folder],
      ...['--primary-qmp', `unix:${sockets.primaryQmp}`, '--secondary-qmp', `unix:${sockets.secondaryQmp}`],
      ...['--http', 'off', '--log-format', 'json'],
    ];
    successorsOwn = join(folder, 'successor.mjs');
    writeFileSync(successorsOwn, '');
    writeFileSync(loader, `if (process.env.COLO_HANDOVER_DESCRIPTORS) await import('${successorsOwn}');`);
    proxy = new ProxyProcess(words, (more) =>
      spawn(process.execPath, ['--import', loader, ...more], { stdio: ['ignore', 'pipe', 'pipe'] }),
    );
    pid = proxy.child.pid!;
  });
  afterEach(async () => {
    if (isThere(pid)) process.kill(pid, 'SIGKILL');
    await proxy.kill();
    stage.close();
    rmSync(folder, { recursive: true });
  });

  async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const endMs = Date.now() + WAIT_MS_MAX;
    while (!(await condition())) {
      if (Date.now() > endMs) {
        throw new Error(
          `${what} did not come\n${proxy.err}${proxy.lines.map((line) => JSON.stringify(line)).join('\n')}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function status(): Promise<Status | undefined> {
    const answer = await getUnix(join(folder, 'control.sock'), '/api/status').catch(() => undefined);
    return answer === undefined ? undefined : (JSON.parse(answer.body) as Status);
  }

  async function protect(): Promise<void> {
    await stage.openSecondary();
    await until('protection', async () => (await status())?.state === 'protected');
  }

  async function hotRestart(): Promise<number> {
    const takenOver = () => proxy.lines.filter((line) => 'holdMs' in line);
    const seen = takenOver().length;
    process.kill(pid, 'SIGUSR2');
    await until('the successor', () => takenOver().length > seen);
    await until('the end of the old process', () => !isThere(pid));
    pid = proxy.lines.filter((line) => 'successor' in line).at(-1)!.successor as number;
    await until('its control socket', async () => (await status()) !== undefined);
    return takenOver().at(-1)!.holdMs as number;
  }

  it('hands the pair over with COLO going on, again and again; then a VM dies', async () => {
    await protect();
    const tasks = [stage.client.count(ipv4, 1200, 3), stage.client.download(ipv6, 'a-300000.bin')];
    for (let round = 0; round < 3; round++) {
      const before = (await status())!;
      const { checkpoints } = stage.primary;
      await hotRestart();
      const after = (await status())!;
      expect(after.generation).toBe(before.generation); // the same lease
      expect(after.state).toMatch(/protected|checkpointing/);
      expect(after.epoch).toBeGreaterThan(before.epoch);
      expect(stage.primary.checkpoints).toBeGreaterThan(checkpoints);
      expect([stage.primary.mode, stage.secondary.mode]).toEqual(['primary', 'secondary']);
    }
    stage.primary.kill();
    await until('the failover', async () => (await status())?.state === 'failed-over');
    expect(readFileSync(join(folder, 'fenced'), 'utf8')).toMatch(/^fence \S+ primary 2\n$/);
    await hotRestart(); // a survivor alone, its connections translated
    await until('every task', () => tasks.every((task) => task.report !== null));
    expect(tasks.map((task) => task.report!.problem)).toEqual([null, null]);
    expect(await status()).toMatchObject({ state: 'failed-over', carrier: 'secondary' });
  }, 240_000);

  it('a signal that comes while the successor is still beginning is not lost', async () => {
    await protect();
    const successors = () => proxy.lines.filter((line) => 'successor' in line).map((line) => line.successor);
    process.kill(pid, 'SIGUSR2');
    await until('the first', () => successors().length === 1);
    pid = successors()[0] as number;
    process.kill(pid, 'SIGUSR2');
    await until('the second', () => successors().length === 2);
    await until('its end', () => !isThere(pid));
    pid = successors()[1] as number;
    await until('its control socket', async () => (await status())?.state === 'protected');
  }, 120_000);

  const inTheHold = (action: string): string =>
    `process.on('message', ({ kind }) => { if (kind === 'inheritance') { ${action} } });`;

  it.each([
    ['cannot start', "throw new Error('broken');"],
    ['dies while both VMs wait', inTheHold("process.kill(process.pid, 'SIGKILL');")],
    ['hangs while both VMs wait', inTheHold('for (;;);')],
  ])(
    'a successor that %s changes nothing',
    async (_what, code) => {
      await protect();
      const counter = stage.client.count(ipv4, 300, 3);
      writeFileSync(successorsOwn, code);
      process.kill(pid, 'SIGUSR2');
      await until('the refusal', () => proxy.lines.some(({ code }) => code === 'COLO_ERR_HANDOVER'));
      await until('the counter', () => counter.report !== null);
      expect(counter.report!.problem).toBeNull();
      expect((await status())?.state).toMatch(/protected|checkpointing/);
      expect([stage.primary.mode, stage.secondary.mode]).toEqual(['primary', 'secondary']);
      writeFileSync(successorsOwn, '');
      await hotRestart();
    },
    120_000,
  );
});

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
