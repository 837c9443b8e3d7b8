import { beforeEach, describe, expect, it } from 'vitest';
import { QmpClient, type QmpClientLimits } from '../../../src/qmp/client.js';
import * as commands from '../../../src/qmp/commands.js';
import type { ChannelServer, DuplexChannel } from '../../../src/system/channel.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { run } from '../checkpoint/scripted-peer.js';
import { type Command, FakeMonitor, GREETING } from './fake-qemu.js';

const ADDRESS = { unix: '/vm.qmp' };

let clock: ManualClock;
let transport: MemoryTransport;
let server: ChannelServer;
let monitors: FakeMonitor[];
let log: string[];
let client: QmpClient;
let accept: (channel: DuplexChannel) => void;

const limits: Partial<QmpClientLimits> = {
  lineBytesMax: 10_000,
  commandsMax: 4,
  commandMsMax: 5000,
  greetingMsMax: 3000,
  reconnectMsMin: 100,
  reconnectMsMax: 1000,
  probeMsMax: 700,
};

beforeEach(async () => {
  clock = new ManualClock();
  transport = new MemoryTransport(clock);
  monitors = [];
  log = [];
  accept = (channel) => monitors.push(new FakeMonitor(channel));
  await listen();
  client = new QmpClient({
    address: ADDRESS,
    clock,
    transport,
    limits,
    handlers: {
      connected: ({ version }) => log.push(`connected ${version.major}.${version.minor}`),
      event: (name, data, timestampMs) => log.push(`${name} ${JSON.stringify(data)} ${timestampMs}`),
      closed: (reason) => log.push(`closed ${reason.code} ${reason.message}`),
      refused: () => log.push('refused'),
    },
  });
});

async function listen(): Promise<void> {
  server = await transport.listen(ADDRESS, (channel) => accept(channel));
}

async function connected(): Promise<FakeMonitor> {
  client.start();
  await run(clock);
  expect(client.state).toBe('ready');
  log.length = 0;
  return monitors.at(-1)!;
}

/** Settled within `durationMs`: the value, or the error's code and message. */
async function outcome(promise: Promise<unknown>, durationMs = 0): Promise<unknown> {
  const settled = promise.catch(
    (error: { code: string; message: string }) => `${error.code} ${error.message}`,
  );
  let result: unknown = 'pending';
  void settled.then((value) => {
    result = value;
  });
  await run(clock, durationMs);
  return result;
}

describe('connecting', () => {
  it('greets, takes out-of-band where offered and parses the version', async () => {
    client.start();
    await run(clock);
    expect(log).toEqual(['connected 7.2']);
    expect(client.greeting).toEqual({
      version: { major: 7, minor: 2, micro: 22, package: 'Debian 1:7.2' },
      outOfBand: true,
    });
    expect(monitors[0]!.commands[0]).toMatchObject({
      execute: 'qmp_capabilities',
      arguments: { enable: ['oob'] },
    });
  });

  it('waits for a VM that is not there yet, with growing pauses, for ever', async () => {
    await server.close();
    client.start();
    await run(clock, 60_000);
    expect([client.state, log]).toEqual(['waiting', []]);
    expect(client.problem).toMatch(/unix:\/vm.qmp.*ECONNREFUSED/);
    await listen();
    await run(clock, 1001);
    expect([client.state, client.problem]).toEqual(['ready', '']);
  });

  it('gives up a monitor that says nothing (it serves another client) and comes back', async () => {
    accept = (channel) => monitors.push(new FakeMonitor(channel, null));
    client.start();
    await run(clock, 3001);
    expect([client.state, monitors[0]!.closed]).toEqual(['waiting', true]);
    accept = (channel) => monitors.push(new FakeMonitor(channel));
    await run(clock, 2000);
    expect(client.state).toBe('ready');
  });

  it.each([
    ['garbage', (monitor: FakeMonitor) => monitor.raw('SSH-2.0-OpenSSH_9.2\r\n')],
    ['JSON that is no greeting', (monitor: FakeMonitor) => monitor.say({ hello: 1 })],
    ['a greeting without a version', (monitor: FakeMonitor) => monitor.say({ QMP: {} })],
    ['a line without end', (monitor: FakeMonitor) => monitor.raw('x'.repeat(10_001))],
    [
      'half a greeting',
      (monitor: FakeMonitor) => {
        monitor.raw('{"QMP": {"ver');
        monitor.channel.end();
      },
    ],
    ['nothing and closes', (monitor: FakeMonitor) => monitor.channel.destroy()],
  ])('survives %s', async (_name, speak) => {
    accept = (channel) => {
      const monitor = new FakeMonitor(channel, null);
      monitors.push(monitor);
      speak(monitor);
    };
    client.start();
    await run(clock, 5000);
    expect(client.state).not.toBe('ready');
    expect(monitors.length).toBeGreaterThan(2);
    expect(monitors.length, 'it does not hammer').toBeLessThan(20);
    expect(log).toEqual([]);
    accept = (channel) => monitors.push(new FakeMonitor(channel));
    await run(clock, 2000);
    expect(client.state).toBe('ready');
  });
});

describe('commands', () => {
  it('return what QEMU returns, events interleaved, answers in any order', async () => {
    const monitor = await connected();
    monitor.answer = () => undefined;
    const first = client.execute('query-status');
    const second = client.execute('query-version');
    await run(clock);
    const [, one, two] = monitor.commands as [Command, Command, Command];
    monitor.say({ return: { two: 2 }, id: two.id });
    monitor.say({ event: 'STOP', timestamp: { seconds: 1700000000, microseconds: 250_000 } });
    monitor.say({ event: 'COLO_EXIT', data: { mode: 'primary', reason: 'error' } });
    monitor.say({ return: { one: 1 }, id: one.id });
    expect(await outcome(first)).toEqual({ one: 1 });
    expect(await outcome(second)).toEqual({ two: 2 });
    expect(log).toEqual(['STOP {} 1700000000250', 'COLO_EXIT {"mode":"primary","reason":"error"} 0']);
  });

  it('reject with the class and description of QEMU', async () => {
    const monitor = await connected();
    monitor.answer = () => ({ error: { class: 'GenericError', desc: "The feature 'colo' is not enabled" } });
    expect(await outcome(client.execute('x-colo-lost-heartbeat'))).toBe(
      "COLO_ERR_QMP_COMMAND x-colo-lost-heartbeat: GenericError: The feature 'colo' is not enabled",
    );
    monitor.answer = () => ({ error: 'nonsense' });
    expect(await outcome(client.execute('cont'))).toMatch(/^COLO_ERR_QMP_COMMAND cont: error/);
  });

  it('time out; a late answer is ignored', async () => {
    const monitor = await connected();
    monitor.answer = () => undefined;
    expect(await outcome(client.execute('migrate', { uri: 'x' }, { timeoutMs: 200 }), 201)).toBe(
      'COLO_ERR_QMP_TIMEOUT migrate: no answer within 200 ms',
    );
    monitor.say({ return: {}, id: monitor.commands[1]!.id });
    monitor.say({ return: {}, id: 'never asked' });
    monitor.say({ return: {} });
    monitor.say({ error: { class: 'GenericError', desc: 'no id' } });
    monitor.answer = () => ({ return: { running: true, status: 'running' } });
    expect(await outcome(commands.queryStatus(client))).toEqual({ running: true, status: 'running' });
    expect(log).toEqual([]);
  });

  it('are bounded in number', async () => {
    const monitor = await connected();
    monitor.answer = () => undefined;
    const waiting = [1, 2, 3, 4].map(() => client.execute('query-status').catch(() => 'rejected'));
    expect(await outcome(client.execute('query-status'))).toMatch(/^COLO_ERR_QMP_TIMEOUT .*4 commands wait/);
    client.stop();
    expect(await Promise.all(waiting)).toEqual(Array(4).fill('rejected'));
  });

  it('are refused while not connected and rejected when the connection is lost', async () => {
    expect(await outcome(client.execute('cont'))).toMatch(/^COLO_ERR_QMP_CONNECT/);
    const monitor = await connected();
    monitor.answer = () => undefined;
    const waiting = client.execute('query-status');
    await run(clock);
    monitor.channel.destroy();
    expect(await outcome(waiting)).toMatch(/^COLO_ERR_QMP_CONNECT query-status: QEMU closed/);
  });

  it('go out of band where offered, in band where not', async () => {
    const monitor = await connected();
    await outcome(commands.yankMigration(client));
    expect(monitor.commands.at(-1)).toMatchObject({
      'exec-oob': 'yank',
      arguments: { instances: [{ type: 'migration' }] },
    });
    accept = (channel) =>
      monitors.push(new FakeMonitor(channel, { QMP: { ...GREETING.QMP, capabilities: [] } }));
    monitor.channel.destroy();
    await run(clock, 10);
    await outcome(commands.yankMigration(client));
    expect(monitors.at(-1)!.commands.at(-1)).toMatchObject({ execute: 'yank' });
  });

  it('are sent as QEMU wants them', async () => {
    const monitor = await connected();
    await outcome(commands.setCapabilities(client, { 'x-colo': true, 'return-path': true }));
    await outcome(commands.triggerCheckpoint(client));
    await outcome(commands.setParameters(client, { 'max-bandwidth': 1_073_741_824 }));
    await outcome(commands.migrate(client, 'unix:/run/m.sock'));
    await outcome(commands.migrateIncoming(client, 'unix:/run/i.sock'));
    for (const command of [commands.xColoLostHeartbeat, commands.cont, commands.quit])
      await outcome(command(client));
    expect(monitor.commands.slice(1).map(({ execute, arguments: args }) => [execute, args])).toEqual([
      [
        'migrate-set-capabilities',
        {
          capabilities: [
            { capability: 'x-colo', state: true },
            { capability: 'return-path', state: true },
          ],
        },
      ],
      ['migrate-set-parameters', { 'x-checkpoint-delay': 4294967295 }],
      ['migrate-set-parameters', { 'max-bandwidth': 1073741824 }],
      ['migrate', { uri: 'unix:/run/m.sock' }],
      ['migrate-incoming', { uri: 'unix:/run/i.sock' }],
      ['x-colo-lost-heartbeat', undefined],
      ['cont', undefined],
      ['quit', undefined],
    ]);
  });

  it('check what they get', async () => {
    const monitor = await connected();
    monitor.answer = ({ execute }) => ({
      return:
        execute === 'query-version'
          ? GREETING.QMP.version
          : { status: 'colo', mode: 'primary', 'last-mode': 'none', reason: 'request' },
    });
    expect(await outcome(commands.queryVersion(client))).toMatchObject({ major: 7, minor: 2, micro: 22 });
    expect(await outcome(commands.queryMigrate(client))).toMatchObject({ status: 'colo', errorText: '' });
    expect(await outcome(commands.queryColoStatus(client))).toEqual({
      mode: 'primary',
      lastMode: 'none',
      reason: 'request',
    });
    monitor.answer = () => ({ return: [1, 2] });
    for (const query of [
      commands.queryVersion,
      commands.queryStatus,
      commands.queryMigrate,
      commands.queryColoStatus,
    ]) {
      expect(await outcome(query(client))).toMatch(/^COLO_ERR_QMP_PROTOCOL/);
    }
  });
});

describe('a lost connection', () => {
  it('of a live QEMU is made anew at once', async () => {
    const monitor = await connected();
    monitor.channel.destroy();
    await run(clock, 1);
    expect(log).toEqual(['closed COLO_ERR_QMP_CONNECT QEMU closed the monitor connection', 'connected 7.2']);
  });

  it('in mid-line says so', async () => {
    const monitor = await connected();
    monitor.raw('{"return": {');
    monitor.channel.end();
    await run(clock);
    expect(log[0]).toMatch(/^closed COLO_ERR_QMP_CONNECT .* in mid-line/);
  });

  it('by nonsense in mid-session is dropped and made anew', async () => {
    const monitor = await connected();
    monitor.raw('%$§\r\n');
    await run(clock, 1);
    expect(log[0]).toMatch(/^closed COLO_ERR_QMP_PROTOCOL/);
    expect(client.state).toBe('ready');
  });

  it('of a dead QEMU: the next attempt is refused, told once', async () => {
    const monitor = await connected();
    await server.close();
    monitor.channel.destroy();
    await run(clock, 30_000);
    expect(log).toEqual([expect.stringMatching(/^closed/), 'refused']);
    expect(await outcome(client.probe())).toBe('refused');
  });

  it('of a dying QEMU that still accepts for a moment: found dead all the same', async () => {
    const monitor = await connected();
    accept = (channel) => channel.destroy();
    monitor.channel.destroy();
    await run(clock, 20);
    expect(log).toHaveLength(1);
    await server.close();
    await run(clock, 20);
    expect(log).toEqual([expect.stringMatching(/^closed/), 'refused']);
  });

  it('of a QEMU that hangs: unknown, never called dead', async () => {
    const monitor = await connected();
    accept = (channel) => monitors.push(new FakeMonitor(channel, null));
    monitor.channel.destroy();
    await run(clock, 1);
    expect(await outcome(client.probe(), 701)).toBe('unknown');
    await run(clock, 20_000);
    expect(log).toHaveLength(1);
  });

  it('is probed as alive while connected, unknown when stopped', async () => {
    expect(await client.probe()).toBe('unknown');
    await connected();
    expect(await client.probe()).toBe('alive');
  });

  it('stays lost after stop', async () => {
    const monitor = await connected();
    client.stop();
    await run(clock, 5000);
    expect([monitor.closed, monitors.length, log]).toEqual([true, 1, []]);
    client.start();
    await run(clock);
    expect(client.state).toBe('ready');
  });
});
