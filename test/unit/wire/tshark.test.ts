/** Our reading of our own frames against a dissector nobody here wrote. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  buildEcho,
  buildGratuitousArp,
  buildIp,
  buildNeighbourSolicitation,
  buildRarp,
  buildTcp,
  buildUdp,
  buildUnsolicitedNa,
  vlanTags,
} from '../../../src/wire/build.js';
import { FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

const V4 = { source: '10.0.0.2', destination: '10.0.0.1' };
const V6 = { source: 'fd00::2', destination: 'fd00::1' };
const PORTS = { sourcePort: 8000, destinationPort: 40000 };
const MAC = '52:54:00:12:34:56';
const data = Buffer.from('some payload');

const FRAMES: Buffer[] = [
  buildTcp({
    ...V4,
    ...PORTS,
    seq: 0xfffffffe,
    ack: 5,
    flags: 0x12,
    window: 1000,
    options: { mss: 1460, windowScale: 7, sackPermitted: true, timestamp: { value: 1, echo: 2 } },
  }),
  buildTcp({
    ...V6,
    ...PORTS,
    seq: 3,
    ack: 4,
    flags: 0x18,
    payload: data,
    vlans: vlanTags(5),
    options: { sack: [[9, 12]] },
  }),
  buildTcp({ ...V4, ...PORTS, seq: 3, ack: 4, flags: 0x11, paddingBytes: 6, vlans: vlanTags(3 * 4096 + 5) }),
  buildTcp({
    ...V6,
    ...PORTS,
    seq: 3,
    flags: 4,
    extensionProtocol: 60,
    ipOptions: Buffer.from('0600000000000000', 'hex'),
  }),
  buildUdp({ ...V4, ...PORTS, payload: data }),
  buildUdp({ ...V6, ...PORTS, payload: data }),
  buildEcho({ ...V4, identifier: 7, sequence: 9, payload: data }),
  buildEcho({ ...V6, identifier: 7, sequence: 9, payload: data, reply: true }),
  buildGratuitousArp(MAC, '10.0.0.2', 'request'),
  buildGratuitousArp(MAC, '10.0.0.2', 'reply', 5),
  buildRarp(MAC),
  buildNeighbourSolicitation({ senderMac: MAC, senderIp: 'fe80::1', targetIp: 'fe80::2' }),
  buildUnsolicitedNa(MAC, 'fd00::2'),
  buildIp({ ...V4, id: 77, fragment: { offset: 16, more: true } }, 17, Buffer.alloc(24)),
];

function pcap(frames: readonly Buffer[]): Buffer {
  const parts: Buffer[] = [Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex')];
  for (const frame of frames) {
    const header = Buffer.alloc(16);
    header.writeUInt32LE(frame.length, 8);
    header.writeUInt32LE(frame.length, 12);
    parts.push(header, frame);
  }
  return Buffer.concat(parts);
}

function hasTshark(): boolean {
  try {
    execFileSync('tshark', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const available = hasTshark();
if (!available) console.warn('SKIPPED: tshark is not installed, our dissection is not compared with its');

describe.skipIf(!available)('tshark agrees', () => {
  it('on every field, and finds no checksum wrong', () => {
    const directory = mkdtempSync(join(tmpdir(), 'colo-wire-'));
    try {
      const file = join(directory, 'frames.pcap');
      writeFileSync(file, pcap(FRAMES));
      const fields = [
        'tcp.srcport',
        'tcp.seq_raw',
        'tcp.ack_raw',
        'tcp.len',
        'tcp.window_size_value',
        'tcp.options.mss_val',
        'tcp.options.wscale.shift',
        'tcp.options.timestamp.tsval',
        'udp.srcport',
        'udp.length',
        'ieee8021ad.id',
        'vlan.id',
        'icmp.type',
        'icmpv6.type',
        '_ws.malformed',
      ];
      const checks = [
        'ip.checksum.status',
        'tcp.checksum.status',
        'udp.checksum.status',
        'icmp.checksum.status',
        'icmpv6.checksum.status',
      ];
      const preferences = ['ip.check_checksum', 'tcp.check_checksum', 'udp.check_checksum'].flatMap(
        (name) => ['-o', `${name}:TRUE`],
      );
      const output = execFileSync(
        'tshark',
        [
          '-r',
          file,
          ...preferences,
          '-T',
          'fields',
          '-E',
          'occurrence=a',
          ...[...fields, ...checks].flatMap((name) => ['-e', name]),
        ],
        { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      );
      const rows = output
        .trimEnd()
        .split('\n')
        .map((line) => line.split('\t'));
      expect(rows.length).toBe(FRAMES.length);
      rows.forEach((row, index) => {
        const view = new FrameView();
        const frame = FRAMES[index]!;
        parseFrame(frame, 0, frame.length, 0, view);
        const isTcp = view.optionsEnd !== 0;
        const isUdp = view.kind === 2;
        const when = (condition: boolean, value: number) => (condition ? String(value) : '');
        expect(row.slice(0, fields.length), `frame ${index}`).toEqual([
          when(isTcp, view.sourcePort),
          when(isTcp, view.seq),
          when(isTcp, view.ack),
          when(isTcp, view.payloadBytes),
          when(isTcp, view.window),
          when(view.mss >= 0, view.mss),
          when(view.windowScale >= 0, view.windowScale),
          when(view.timestamp !== 0, view.timestamp && frame.readUInt32BE(view.timestamp)),
          when(isUdp, view.sourcePort),
          when(isUdp, view.payloadBytes + 8),
          when(view.vlan >= 4096, view.vlan >> 12),
          when(view.vlan !== 0, view.vlan % 4096),
          when(view.icmpType >= 0 && view.ipVersion === 4, view.icmpType),
          when(view.icmpType >= 0 && view.ipVersion === 6, view.icmpType),
          '',
        ]);
        // 1 is good, 2 is unverified; 0 is bad
        for (const status of row.slice(fields.length)) expect(status).not.toBe('0');
        if (isTcp || isUdp) expect(row.slice(fields.length)).toContain('1');
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
