import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildEcho, buildIp, buildTcp, buildUdp, vlanTags } from '../../../src/wire/build.js';
import {
  FLOW_KEY_WORDS,
  flowKeyEquals,
  hashFlowKey,
  icmpTypeOfKey,
  writeFlowKey,
} from '../../../src/wire/flow-key.js';
import { FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { tcpFields } from './arbitraries.js';

function keyOf(frame: Buffer, fromClient: boolean): Int32Array {
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  const key = new Int32Array(FLOW_KEY_WORDS + 2).fill(-1);
  expect(writeFlowKey(view, fromClient, key, 1)).toBe(FLOW_KEY_WORDS);
  expect([key[0], key[FLOW_KEY_WORDS + 1]]).toEqual([-1, -1]);
  return key.slice(1, 1 + FLOW_KEY_WORDS);
}

const same = (a: Int32Array, b: Int32Array) => flowKeyEquals(a, 0, b, 0);

describe('flow keys', () => {
  it('are the same for both directions, and only then', () => {
    fc.assert(
      fc.property(tcpFields, (fields) => {
        const turned = {
          ...fields,
          source: fields.destination,
          destination: fields.source,
          sourcePort: fields.destinationPort,
          destinationPort: fields.sourcePort,
        };
        const key = keyOf(buildTcp(fields), false);
        const back = keyOf(buildTcp(turned), true);
        expect(same(key, back)).toBe(true);
        expect(hashFlowKey(key, 0, 1)).toBe(hashFlowKey(back, 0, 1));
      }),
    );
  });

  const base = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 80, destinationPort: 4000 };
  const udp = (change: object) => keyOf(buildUdp({ ...base, ...change }), false);
  it.each([
    ['VLAN', udp({ vlans: vlanTags(5) })],
    ['QinQ', udp({ vlans: vlanTags(5 * 4096) })],
    ['outer VLAN', udp({ vlans: vlanTags(4094 * 4096 + 5) })],
    ['protocol', keyOf(buildTcp({ ...base, seq: 0, flags: 2 }), false)],
    ['guest port', udp({ sourcePort: 81 })],
    ['client port', udp({ destinationPort: 4001 })],
    ['guest address', udp({ source: '10.0.0.3' })],
    ['client address', udp({ destination: '10.0.0.3' })],
    ['direction', keyOf(buildUdp(base), true)],
    ['IP version', udp({ source: 'a00:2::', destination: 'a00:1::' })],
    [
      'fragments',
      keyOf(buildIp({ ...base, fragment: { offset: 0, more: true } }, 17, Buffer.alloc(8)), false),
    ],
    ['last IPv6 group', udp({ source: 'fd00::2', destination: 'fd00::1' })],
    ['echo', keyOf(buildEcho({ ...base, identifier: 7, sequence: 1 }), false)],
  ])('tell apart: %s', (_name, key) => {
    expect(same(key, udp({}))).toBe(false);
  });
});

it('echo questions and answers are one flow with those they belong to, and none with those the other way', () => {
  for (const [guest, client] of [
    ['10.0.0.2', '10.0.0.1'],
    ['fd00::2', 'fd00::1'],
  ] as const) {
    const echo = { identifier: 7, sequence: 1 };
    const asked = keyOf(buildEcho({ ...echo, source: guest, destination: client }), false);
    const answer = keyOf(buildEcho({ ...echo, source: client, destination: guest, reply: true }), true);
    const asks = keyOf(buildEcho({ ...echo, source: client, destination: guest }), true);
    const answered = keyOf(buildEcho({ ...echo, source: guest, destination: client, reply: true }), false);
    expect([same(asked, answer), same(asks, answered), same(asked, asks)]).toEqual([true, true, false]);
    expect(icmpTypeOfKey(asked)).toBe(guest === '10.0.0.2' ? 8 : 128);
    expect(icmpTypeOfKey(asks)).toBe(guest === '10.0.0.2' ? 0 : 129);
  }
});

it('a fragment is told from a datagram of the ports 0', () => {
  const addresses = { source: '10.0.0.2', destination: '10.0.0.1' };
  const fragment = buildIp({ ...addresses, fragment: { offset: 0, more: true } }, 17, Buffer.alloc(8));
  const datagram = buildUdp({ ...addresses, sourcePort: 0, destinationPort: 0 });
  expect(same(keyOf(fragment, false), keyOf(datagram, false))).toBe(false);
});

describe('hashes', () => {
  it('depend on the seed in an unpredictable way: what collides under one seed does not under another', () => {
    const keys: Int32Array[] = [];
    for (let port = 0; port < 20_000; port++) {
      const key = new Int32Array(FLOW_KEY_WORDS);
      key.set([17, (80 << 16) | port, 4, 0x0a000002, 0, 0, 0, 0x0a000001]);
      keys.push(key);
    }
    const colliding = keys.filter((key) => (hashFlowKey(key, 0, 1) & 0xff) === 0);
    const still = colliding.filter((key) => (hashFlowKey(key, 0, 2) & 0xff) === 0);
    expect(colliding.length).toBeGreaterThan(30);
    expect(still.length).toBeLessThan(colliding.length / 4);
  });
  it('spread neighbouring ports over the buckets', () => {
    const buckets = new Uint32Array(1024);
    for (let port = 0; port < 65_536; port++) {
      const key = new Int32Array(FLOW_KEY_WORDS);
      key.set([6, (80 << 16) | port, 6, 1, 2, 3, 4, 5, 6, 7, 8]);
      const at = hashFlowKey(key, 0, 12345) & 1023;
      buckets[at] = buckets[at]! + 1;
    }
    // 64 expected, deviation 8: six deviations
    expect(Math.max(...buckets)).toBeLessThan(64 + 48);
    expect(Math.min(...buckets)).toBeGreaterThan(64 - 48);
  });
  it('heed every word, of IPv4 the ones it uses', () => {
    const key = new Int32Array(FLOW_KEY_WORDS);
    key[2] = 6;
    const before = hashFlowKey(key, 0, 7);
    for (let word = 0; word < FLOW_KEY_WORDS; word++) {
      const changed = key.slice();
      changed[word] = changed[word]! ^ 0x40000000;
      expect(hashFlowKey(changed, 0, 7)).not.toBe(before);
    }
  });
});
