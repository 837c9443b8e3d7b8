/** One checkpoint, cut, garbled and doubled at every byte of either direction: it ends, it is told, the next works. */
import { describe, expect, it } from 'vitest';
import { Relay } from '../../../src/checkpoint/relay.js';
import { upstreamDialect } from '../../../src/protocol/dialect-upstream.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { be32, run, ScriptedPeer } from './scripted-peer.js';

type Side = 'primary' | 'secondary';
const SCRIPT: Array<[Side, Buffer]> = [
  ['primary', Buffer.from('QEVM initial stream')],
  ['secondary', Buffer.concat([Buffer.from('0002000400000001', 'hex'), be32(0)])],
  ['primary', be32(1)],
  ['secondary', be32(2)],
  ['primary', Buffer.concat([be32(3), Buffer.from('ram'), be32(4, 0, 2), Buffer.from('dv')])],
  ['secondary', be32(5, 6)],
];
const total = (side: Side): number =>
  SCRIPT.reduce((sum, [from, bytes]) => sum + (from === side ? bytes.length : 0), 0);

async function world(): Promise<{
  clock: ManualClock;
  connect: () => Promise<Record<Side, ScriptedPeer>>;
  channel: string[];
  violations: string[];
}> {
  const clock = new ManualClock();
  const transport = new MemoryTransport(clock);
  const channel: string[] = [];
  const violations: string[] = [];
  const secondaries: ScriptedPeer[] = [];
  await transport.listen({ unix: '/s' }, (far) => secondaries.push(new ScriptedPeer(far)));
  const relay = new Relay({
    listen: { unix: '/p' },
    connect: { unix: '/s' },
    clock,
    transport,
    dialect: upstreamDialect,
    limits: { orphanMsMax: 1000 },
    onWord: () => undefined,
    onChannel: (event) => channel.push(event),
    onViolation: (error) => violations.push(error.code),
  });
  await relay.start();
  const connect = async (): Promise<Record<Side, ScriptedPeer>> => {
    const pending = transport.connect({ unix: '/p' });
    await run(clock);
    const primary = new ScriptedPeer(await pending);
    await run(clock);
    return { primary, secondary: secondaries.at(-1)! };
  };
  return { clock, connect, channel, violations };
}

/** Plays the script; byte `at` of `side` is changed by `fault`, which returns what to send, or null: die here. */
async function play(
  side: Side,
  at: number,
  fault: (bytes: Buffer, index: number) => Buffer | null,
): Promise<void> {
  const { clock, connect, channel, violations } = await world();
  const peers = await connect();
  let sent = 0;
  for (const [from, bytes] of SCRIPT) {
    const index = at - sent;
    let out: Buffer | null = bytes;
    if (from === side) {
      if (index >= 0 && index < bytes.length) out = fault(Buffer.from(bytes), index);
      sent += bytes.length;
    }
    if (out === null) {
      peers[from].channel.write(bytes.subarray(0, index));
      peers[from].channel.end();
      await run(clock);
      break;
    }
    peers[from].channel.write(out);
    await run(clock);
  }
  peers.primary.channel.end();
  await run(clock, 3000);
  expect(
    channel.filter((event) => event === 'closed'),
    'it ends, once',
  ).toHaveLength(1);
  expect(violations.length).toBeLessThanOrEqual(1);
  expect(peers.secondary.ended && (peers.primary.ended || peers.primary.closed)).toBe(true);

  channel.length = 0;
  const next = await connect();
  next.secondary.say(0);
  await run(clock);
  expect(next.primary.take(), 'the next migration works').toBe('00000000');
  expect(channel).toEqual(['opened', 'colo']);
}

describe.each(['primary', 'secondary'] as const)('the %s', (side) => {
  const offsets = Array.from({ length: total(side) }, (_, index) => index);

  it('dies at every byte', async () => {
    for (const at of offsets) await play(side, at, () => null);
  });

  it('sends every byte garbled', async () => {
    for (const at of offsets) {
      for (const bit of [0x01, 0x80]) {
        await play(side, at, (bytes, index) => {
          bytes[index]! ^= bit;
          return bytes;
        });
      }
    }
  });

  it('sends every byte twice, or leaves it out', async () => {
    for (const at of offsets) {
      await play(side, at, (bytes, index) =>
        Buffer.concat([bytes.subarray(0, index + 1), bytes.subarray(index)]),
      );
      await play(side, at, (bytes, index) =>
        Buffer.concat([bytes.subarray(0, index), bytes.subarray(index + 1)]),
      );
    }
  });
});
