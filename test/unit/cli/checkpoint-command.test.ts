import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stage, stageSockets } from '../../../src/simulation/stage.js';
import { realClock } from '../../../src/system/clock.js';
import { socketTransport } from '../../../src/system/socket-channel.js';
import { getUnix, ProxyProcess } from './proxy-process.js';

/** The built program protects scripted VMs on real sockets; a second one commands it over its control socket. */
describe('colo-proxy checkpoint', () => {
  let folder: string;
  let proxy: ProxyProcess;
  let stage: Stage;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'colo-ask-'));
    stage = new Stage({ directory: folder, seed: 7, clock: realClock, transport: socketTransport });
    await stage.open();
    const sockets = stageSockets(folder);
    const file = join(folder, 'c.yaml');
    // the scripted VMs share this process with the test, and may be slow to answer
    writeFileSync(file, 'failover: { heartbeatMsMax: 20000, heartbeatAloneMsMax: 60000 }\n');
    proxy = new ProxyProcess([
      ...['--config', file, '--runtime-directory', folder, '--http', 'off'],
      ...['--primary', `stream:unix:${sockets.primaryNet}`],
      ...['--secondary', `stream:unix:${sockets.secondaryNet}`],
      ...['--client', `stream:unix:${sockets.clientNet}`],
      ...['--primary-qmp', `unix:${sockets.primaryQmp}`, '--secondary-qmp', `unix:${sockets.secondaryQmp}`],
      ...['--log-format', 'json', '--log-level', 'debug'],
    ]);
    await proxy.until('the control socket', async () => (await status()) !== undefined);
  }, 60_000);

  afterAll(async () => {
    await proxy.kill();
    stage.close();
    rmSync(folder, { recursive: true });
  });

  async function status(): Promise<Record<string, unknown> | undefined> {
    const answer = await getUnix(join(folder, 'control.sock'), '/api/status').catch(() => undefined);
    return answer === undefined ? undefined : JSON.parse(answer.body);
  }

  /** Exit code and everything that `colo-proxy checkpoint WORDS` said. */
  function checkpoint(...words: string[]): Promise<{ code: number | null; said: string }> {
    const args = ['bin/colo-proxy.js', 'checkpoint', '--runtime-directory', folder, ...words];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (t) => (said += t));
    return new Promise((resolve) => child.on('close', (code) => resolve({ code, said })));
  }

  it('without a secondary: refused, and why', async () => {
    expect(await checkpoint()).toEqual({
      code: 1,
      said: expect.stringMatching(/no secondary .*\(COLO_ERR_CHECKPOINT\)/),
    });
  }, 30_000);

  it('takes one, with its cause; every sync-point of it is in log and status', async () => {
    await stage.openSecondary();
    await proxy.until('protection', async () => (await status())?.state === 'protected');
    const { code, said } = await checkpoint();
    expect([code, said]).toEqual([0, expect.stringMatching(/operator/)]);
    const { checkpoints, syncPoints } = (await status()) as {
      checkpoints: Record<string, number>;
      syncPoints: Record<string, { count: number; lastAtMs: number }>;
    };
    expect(checkpoints).toMatchObject({ protect: 1, operator: 1 });
    const words = [
      'checkpoint-request',
      'checkpoint-reply',
      'vmstate-send',
      'vmstate-received',
      'vmstate-loaded',
    ];
    for (const word of words) {
      expect(syncPoints[word]!.count).toBeGreaterThanOrEqual(2);
      expect(Date.now() - syncPoints[word]!.lastAtMs).toBeLessThan(60_000);
      const traced = proxy.lines.filter((line) => line.msg === 'sync-point' && line.word === word);
      expect(traced.length).toBeGreaterThanOrEqual(2);
    }
  }, 60_000);

  it('changes mode and period while running', async () => {
    expect(await checkpoint('--mode', 'periodic', '--period', '40')).toMatchObject({ code: 0 });
    await proxy.until('periodic checkpoints', async () => {
      const now = (await status()) as { checkpoints: { period: number } };
      return now.checkpoints.period >= 3;
    });
    expect(await status()).toMatchObject({
      checkpointPlan: { mode: 'periodic', periodMs: 40, adapted: false },
    });
    expect(await checkpoint('--mode', 'compare')).toMatchObject({ code: 0 });
    await proxy.until('comparing', async () => {
      const { checkpointPlan } = (await status()) as { checkpointPlan: { mode: string } };
      return checkpointPlan.mode === 'compare';
    });
    expect((await checkpoint('--mode', 'never')).code).toBe(2);
    expect((await checkpoint('--mode', 'periodic', '--period', '0')).code).toBe(2);
  }, 60_000);

  it('strangers on the migration socket are turned away, and the pair stays protected', async () => {
    const strangers = [
      '160301020001000001fc0303',
      '0000000100000000',
      '47455420',
      'ff'.repeat(100_000),
      '5145564d',
    ];
    for (const hex of strangers) {
      await new Promise<void>((resolve) => {
        const socket = connect(join(folder, 'migrate.sock'));
        socket.on('error', () => undefined);
        socket.on('close', () => resolve());
        socket.resume();
        socket.write(Buffer.from(hex, 'hex'));
      });
    }
    const refusals = () => proxy.lines.filter((line) => line.code === 'COLO_ERR_PROTOCOL_WORD');
    // a stranger sees its socket closed before the log tells of it
    await proxy.until('a line for each', () => refusals().length >= strangers.length);
    expect(refusals()).toHaveLength(strangers.length);
    for (const { msg } of refusals())
      expect(msg).toMatch(/was turned away: a migration is under COLO already/);
    expect(await checkpoint()).toMatchObject({ code: 0 });
    expect((await status())?.state).toMatch(/protected|checkpointing/);
  }, 60_000);
});
