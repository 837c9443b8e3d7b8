/** Both driven ends through the real relay, in every dialect, and the hostile sizes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Relay } from '../../../src/checkpoint/relay.js';
import { type Dialect, encodeWord } from '../../../src/protocol/dialect.js';
import { DIALECTS, type DialectChoice } from '../../../src/protocol/dialects.js';
import { DrivenPrimary, DrivenSecondary } from '../../../src/protocol/drive.js';
import { compareState, stateChunk } from '../../../src/protocol/state-pattern.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import type { Address, ChannelServer, DuplexChannel } from '../../../src/system/channel.js';
import { realClock } from '../../../src/system/clock.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { memoryChannelPair } from '../../../src/system/memory-channel.js';
import { streamTransport } from '../../../src/system/stream-channel.js';
import { run } from './scripted-peer.js';

let folder: string;
let relay: Relay;
let server: ChannelServer;
let events: string[];

beforeEach(() => {
  folder = mkdtempSync('/tmp/colo-drive-');
  events = [];
});

afterEach(async () => {
  await relay?.stop();
  await server?.close();
  rmSync(folder, { recursive: true });
});

/** A relay between a secondary that serves and a primary that is returned. */
async function driven(
  kind: 'unix' | 'tcp',
  dialect: Dialect,
  choice: DialectChoice = dialect,
): Promise<{ primary: DrivenPrimary; secondary: () => DrivenSecondary; served: () => Promise<string> }> {
  const address = (name: string): Address =>
    kind === 'unix' ? { unix: join(folder, name) } : { tcp: '127.0.0.1', port: 0 };
  const common = { dialect, clock: realClock, waitMsMax: 20_000 };
  let secondary: DrivenSecondary;
  let served: Promise<string> = Promise.resolve('never');
  server = await streamTransport.listen(address('s'), (channel: DuplexChannel) => {
    secondary = new DrivenSecondary({ ...common, channel });
    served = secondary.serve().then(
      () => 'guest shut down',
      (error: { code: string }) => error.code,
    );
  });
  relay = new Relay({
    listen: address('p'),
    connect: server.address,
    clock: realClock,
    dialect: choice,
    onWord: (_direction, word) => void events.push(word),
    onChannel: (event) => events.push(event),
    onDialect: (name) => events.push(`speaks ${name}`),
    onViolation: (error) => events.push(error.message),
  });
  await relay.start();
  const primary = new DrivenPrimary({ ...common, channel: await streamTransport.connect(relay.address) });
  return { primary, secondary: () => secondary, served: () => served };
}

const WORDS = [
  'checkpoint-request',
  'checkpoint-reply',
  'vmstate-send',
  'vmstate-received',
  'vmstate-loaded',
];

describe.each(Object.values(DIALECTS))('$name', (dialect) => {
  it('from nothing to megabytes of state, each byte checked', async () => {
    const { primary, secondary, served } = await driven('unix', dialect);
    await primary.migrate(3_000_001);
    for (const [ramBytes, deviceBytes] of [
      [0, 0],
      [1, 1],
      [4_000_003, 100_001],
    ] as const) {
      await primary.checkpoint({ ramBytes, deviceBytes });
    }
    expect(events).toEqual(['opened', 'checkpoint-ready', 'colo', ...WORDS, ...WORDS, ...WORDS]);
    expect(secondary().checkpoints).toBe(3);
    expect(secondary().stateBytes).toBe(3_000_001 + 2 + 4_100_004);
    if (dialect.codes[SyncPoint.GUEST_SHUTDOWN] !== undefined) {
      await primary.shutDownGuest();
      expect(await served()).toBe('guest shut down');
      secondary().close();
    }
    primary.close();
  });

  it('a state of 2^63 bytes is refused, not allocated', async () => {
    const clock = new ManualClock();
    const [near, far] = memoryChannelPair(clock);
    const secondary = new DrivenSecondary({ channel: far, dialect, clock, waitMsMax: 1000 });
    const served = secondary.serve().catch((error: { message: string }) => error.message);
    near.attach({
      data: () => undefined,
      ended: () => undefined,
      drained: () => undefined,
      closed: () => undefined,
    });
    near.write(Buffer.from('5145564d00000003000000000000000000', 'hex'));
    await run(clock);
    near.write(encodeWord(dialect, SyncPoint.REQUEST));
    await run(clock);
    const isSized = dialect.codes[SyncPoint.SIZE] !== undefined;
    near.write(encodeWord(dialect, SyncPoint.SEND, ...(isSized ? [] : [2n ** 63n])));
    if (isSized) {
      near.write(Buffer.alloc(9));
      near.write(encodeWord(dialect, SyncPoint.SIZE, 2n ** 63n));
    }
    await run(clock);
    expect(await served).toBe('a state of 9223372036854775808 bytes');
  });

  it('one byte a second: the wait ends in time', async () => {
    const clock = new ManualClock();
    const [near, far] = memoryChannelPair(clock);
    const secondary = new DrivenSecondary({ channel: far, dialect, clock, waitMsMax: 3000 });
    const served = secondary.serve().catch((error: { code: string }) => error.code);
    near.attach({
      data: () => undefined,
      ended: () => undefined,
      drained: () => undefined,
      closed: () => undefined,
    });
    for (let second = 0; second < 5; second++) {
      near.write(Buffer.from([0x51]));
      await run(clock, 1000);
    }
    expect(await served).toBe('COLO_ERR_PHASE_LIMIT');
  });
});

it('a state of 192 MiB is streamed: memory does not grow with it', async () => {
  const { primary, secondary } = await driven('unix', DIALECTS.upstream);
  await primary.migrate(8_000_000); // what the first bytes need is there then
  const before = process.memoryUsage().rss;
  let most = before;
  const looking = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss);
  }, 5);
  const ramBytes = 192 * 1024 * 1024;
  await primary.checkpoint({ ramBytes, deviceBytes: 5 });
  clearInterval(looking);
  expect(secondary().stateBytes).toBe(8_000_000 + ramBytes + 5);
  expect(most - before).toBeLessThan(96 * 1024 * 1024);
  primary.close();
});

describe('auto', () => {
  it.each(['upstream', 'v8'] as const)('finds %s through sockets', async (name) => {
    for (const kind of ['unix', 'tcp'] as const) {
      events.length = 0;
      const { primary } = await driven(kind, DIALECTS[name], 'auto');
      await primary.migrate(1000);
      await primary.checkpoint({ ramBytes: 10_000, deviceBytes: 100 });
      expect(events.filter((event) => event.startsWith('speaks'))).toEqual([`speaks ${name}`]);
      expect(relay.dialect).toBe(name);
      primary.close();
      await relay.stop();
      await server.close();
    }
  });
});

describe('the made-up state', () => {
  it('is known at every byte, and one that is wrong is found', () => {
    for (const position of [0, 1, 1_048_570, 5_000_000_000]) {
      const bytes = Buffer.from(stateChunk(position, 1000));
      expect(compareState(bytes, position)).toBe(-1);
      bytes[777]! ^= 1;
      expect(compareState(bytes, position)).toBe(777);
    }
  });
});
