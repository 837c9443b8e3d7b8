import { beforeEach, describe, expect, it } from 'vitest';
import { type ChannelEvent, Relay, type RelayLimits } from '../../../src/checkpoint/relay.js';
import type { ColoError } from '../../../src/errors.js';
import type { Dialect } from '../../../src/protocol/dialect.js';
import { upstreamDialect } from '../../../src/protocol/dialect-upstream.js';
import { v8Dialect } from '../../../src/protocol/dialects-early.js';
import type { SyncPoint } from '../../../src/protocol/sync-point.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { run, ScriptedPeer } from './scripted-peer.js';

const LISTEN = { unix: '/relay' };
const SECONDARY = { unix: '/secondary' };
/** What QEMU's migration stream begins with. */
const MAGIC = Buffer.from('QEVM');

let clock: ManualClock;
let transport: MemoryTransport;
let relay: Relay;
let events: string[];
let violations: ColoError[];
let secondaries: ScriptedPeer[];
/** Words in this list are held until `letGo` is called. */
let held: SyncPoint[];
let letGo: Array<() => void>;
let refuse: Error | undefined;

async function startRelay(
  limits: Partial<RelayLimits> = {},
  dialect: Dialect = upstreamDialect,
): Promise<void> {
  relay = new Relay({
    listen: LISTEN,
    connect: SECONDARY,
    clock,
    transport,
    dialect,
    limits,
    onWord: (_direction, word) => {
      events.push(word);
      if (refuse !== undefined) return Promise.reject(refuse);
      if (held.includes(word)) return new Promise((resolve) => letGo.push(resolve));
      return undefined;
    },
    onChannel: (event: ChannelEvent, detail) => events.push(event === 'closed' ? `closed: ${detail}` : event),
    onViolation: (error) => violations.push(error),
  });
  await relay.start();
}

async function connect(): Promise<ScriptedPeer> {
  const pending = transport.connect(LISTEN);
  await run(clock);
  const peer = new ScriptedPeer(await pending);
  peer.channel.write(MAGIC);
  await run(clock);
  secondaries.at(-1)?.take();
  return peer;
}

/** A connected pair that has passed READY. */
async function coupled(): Promise<[ScriptedPeer, ScriptedPeer]> {
  const primary = await connect();
  const secondary = secondaries.at(-1)!;
  secondary.say(0);
  await run(clock);
  expect(primary.take()).toBe('00000000');
  events.length = 0;
  return [primary, secondary];
}

/** A pair in mid-checkpoint: SEND and `ram` have passed. */
async function sending(): Promise<[ScriptedPeer, ScriptedPeer]> {
  const [primary, secondary] = await coupled();
  primary.say(1);
  await run(clock);
  secondary.say(2);
  await run(clock);
  primary.say(3, 0x52414d21);
  await run(clock);
  primary.take();
  secondary.take();
  events.length = 0;
  return [primary, secondary];
}

beforeEach(async () => {
  clock = new ManualClock();
  transport = new MemoryTransport(clock);
  events = [];
  violations = [];
  secondaries = [];
  held = [];
  letGo = [];
  refuse = undefined;
  await transport.listen(SECONDARY, (channel) => secondaries.push(new ScriptedPeer(channel)));
});

describe('a migration through the relay', () => {
  it('passes every byte and shows every word, with return-path messages before READY', async () => {
    await startRelay();
    const primary = await connect();
    const [secondary] = secondaries;
    primary.channel.write(Buffer.from('initial stream'));
    secondary!.channel.write(Buffer.from('0002000400000001' + '0001000400000000' + '00000000', 'hex'));
    await run(clock);
    expect(secondary!.take()).toBe(Buffer.from('initial stream').toString('hex'));
    expect(primary.take()).toBe('00020004000000010001000400000000' + '00000000');
    for (let round = 0; round < 3; round++) {
      primary.say(1);
      await run(clock);
      secondary!.say(2);
      await run(clock);
      primary.say(3, 1, 2, 0xffffffff, 4, 0, 0);
      await run(clock);
      secondary!.say(5);
      secondary!.say(6);
      await run(clock);
      expect(secondary!.take()).toBe(
        '00000001' + '00000003' + '0000000100000002ffffffff000000040000000000000000',
      );
      expect(primary.take()).toBe('00000002' + '00000005' + '00000006');
    }
    const words = [
      'checkpoint-request',
      'checkpoint-reply',
      'vmstate-send',
      'vmstate-received',
      'vmstate-loaded',
    ];
    expect(events).toEqual(['opened', 'checkpoint-ready', 'colo', ...words, ...words, ...words]);
    expect(violations).toEqual([]);
    expect(relay.counters).toMatchObject({ words: 16, violations: 0, refused: 0, primaryBytes: 18 + 3 * 32 });
  });

  it('works byte by byte', async () => {
    await startRelay();
    const [primary, secondary] = await coupled();
    for (const byte of [0, 0, 0, 1]) primary.channel.write(Buffer.from([byte]));
    await run(clock);
    for (const byte of [0, 0, 0, 2]) secondary.channel.write(Buffer.from([byte]));
    await run(clock);
    expect(events).toEqual(['checkpoint-request', 'checkpoint-reply']);
    expect(primary.take()).toBe('00000002');
  });

  it('holds a word and what follows it, and not the other direction', async () => {
    await startRelay();
    const [primary, secondary] = await sending();
    held = ['vmstate-received'];
    secondary.say(5, 6);
    await run(clock);
    expect(primary.take(), 'RECEIVED is held, LOADED waits behind it').toBe('');
    primary.say(0xabababab);
    await run(clock);
    expect(secondary.take(), 'the primary is not blocked').toBe('abababab');
    letGo[0]!();
    await run(clock);
    expect(primary.take()).toBe('0000000500000006');
    expect(events).toEqual(['vmstate-received', 'vmstate-loaded']);
  });

  it('joins several connections in order; the one where the secondary speaks is the control channel', async () => {
    await startRelay();
    const primaries = [await connect(), await connect(), await connect()];
    for (const [index, primary] of primaries.entries()) primary.say(0x1000 + index);
    await run(clock);
    expect(secondaries.map((peer) => peer.take())).toEqual(['00001000', '00001001', '00001002']);
    secondaries[2]!.say(0);
    await run(clock);
    primaries[2]!.say(1);
    primaries[0]!.say(1, 2, 3);
    await run(clock);
    expect(events).toEqual(['opened', 'checkpoint-ready', 'colo', 'checkpoint-request']);
    expect(secondaries[0]!.take()).toBe('000000010000000200000003');
    expect(violations).toEqual([]);
  });
});

describe('what is refused', () => {
  it('a second migration while one runs; the next after it was closed', async () => {
    await startRelay();
    await coupled();
    const second = await connect();
    expect(second.ended).toBe(true);
    expect(relay.counters.refused).toBe(1);
    expect(violations.map((error) => error.message)).toEqual([expect.stringMatching(/under COLO already/)]);
    expect(events).toEqual([]);
    relay.closeChannel();
    await run(clock);
    expect(events).toEqual(['closed: closed by the proxy']);
    await coupled();
  });

  it('more connections than one migration may have', async () => {
    await startRelay({ connectionsMax: 2 });
    const primaries = [await connect(), await connect(), await connect()];
    expect(primaries.map((peer) => peer.ended)).toEqual([false, false, true]);
  });

  it.each([
    ['a TLS client', Buffer.from('160301020001', 'hex'), /began with 0x16030102, not as a migration/],
    ['an HTTP client', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /began with 0x47455420/],
    ['v9 words', Buffer.from('0000000100000000', 'hex'), /began with 0x00000001/],
    ['one that says three bytes', Buffer.from('QEV'), /it said nothing/],
  ])('%s, before the secondary is used up', async (_name, bytes, why) => {
    await startRelay({ startMsMax: 1000 });
    const stranger = new ScriptedPeer(
      await Promise.all([transport.connect(LISTEN), run(clock)]).then(([c]) => c),
    );
    for (const byte of bytes) stranger.channel.write(Buffer.from([byte]));
    await run(clock, 1001);
    expect(stranger.ended).toBe(true);
    expect(violations.map((error) => error.message)).toEqual([expect.stringMatching(why)]);
    expect([events, secondaries]).toEqual([[], []]);
    await coupled();
  });

  it('a flood of connections that say nothing, while a migration behind them waits its turn', async () => {
    await startRelay({ startMsMax: 1000, connectionsMax: 8 });
    const strangers: ScriptedPeer[] = [];
    for (let index = 0; index < 20; index++) {
      const pending = transport.connect(LISTEN);
      await run(clock);
      strangers.push(new ScriptedPeer(await pending));
    }
    await run(clock);
    expect(strangers.filter((peer) => peer.ended)).toHaveLength(12);
    await run(clock, 1001);
    expect(strangers.every((peer) => peer.ended)).toBe(true);
    expect(relay.counters.refused).toBe(20);
    await coupled();
  });

  it('a primary whose secondary cannot be reached', async () => {
    transport = new MemoryTransport(clock);
    await startRelay();
    const primary = await connect();
    expect(primary.ended).toBe(true);
    expect(events[0]).toBe('opened');
    expect(events[1]).toMatch(/^closed: .*unix:\/secondary.*ECONNREFUSED/);
  });

  it.each([
    ['an unknown word of the secondary', (_p: ScriptedPeer, s: ScriptedPeer) => s.say(0x16030102)],
    ['a word out of order of the secondary', (_p: ScriptedPeer, s: ScriptedPeer) => s.say(6)],
    ['an unknown word of the primary', (p: ScriptedPeer) => p.say(7)],
    ['a word out of order of the primary', (p: ScriptedPeer) => p.say(3)],
  ])('%s: told, not forwarded, closed, and the relay serves on', async (_name, speak) => {
    await startRelay();
    const [primary, secondary] = await coupled();
    speak(primary, secondary);
    await run(clock, 1000);
    expect(violations.map((error) => error.code)).toEqual(['COLO_ERR_PROTOCOL_WORD']);
    expect(events).toHaveLength(1);
    expect(events[0]).toMatch(/^closed: /);
    expect([primary.take(), secondary.take()]).toEqual(['', '']);
    expect([primary.ended, secondary.ended]).toEqual([true, true]);
    await coupled();
  });

  it('a secondary that speaks on two connections', async () => {
    await startRelay();
    await connect();
    await connect();
    secondaries[0]!.say(0x00020000);
    await run(clock);
    secondaries[1]!.say(0x00020000);
    await run(clock);
    expect(violations).toHaveLength(1);
  });

  it('an upstream pair where v8 is configured: said long before the initial copy would be given up', async () => {
    await startRelay({ wordMsMax: 1000 }, v8Dialect);
    const primary = await connect();
    secondaries[0]!.say(0);
    await run(clock, 999);
    expect(violations).toEqual([]);
    await run(clock, 2);
    expect(violations.map((error) => error.message)).toEqual([
      'secondary-to-primary: got 0x00000000 and no more (another dialect?), expected checkpoint-ready in state starting',
    ]);
    expect(primary.ended).toBe(true);
  });

  it('one byte a second in the middle of a word', async () => {
    await startRelay({ wordMsMax: 1500 });
    const [primary, secondary] = await coupled();
    for (const byte of [0, 0, 0]) {
      primary.channel.write(Buffer.from([byte]));
      await run(clock, 1000);
    }
    expect(violations.map((error) => error.message)).toEqual([
      expect.stringMatching(/got 0x0000 and no more/),
    ]);
    expect(secondary.take()).toBe('');
    await coupled();
  });

  it('but not a word that is held, nor the part of one that came behind it', async () => {
    await startRelay({ wordMsMax: 100 });
    const [primary, secondary] = await coupled();
    held.push('checkpoint-request');
    primary.channel.write(Buffer.from('00000001' + '0000', 'hex'));
    await run(clock, 5000);
    expect(violations).toEqual([]);
    letGo[0]!();
    await run(clock, 50);
    expect(secondary.take()).toBe('00000001');
    primary.channel.write(Buffer.from([0, 3]));
    await run(clock, 50);
    expect(violations[0]?.message).toMatch(/got vmstate-send, expected nothing/);
  });

  it('a word that onWord rejects', async () => {
    await startRelay();
    const [primary, secondary] = await coupled();
    refuse = new Error('the data plane is gone');
    primary.say(1);
    await run(clock);
    expect(violations[0]?.message).toMatch(/the data plane is gone/);
    expect(secondary.take()).toBe('');
    expect(events.at(-1)).toMatch(/^closed/);
  });
});

describe('when a side is lost', () => {
  it('before READY: named as no COLO', async () => {
    await startRelay();
    const primary = await connect();
    primary.channel.end();
    await run(clock);
    expect(events.at(-1)).toMatch(/^closed: primary side: .*before COLO began/);
    expect(secondaries[0]!.ended).toBe(true);
  });

  it.each(['primary', 'secondary'] as const)(
    'the %s while running: closed, and the other is told',
    async (side) => {
      await startRelay();
      const [primary, secondary] = await coupled();
      const [dead, other] = side === 'primary' ? [primary, secondary] : [secondary, primary];
      dead.channel.destroy();
      await run(clock);
      expect(events).toEqual([`closed: ${side} side: closed by the peer`]);
      expect(other.ended).toBe(true);
    },
  );

  it('in mid-word: says so', async () => {
    await startRelay();
    const [primary] = await coupled();
    primary.channel.write(Buffer.from([0, 0]));
    primary.channel.end();
    await run(clock);
    expect(events).toEqual(['closed: primary side: closed in mid-word']);
  });

  it('the secondary after LOADED: the held word still arrives', async () => {
    await startRelay();
    const [primary, secondary] = await sending();
    held = ['vmstate-loaded'];
    secondary.say(5, 6);
    secondary.channel.end();
    await run(clock);
    expect(events).toEqual(['vmstate-received', 'vmstate-loaded']);
    letGo[0]!();
    await run(clock);
    expect(primary.take()).toBe('0000000500000006');
    expect(events.at(-1)).toBe('closed: secondary side: closed by the peer');
  });

  it('the primary after SEND: the secondary may finish loading', async () => {
    await startRelay();
    const [primary, secondary] = await sending();
    primary.channel.destroy();
    await run(clock);
    expect(events).toEqual(['primary-lost']);
    expect(secondary.ended, 'it learns that no more state comes').toBe(true);
    secondary.say(5);
    await run(clock);
    secondary.say(6);
    await run(clock);
    expect(events.slice(0, 3)).toEqual(['primary-lost', 'vmstate-received', 'vmstate-loaded']);
    expect(events[3]).toMatch(/^closed: the primary was lost; the secondary has loaded/);
  });

  it('the primary between RECEIVED and LOADED, with LOADED held', async () => {
    await startRelay();
    const [primary, secondary] = await sending();
    held = ['vmstate-loaded'];
    secondary.say(5, 6);
    await run(clock);
    primary.channel.destroy();
    await run(clock);
    expect(events).toEqual(['vmstate-received', 'vmstate-loaded', 'primary-lost']);
    letGo[0]!();
    await run(clock);
    expect(events.at(-1)).toMatch(/^closed: the primary was lost; the secondary has loaded/);
  });

  it('the primary after SEND, and a secondary that gives up or says nothing', async () => {
    await startRelay({ orphanMsMax: 300 });
    const [primary, secondary] = await sending();
    primary.channel.destroy();
    await run(clock, 299);
    expect(events).toEqual(['primary-lost']);
    await run(clock, 2);
    expect(events.at(-1)).toMatch(/^closed: .*did not finish loading in time/);
    expect(secondary.closed || secondary.ended).toBe(true);

    const [again, other] = await sending();
    again.channel.destroy();
    await run(clock);
    other.channel.end();
    await run(clock);
    expect(events).toEqual(['primary-lost', 'closed: secondary side: closed by the peer']);
  });

  it('to COLO_EXIT: what the secondary had said counts, then it is taken as gone', async () => {
    await startRelay({ leaveMs: 20 });
    const [primary, secondary] = await sending();
    held = ['vmstate-received'];
    primary.channel.destroy();
    secondary.say(5);
    secondary.say(6);
    await run(clock);
    relay.leave('secondary');
    await run(clock, 500);
    expect(events, 'a held word is waited for').toEqual(['primary-lost', 'vmstate-received']);
    letGo[0]!();
    await run(clock, 50);
    expect(events[2]).toBe('vmstate-loaded');
    expect(events[3]).toMatch(/^closed: the primary was lost; the secondary has loaded/);

    await sending();
    relay.leave('secondary');
    await run(clock, 19);
    expect(events).toEqual([]);
    await run(clock, 2);
    expect(events).toEqual(['closed: secondary side: closed by the peer']);
  });

  it('cut off on request', async () => {
    await startRelay();
    const [primary, secondary] = await coupled();
    relay.closeChannel('secondary');
    await run(clock);
    expect([primary.ended, secondary.ended]).toEqual([true, true]);
    expect(events).toHaveLength(1);
  });

  it('nothing stays open after stop', async () => {
    await startRelay();
    const [primary, secondary] = await coupled();
    await relay.stop();
    await run(clock, 1000);
    expect([primary.ended, secondary.ended]).toEqual([true, true]);
    await expect(Promise.all([transport.connect(LISTEN), run(clock)])).rejects.toThrow('ECONNREFUSED');
  });
});
