/**
 * The same streams for both comparators. The secondary speaks in the primary's sequence space, as QEMU's filter-rewriter
 * would have made it. `differs` tells what is expected where the two differ, and which trap QEMU falls into there
 * (docs/design/traps.md); without it both must say the same.
 *
 * A verdict: which of the primary's frames left, in that order, `~` after one that left changed, `checkpoint` when one
 * was asked for. Asking because only one VM spoke is not counted: the two wait differently long.
 */
import { buildArp, buildIp, buildTcp, buildUdp } from '../../dist/wire/build.js';
import { TcpFlag } from '../../dist/wire/frame-view.js';

const V4 = { source: '10.0.0.2', destination: '10.0.0.1' };
const V6 = { source: 'fd00::2', destination: 'fd00::1' };
const { ACK, SYN, FIN } = TcpFlag;
const P = 'primary';
const S = 'secondary';

const tcp = (fields) => {
  const data = fields.data === undefined ? {} : { payload: Buffer.from(fields.data) };
  const ports = { sourcePort: 80, destinationPort: 40_000 };
  const numbers = { seq: 1000 + fields.at, ack: 5000 + (fields.ack ?? 1) };
  return buildTcp({ ...V4, ...ports, flags: ACK, window: 1000, ...fields, ...numbers, ...data });
};
const SYN_OPTIONS = { mss: 1460, windowScale: 0, sackPermitted: true };
const synAck = (options = {}) => tcp({ at: 0, flags: SYN | ACK, options: { ...SYN_OPTIONS, ...options } });
const udp = (text, fields = {}) =>
  buildUdp({ ...V4, sourcePort: 53, destinationPort: 9, payload: Buffer.from(text), ...fields });
const HANDSHAKE = [
  [P, synAck()],
  [S, synAck()],
];

export const SCENARIOS = [
  {
    name: 'equal TCP data',
    frames: [...HANDSHAKE, [P, tcp({ at: 1, data: 'equal' })], [S, tcp({ at: 1, data: 'equal' })]],
  },
  {
    name: 'TCP data that differs',
    frames: [...HANDSHAKE, [P, tcp({ at: 1, data: 'equal' })], [S, tcp({ at: 1, data: 'eqUal' })]],
  },
  {
    name: 'TCP cut into other segments',
    frames: [
      ...HANDSHAKE,
      [P, tcp({ at: 1, data: '01234' })],
      [P, tcp({ at: 6, data: '56789' })],
      [S, tcp({ at: 1, data: '0123456789' })],
    ],
  },
  {
    name: 'a pure ack of the primary alone, of what both have acknowledged',
    differs: {
      ours: '0 1 2',
      qemu: '0 1',
      trap: 'T13: it waits for any frame of the secondary, then for the 3 s timer',
    },
    frames: [
      ...HANDSHAKE,
      [S, tcp({ at: 1, data: 'x', ack: 50 })],
      [P, tcp({ at: 1, data: 'x', ack: 50 })],
      [P, tcp({ at: 2, ack: 50, window: 1000 })],
    ],
  },
  {
    name: 'data that acknowledges more than the secondary has',
    differs: { ours: '0 1~', qemu: '0 1', trap: 'T2: the client may forget what the secondary never got' },
    frames: [...HANDSHAKE, [P, tcp({ at: 1, data: 'x', ack: 90 })], [S, tcp({ at: 1, data: 'x', ack: 50 })]],
  },
  {
    name: 'a window that the secondary does not offer',
    differs: { ours: '0 1~', qemu: '0 1', trap: 'T3' },
    frames: [
      ...HANDSHAKE,
      [P, tcp({ at: 1, data: 'x', ack: 600, window: 1000 })],
      [S, tcp({ at: 1, data: 'x', ack: 600, window: 600 })],
    ],
  },
  {
    name: 'SYN options that disagree',
    differs: { ours: 'checkpoint', qemu: '0', trap: 'T11' },
    frames: [
      [P, synAck()],
      [S, synAck({ mss: 536 })],
    ],
  },
  {
    name: 'a retransmission with other bytes',
    differs: { ours: '0 1 checkpoint', qemu: '0 1', trap: 'T12: not noticed as a difference' },
    frames: [
      ...HANDSHAKE,
      [P, tcp({ at: 1, data: 'first' })],
      [S, tcp({ at: 1, data: 'first' })],
      [P, tcp({ at: 1, data: 'FIRST' })],
    ],
  },
  {
    name: 'a FIN of the primary alone, with equal data',
    differs: { ours: '0', qemu: '0 1', trap: 'T12: a FIN has no position' },
    frames: [
      ...HANDSHAKE,
      [P, tcp({ at: 1, data: 'bye', flags: ACK | FIN })],
      [S, tcp({ at: 1, data: 'bye' })],
    ],
  },
  {
    name: 'equal datagrams',
    frames: [
      [P, udp('equal')],
      [S, udp('equal')],
    ],
  },
  {
    name: 'datagrams that differ',
    frames: [
      [P, udp('equal')],
      [S, udp('eqUal')],
    ],
  },
  {
    name: 'datagrams of one flow in another order',
    differs: { ours: '0 1 2', qemu: '2 1 0', trap: 'T15, T30: released in the order of the secondary' },
    frames: [
      [P, udp('a')],
      [P, udp('b')],
      [P, udp('c')],
      [S, udp('c')],
      [S, udp('b')],
      [S, udp('a')],
    ],
  },
  {
    name: 'a datagram without checksum on one side',
    differs: { ours: '0', qemu: 'checkpoint', trap: 'T16, T18: the UDP checksum is compared' },
    frames: [
      [P, udp('x')],
      [S, udp('x', { checksum: 'none' })],
    ],
  },
  {
    name: 'another protocol, other IP id and TTL',
    differs: { ours: '0', qemu: 'checkpoint', trap: 'T16: the IP header is compared' },
    frames: [
      [P, buildIp({ ...V4, id: 1 }, 47, Buffer.from('tunnelled packet'))],
      [S, buildIp({ ...V4, id: 2, ttl: 63 }, 47, Buffer.from('tunnelled packet'))],
    ],
  },
  {
    name: 'IPv6 datagrams that differ',
    differs: { ours: 'checkpoint', qemu: '0', trap: 'T20: passes unprotected' },
    frames: [
      [P, udp('equal', V6)],
      [S, udp('eqUal', V6)],
    ],
  },
  {
    name: 'datagrams in a VLAN that differ',
    differs: { ours: 'checkpoint', qemu: '0', trap: 'T21: passes unprotected' },
    frames: [
      [P, udp('equal', { vlans: [{ vid: 5 }] })],
      [S, udp('eqUal', { vlans: [{ vid: 5 }] })],
    ],
  },
  {
    name: 'a datagram in other fragments',
    differs: { ours: '0 1', qemu: '1 0', trap: 'T16, T30: pieces are matched alone and change their order' },
    frames: [
      [P, buildIp({ ...V4, id: 1, fragment: { offset: 0, more: true } }, 17, Buffer.alloc(32, 1))],
      [P, buildIp({ ...V4, id: 1, fragment: { offset: 32, more: false } }, 17, Buffer.alloc(16, 1))],
      [S, buildIp({ ...V4, id: 9, fragment: { offset: 0, more: true } }, 17, Buffer.alloc(16, 1))],
      [S, buildIp({ ...V4, id: 9, fragment: { offset: 16, more: false } }, 17, Buffer.alloc(32, 1))],
    ],
  },
  {
    name: 'ARP of the primary alone',
    frames: [
      [
        P,
        buildArp({
          operation: 'request',
          senderMac: '52:54:00:00:00:02',
          senderIp: '10.0.0.2',
          targetIp: '10.0.0.1',
        }),
      ],
    ],
  },
  {
    name: 'IGMP of the primary alone',
    differs: { ours: '0', qemu: 'nothing', trap: 'T31: costs a checkpoint each time' },
    frames: [
      [
        P,
        buildIp(
          { ...V4, destination: '224.0.0.22', ttl: 1 },
          2,
          Buffer.from('2200f9020000000104000000e00000fb', 'hex'),
        ),
      ],
    ],
  },
  {
    name: 'an unknown EtherType of the primary alone',
    differs: { ours: 'nothing', qemu: '0', trap: 'T1: passes unprotected' },
    frames: [[P, Buffer.concat([Buffer.alloc(12, 2), Buffer.from('88b5', 'hex'), Buffer.alloc(46)])]],
  },
];
