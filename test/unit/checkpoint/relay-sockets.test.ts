import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Relay, type RelayOptions } from '../../../src/checkpoint/relay.js';
import { upstreamDialect } from '../../../src/protocol/dialect-upstream.js';
import type { Address, ChannelServer } from '../../../src/system/channel.js';
import { realClock } from '../../../src/system/clock.js';
import { streamTransport } from '../../../src/system/stream-channel.js';
import { ScriptedPeer, until } from './scripted-peer.js';

let folder: string;
let relays: Relay[];
let servers: ChannelServer[];
let secondaries: ScriptedPeer[];
let words: string[];

beforeEach(() => {
  folder = mkdtempSync('/tmp/colo-relay-');
  relays = [];
  servers = [];
  secondaries = [];
  words = [];
});

afterEach(async () => {
  for (const relay of relays) await relay.stop();
  for (const peer of secondaries) peer.channel.destroy();
  for (const server of servers) await server.close();
  rmSync(folder, { recursive: true });
});

async function startRelay(kind: 'unix' | 'tcp', options: Partial<RelayOptions> = {}): Promise<Relay> {
  const address = (name: string): Address =>
    kind === 'unix' ? { unix: join(folder, name) } : { tcp: '127.0.0.1', port: 0 };
  const server = await streamTransport.listen(address('incoming.sock'), (channel) =>
    secondaries.push(new ScriptedPeer(channel)),
  );
  servers.push(server);
  const relay = new Relay({
    listen: address('migrate.sock'),
    connect: server.address,
    clock: realClock,
    dialect: upstreamDialect,
    onWord: (_direction, word) => void words.push(word),
    onChannel: () => undefined,
    onViolation: (error) => words.push(error.code),
    ...options,
  });
  await relay.start();
  relays.push(relay);
  return relay;
}

async function connect(relay: Relay): Promise<[ScriptedPeer, ScriptedPeer]> {
  const before = secondaries.length;
  const primary = new ScriptedPeer(await streamTransport.connect(relay.address));
  primary.channel.write(Buffer.from('QEVM'));
  await until(() => secondaries.length > before && secondaries.at(-1)!.take() === '5145564d');
  return [primary, secondaries.at(-1)!];
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe.each(['unix', 'tcp'] as const)('over %s sockets', (kind) => {
  it('carries 8 MiB of state unchanged between held words', async () => {
    const relay = await startRelay(kind, {
      onWord: async (_direction, word) => {
        words.push(word);
        await new Promise((resolve) => setTimeout(resolve, 2));
      },
    });
    const [primary, secondary] = await connect(relay);
    const initial = randomBytes(3_000_001);
    const state = randomBytes(8 * 1024 * 1024 + 3);
    await primary.send(initial);
    await until(() => secondary.length === initial.length);
    secondary.say(0);
    await until(() => primary.take() === '00000000');
    primary.say(1);
    await until(() => secondary.length === initial.length + 4);
    secondary.say(2);
    await until(() => primary.take() === '00000002');
    primary.say(3);
    await primary.send(state);
    await until(() => secondary.length === initial.length + 8 + state.length);
    const got = secondary.bytes;
    expect(sha256(got.subarray(0, initial.length))).toBe(sha256(initial));
    expect(got.subarray(initial.length, initial.length + 8).toString('hex')).toBe('0000000100000003');
    expect(sha256(got.subarray(initial.length + 8))).toBe(sha256(state));
    secondary.say(5, 6);
    await until(() => primary.length === 8);
    expect(primary.take()).toBe('0000000500000006');
    expect(words).toHaveLength(6);
  });

  it('buffers nothing whole: a secondary that does not read stops the primary', async () => {
    const relay = await startRelay(kind);
    const [primary, secondary] = await connect(relay);
    secondary.channel.pause();
    const flood = Buffer.alloc(64 * 1024 * 1024);
    let sent = false;
    void primary.send(flood).then(() => {
      sent = true;
    });
    let before = -1;
    await until(() => {
      const now = relay.counters.primaryBytes;
      const still = now === before;
      before = now;
      return still && now > 0;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sent).toBe(false);
    expect(relay.counters.primaryBytes).toBeLessThan(flood.length / 2);
    secondary.channel.resume();
    await until(() => sent && secondary.length === flood.length);
  });

  it('changes no byte for a secondary that reads by fits and starts', async () => {
    const relay = await startRelay(kind);
    const [primary, secondary] = await connect(relay);
    const flood = randomBytes(24 * 1024 * 1024 + 5);
    let sent = false;
    void primary.send(flood, 300_007).then(() => {
      sent = true;
    });
    while (!sent) {
      secondary.channel.pause();
      await new Promise((resolve) => setTimeout(resolve, 3));
      secondary.channel.resume();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await until(() => secondary.length === flood.length);
    expect(sha256(secondary.bytes)).toBe(sha256(flood));
  });

  it('survives garbage and a peer that comes and goes', async () => {
    const relay = await startRelay(kind);
    for (let round = 0; round < 5; round++) {
      const [primary, secondary] = await connect(relay);
      await secondary.send(randomBytes(200_000)).catch(() => undefined);
      await until(() => words.includes('COLO_ERR_PROTOCOL_WORD') || primary.closed || primary.ended);
      primary.channel.destroy();
      secondary.channel.destroy();
      await until(() => primary.closed && secondary.closed);
      words.length = 0;
    }
    const [, secondary] = await connect(relay);
    secondary.say(0);
    await until(() => words.includes('checkpoint-ready'));
  });
});

describe('the socket file', () => {
  it('gets the mode asked for, and goes away at stop', async () => {
    const relay = await startRelay('unix', { socket: { mode: 0o660 } });
    const path = join(folder, 'migrate.sock');
    expect(statSync(path).mode & 0o777).toBe(0o660);
    await relay.stop();
    expect(existsSync(path)).toBe(false);
  });

  it('replaces a stale one, never one in use nor another kind of file', async () => {
    const path = join(folder, 'migrate.sock');
    const options = { listen: { unix: path } };
    // A process that dies leaves its file behind; renaming keeps close() from removing it.
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(`${path}.old`, resolve));
    renameSync(`${path}.old`, path);
    dead.close();
    const relay = await startRelay('unix', options);
    const another = (): Promise<void> =>
      new Relay({
        listen: { unix: path },
        connect: { unix: '/none' },
        clock: realClock,
        dialect: upstreamDialect,
        onWord: () => undefined,
        onChannel: () => undefined,
        onViolation: () => undefined,
      }).start();
    await expect(another()).rejects.toMatchObject({ code: 'COLO_ERR_MIGRATION_LISTEN' });
    await connect(relay);
    await relay.stop();
    writeFileSync(path, 'a file');
    await expect(another()).rejects.toMatchObject({ code: 'COLO_ERR_MIGRATION_LISTEN' });
    expect(existsSync(path)).toBe(true);
  });

  it('names an unknown group', async () => {
    await expect(startRelay('unix', { socket: { group: 'no-such-group' } })).rejects.toThrow(/no-such-group/);
  });
});
