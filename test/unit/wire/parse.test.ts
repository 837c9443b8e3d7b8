import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildArp,
  buildEcho,
  buildEthernet,
  buildGratuitousArp,
  buildIcmp,
  buildIp,
  buildNeighbourAdvertisement,
  buildNeighbourSolicitation,
  buildRarp,
  buildTcp,
  buildUdp,
  buildUnsolicitedNa,
  type TcpFields,
} from '../../../src/wire/build.js';
import { verifyIpv4Checksum, verifyL4Checksum } from '../../../src/wire/checksum.js';
import { fragmentId, fragmentOffset, hasMoreFragments } from '../../../src/wire/fragment.js';
import { FrameKind, FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { GsoType, writeVnetHeader } from '../../../src/wire/vnet-header.js';
import { ipFields, payload, tcpFields, u16, udpFields } from './arbitraries.js';

const MAC = '52:54:00:12:34:56';
const V4 = { source: '10.0.0.2', destination: '10.0.0.1' } as const;
const V6 = { source: 'fd00::2', destination: 'fd00::1' } as const;
const PORTS = { sourcePort: 80, destinationPort: 40000 } as const;

function parse(frame: Buffer, vnetHeaderBytes: 0 | 10 = 0): FrameView {
  const view = new FrameView();
  // a used view: nothing of the frame before may show through
  parseFrame(
    buildTcp({
      ...V6,
      ...PORTS,
      seq: 9,
      flags: 2,
      options: { mss: 1, windowScale: 1, md5: Buffer.alloc(16) },
    }),
    0,
    102,
    0,
    view,
  );
  const kind = parseFrame(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes, view);
  expect(kind).toBe(view.kind);
  return view;
}

function payloadOf(view: FrameView): Buffer {
  return view.bytes.subarray(view.payload, view.payload + view.payloadBytes);
}

describe('build, then parse', () => {
  it('gives TCP back, over both IP versions, any tags, any padding (T17, T20, T21)', () => {
    fc.assert(
      fc.property(tcpFields, (fields) => {
        const view = parse(buildTcp(fields));
        expect(view.kind).toBe(FrameKind.TCP);
        const { vlan, sourcePort, destinationPort, seq, ack, window } = view;
        expect({ vlan, sourcePort, destinationPort, seq, ack, window }).toEqual({
          vlan: fields.vlan,
          sourcePort: fields.sourcePort,
          destinationPort: fields.destinationPort,
          seq: fields.seq,
          ack: fields.ack,
          window: fields.window,
        });
        expect(view.tcpFlags).toBe(fields.flags);
        expect(payloadOf(view)).toEqual(Buffer.from(fields.payload));
        const { options } = fields;
        const isSyn = (fields.flags & TcpFlag.SYN) !== 0;
        expect(view.mss).toBe(isSyn ? (options.mss ?? -1) : -1);
        expect(view.windowScale).toBe(isSyn ? (options.windowScale ?? -1) : -1);
        expect(view.sackPermitted).toBe(isSyn && options.sackPermitted === true);
        const stamps = view.timestamp === 0 ? undefined : view.bytes.readUInt32BE(view.timestamp);
        expect(stamps).toBe(options.timestamp?.value);
        const controls = (fields.flags & 1) + ((fields.flags >> 1) & 1);
        expect(view.seqLength()).toBe(fields.payload.length + controls);
        expect(verifyL4Checksum(view)).toBe(true);
        if (view.ipVersion === 4) expect(verifyIpv4Checksum(view.bytes, view.l3)).toBe(true);
      }),
    );
  });

  it('gives UDP back', () => {
    fc.assert(
      fc.property(udpFields, (fields) => {
        const view = parse(buildUdp(fields));
        expect(view.kind).toBe(FrameKind.UDP);
        expect([view.sourcePort, view.destinationPort]).toEqual([fields.sourcePort, fields.destinationPort]);
        expect(payloadOf(view)).toEqual(Buffer.from(fields.payload));
        expect(verifyL4Checksum(view)).toBe(true);
      }),
    );
  });

  it('gives echo back, with the identifier as both ports', () => {
    fc.assert(
      fc.property(ipFields, u16, u16, fc.boolean(), payload, (ip, identifier, sequence, reply, bytes) => {
        const view = parse(buildEcho({ ...ip, identifier, sequence, reply, payload: bytes }));
        expect(view.kind).toBe(view.ipVersion === 4 ? FrameKind.ICMP : FrameKind.ICMPV6);
        expect([view.sourcePort, view.destinationPort]).toEqual([identifier, identifier]);
        expect(view.bytes.readUInt16BE(view.l4 + 6)).toBe(sequence);
        expect(payloadOf(view)).toEqual(Buffer.from(bytes));
        expect(verifyL4Checksum(view)).toBe(true);
      }),
    );
  });

  it('gives fragments back', () => {
    fc.assert(
      fc.property(ipFields, fc.nat(8000), fc.boolean(), payload, (ip, eighths, more, bytes) => {
        const isFragment = more || eighths > 0;
        const view = parse(buildIp({ ...ip, fragment: { offset: eighths * 8, more } }, 47, bytes));
        expect(view.kind).toBe(isFragment ? FrameKind.FRAGMENT : FrameKind.IP_OTHER);
        expect(view.ipProtocol).toBe(47);
        expect(payloadOf(view)).toEqual(Buffer.from(bytes));
        if (!isFragment) return;
        expect(fragmentOffset(view)).toBe(eighths * 8);
        expect(hasMoreFragments(view)).toBe(more);
        expect(fragmentId(view)).toBe(ip.id);
      }),
    );
  });

  it.each([
    [
      'ARP request',
      buildArp({ operation: 1, senderMac: MAC, senderIp: '10.0.0.2', targetIp: '10.0.0.1' }),
      FrameKind.ARP,
    ],
    ['gratuitous ARP, request', buildGratuitousArp(MAC, '10.0.0.2', 'request'), FrameKind.ARP],
    ['gratuitous ARP, reply', buildGratuitousArp(MAC, '10.0.0.2', 'reply', 5), FrameKind.ARP],
    ['RARP', buildRarp(MAC), FrameKind.LINK_CONTROL],
    [
      'NS',
      buildNeighbourSolicitation({ senderMac: MAC, senderIp: 'fe80::1', targetIp: 'fe80::2' }),
      FrameKind.ND,
    ],
    ['DAD', buildNeighbourSolicitation({ senderMac: MAC, targetIp: 'fe80::2' }), FrameKind.ND],
    [
      'NA',
      buildNeighbourAdvertisement({ ownMac: MAC, ownIp: 'fd00::2', solicitor: 'fd00::1' }),
      FrameKind.ND,
    ],
    ['unsolicited NA', buildUnsolicitedNa(MAC, 'fd00::2', 5), FrameKind.ND],
    ['RS', buildIcmp({ ...V6, type: 133 }), FrameKind.ND],
    ['RA', buildIcmp({ ...V6, type: 134, payload: Buffer.alloc(8) }), FrameKind.ICMPV6],
    ['redirect', buildIcmp({ ...V6, type: 137, payload: Buffer.alloc(32) }), FrameKind.ICMPV6],
    ['MLDv1 report', buildIcmp({ ...V6, type: 131, payload: Buffer.alloc(16) }), FrameKind.GROUP_MEMBERSHIP],
    ['MLDv2 report', buildIcmp({ ...V6, type: 143, payload: Buffer.alloc(20) }), FrameKind.GROUP_MEMBERSHIP],
    ['IGMP', buildIp(V4, 2, Buffer.alloc(8)), FrameKind.GROUP_MEMBERSHIP],
    ['GRE', buildIp(V4, 47, Buffer.alloc(4)), FrameKind.IP_OTHER],
    ['SCTP over IPv6', buildIp(V6, 132, Buffer.alloc(12)), FrameKind.IP_OTHER],
    ['no next header', buildIp(V6, 59, Buffer.alloc(0)), FrameKind.IP_OTHER],
    ['ICMP inside IPv6', buildIp(V6, 1, Buffer.alloc(8)), FrameKind.IP_OTHER],
    ['ICMPv6 inside IPv4', buildIp(V4, 58, Buffer.alloc(8)), FrameKind.IP_OTHER],
    ['LLDP', buildEthernet({}, 0x88cc, Buffer.alloc(20)), FrameKind.LINK_CONTROL],
    [
      'STP',
      buildEthernet({}, 38, Buffer.concat([Buffer.from('424203', 'hex'), Buffer.alloc(43)])),
      FrameKind.LINK_CONTROL,
    ],
    [
      'per-VLAN STP',
      buildEthernet({}, 50, Buffer.concat([Buffer.from('aaaa0300000c010b', 'hex'), Buffer.alloc(42)])),
      FrameKind.LINK_CONTROL,
    ],
    ['other LLC', buildEthernet({}, 38, Buffer.alloc(46, 0xe0)), FrameKind.OTHER],
    ['other EtherType', buildEthernet({}, 0x8863, Buffer.alloc(10)), FrameKind.OTHER],
    [
      'three tags',
      buildEthernet({ vlans: [{ vid: 1 }, { vid: 2 }, { vid: 3 }] }, 0x0800, Buffer.alloc(20)),
      FrameKind.OTHER,
    ],
    [
      'ARP for IEEE 802 hardware',
      buildEthernet({}, 0x0806, Buffer.from(`00060800060400${'0'.repeat(44)}`, 'hex')),
      FrameKind.OTHER,
    ],
  ])('%s', (_name, frame, kind) => {
    expect(parse(frame).kind).toBe(kind);
  });

  it('puts neighbour messages where they are believed: hop limit 255, right groups and checksums', () => {
    const frame = buildNeighbourSolicitation({ senderMac: MAC, targetIp: 'fe80::aabb:ccdd' });
    const view = parse(frame);
    expect(frame.subarray(0, 6).toString('hex')).toBe('3333ffbbccdd');
    expect(frame.subarray(view.l3 + 24, view.l3 + 40).toString('hex')).toBe(
      'ff0200000000000000000001ffbbccdd',
    );
    expect(frame[view.l3 + 7]).toBe(255);
    expect(verifyL4Checksum(view)).toBe(true);
    const na = parse(buildUnsolicitedNa(MAC, 'fd00::2'));
    expect(na.bytes.subarray(0, 6).toString('hex')).toBe('333300000001');
    expect(na.bytes.readUInt32BE(na.l4 + 4)).toBe(0x20000000);
    expect(verifyL4Checksum(na)).toBe(true);
  });

  it('takes a priority tag for no VLAN and old QinQ for QinQ', () => {
    expect(parse(buildUdp({ ...V4, ...PORTS, vlans: [{ vid: 0, priority: 7 }] })).vlan).toBe(0);
    expect(parse(buildUdp({ ...V4, ...PORTS, vlans: [{ vid: 3, tpid: 0x9100 }, { vid: 5 }] })).vlan).toBe(
      3 * 4096 + 5,
    );
  });
});

describe('TCP options', () => {
  const tcp = (raw: string, flags = 0x10, extra: Partial<TcpFields> = {}) =>
    parse(buildTcp({ ...V4, ...PORTS, seq: 1, flags, options: { raw: Buffer.from(raw, 'hex') }, ...extra }));

  it('finds SACK blocks', () => {
    const view = parse(
      buildTcp({
        ...V6,
        ...PORTS,
        seq: 1,
        flags: 0x10,
        options: {
          sack: [
            [5, 9],
            [20, 0xffffffff],
          ],
        },
      }),
    );
    expect(view.sackBlocks).toBe(2);
    expect([0, 4, 8, 12].map((at) => view.bytes.readUInt32BE(view.sack + at))).toEqual([
      5, 9, 20, 0xffffffff,
    ]);
  });

  it.each([
    ['runs over the end', '080a0000'],
    ['length 0', '0100080000000000'],
    ['length 1', '02010000'],
    ['ends within the length byte', '01010108'],
    ['timestamps of a wrong length', '0809000000000000'],
    ['SACK of a wrong length', '0509000000000000'],
    ['SACK without a block', '05020101'],
  ])('%s: passed over, the segment stays usable', (_name, raw) => {
    const view = tcp(raw);
    expect(view.kind).toBe(FrameKind.TCP);
    expect([view.timestamp, view.sack, view.sackBlocks]).toEqual([0, 0, 0]);
  });

  it('keeps what came before a broken option', () => {
    const view = tcp('080a00000001000000020303', 0x10);
    expect(view.bytes.readUInt32BE(view.timestamp)).toBe(1);
  });

  it('stops at the end mark', () => expect(tcp('00080a000000010000000201').timestamp).toBe(0));
  it('takes the last of a repeated option, as Linux does', () =>
    expect(tcp('020405b402040200', 2).mss).toBe(512));
  it('takes a window scale over 14 for 14 (RFC 7323 2.3)', () =>
    expect(tcp('01030320', 2).windowScale).toBe(14));
  it('ignores SYN options outside a SYN', () => expect(tcp('020405b4').mss).toBe(-1));
  it('marks MD5 and AO', () => {
    expect(tcp('', 0x10, { options: { md5: Buffer.alloc(16) } }).signed).toBe(true);
    expect(tcp('1d040101').signed).toBe(true);
    expect(tcp('01010101').signed).toBe(false);
  });
});

describe('IPv6 extension headers', () => {
  const udpWith = (first: number, chain: string) =>
    parse(
      buildUdp({
        ...V6,
        ...PORTS,
        payload: Buffer.from('abc'),
        extensionProtocol: first,
        ipOptions: Buffer.from(chain, 'hex'),
      }),
    );

  it.each([
    ['hop-by-hop', 0, `11000000${'0'.repeat(8)}`],
    ['destination, 16 bytes', 60, `1101${'0'.repeat(28)}`],
    ['routing', 43, `11000000${'0'.repeat(8)}`],
    ['authentication, 12 bytes', 51, `1101${'0'.repeat(20)}`],
    ['atomic fragment', 44, '1100000000001234'],
    ['hop-by-hop and destination', 0, `3c00000000000000${'1100000000000000'}`],
  ])('%s', (_name, first, chain) => {
    const view = udpWith(first, chain);
    expect(view.kind).toBe(FrameKind.UDP);
    expect(payloadOf(view).toString()).toBe('abc');
    expect(verifyL4Checksum(view)).toBe(true);
  });

  it('refuses a header beyond the packet', () =>
    expect(udpWith(60, '11ff000000000000').kind).toBe(FrameKind.MALFORMED));

  it('stops after a bounded number', () => {
    const chain = `${'3c00000000000000'.repeat(40)}1100000000000000`;
    expect(udpWith(60, chain).kind).toBe(FrameKind.IP_OTHER);
  });
});

describe('headers that contradict their lengths are MALFORMED (T33)', () => {
  const tcp = () => buildTcp({ ...V4, ...PORTS, seq: 1, flags: 0x10, payload: Buffer.from('hello') });
  const edit = (frame: Buffer, at: number, value: number) => {
    frame[at] = value;
    return frame;
  };
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['13 bytes', Buffer.alloc(13)],
    ['a tag cut off', buildEthernet({ vlans: [{ vid: 1 }] }, 0x0800, Buffer.alloc(0)).subarray(0, 16)],
    ['version 5', edit(tcp(), 14, 0x55)],
    ['IPv6 EtherType, IPv4 header', edit(edit(tcp(), 12, 0x86), 13, 0xdd)],
    ['IHL 4', edit(tcp(), 14, 0x44)],
    ['IHL beyond the packet', edit(tcp(), 14, 0x4f)],
    ['total length beyond the frame', edit(tcp(), 16, 0x10)],
    ['total length 0', edit(edit(tcp(), 16, 0), 17, 0)],
    ['total length under the header', edit(tcp(), 17, 19)],
    ['TCP header cut off', edit(tcp(), 17, 39)],
    ['data offset 4', edit(tcp(), 46, 0x40)],
    ['data offset beyond the segment', edit(tcp(), 46, 0xf0)],
    ['UDP length under 8', edit(buildUdp({ ...V4, ...PORTS }), 39, 7)],
    ['UDP length beyond the packet', edit(buildUdp({ ...V4, ...PORTS }), 39, 9)],
    ['ICMP of 7 bytes', buildIp(V4, 1, Buffer.alloc(7))],
    ['ICMPv6 of 7 bytes', buildIp(V6, 58, Buffer.alloc(7))],
    ['NS without target', buildIcmp({ ...V6, type: 135, payload: Buffer.alloc(15) })],
    ['IPv6 payload beyond the frame', edit(buildUdp({ ...V6, ...PORTS }), 19, 9)],
    ['IPv6 of 39 bytes', buildUdp({ ...V6, ...PORTS }).subarray(0, 53)],
    [
      'fragment beyond 65535 bytes',
      buildIp({ ...V4, fragment: { offset: 65528, more: false } }, 17, Buffer.alloc(64)),
    ],
    ['ARP cut off', buildRarp(MAC).subarray(0, 41).fill(0x06, 13, 14).fill(0x08, 12, 13)],
    ['802.3 length beyond the frame', buildEthernet({}, 60, Buffer.alloc(46))],
    ['length/type 1501', buildEthernet({}, 1501, Buffer.alloc(1501))],
  ])('%s', (_name, frame) => {
    const view = parse(frame);
    expect(view.kind).toBe(FrameKind.MALFORMED);
    expect([view.network, view.l3, view.l3End, view.l4, view.payload, view.payloadBytes]).toEqual([
      0, 0, 0, 0, 0, 0,
    ]);
    expect(view.end - view.start).toBe(frame.length);
  });

  it('a place outside the buffer', () => {
    const view = new FrameView();
    expect(parseFrame(tcp(), 10, 1000, 0, view)).toBe(FrameKind.MALFORMED);
    expect(parseFrame(tcp(), 5, 40, 10, view)).toBe(FrameKind.MALFORMED);
    expect(parseFrame(tcp(), 5, -1, 0, view)).toBe(FrameKind.MALFORMED);
  });
});

describe('vnet headers (T18)', () => {
  it('tells a partial checksum only where it points at the L4 header', () => {
    const frame = buildTcp({ ...V4, ...PORTS, seq: 1, flags: 0x10, checksum: 'partial' });
    expect(parse(frame, 10).partialChecksum).toBe(true);
    writeVnetHeader(frame, 0, { flags: 1, checksumStart: 33, checksumOffset: 16 });
    expect(parse(frame, 10).partialChecksum).toBe(false);
    writeVnetHeader(frame, 0, { flags: 2, checksumStart: 34, checksumOffset: 16 });
    expect(parse(frame, 10).partialChecksum).toBe(false);
  });

  it.each([
    ['IPv4', V4],
    ['IPv6', V6],
  ])('takes length 0 for "all of it" in a super-frame only, %s', (_name, addresses) => {
    const build = (gsoType: number, bytes: number) => {
      const vnet = { gsoType, gsoBytes: 1000 };
      const frame = buildTcp({
        ...addresses,
        ...PORTS,
        seq: 1,
        flags: 0x10,
        payload: Buffer.alloc(bytes),
        vnet,
      });
      frame.writeUInt16BE(0, addresses === V4 ? 26 : 28);
      return parse(frame, 10);
    };
    expect(build(GsoType.TCPV4, 3000).payloadBytes).toBe(3000);
    expect(build(GsoType.NONE, 3000).kind).toBe(FrameKind.MALFORMED);
    expect(build(GsoType.NONE, 70_000).payloadBytes).toBe(70_000);
  });
});
