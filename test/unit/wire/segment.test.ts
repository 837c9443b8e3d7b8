import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildIp, buildTcp, buildUdp, type TcpFields } from '../../../src/wire/build.js';
import { verifyIpv4Checksum, verifyL4Checksum } from '../../../src/wire/checksum.js';
import { FrameKind, FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { completeChecksum, segmentFrame } from '../../../src/wire/segment.js';
import { GsoType, vnetNeedsChecksum, writeVnetHeader } from '../../../src/wire/vnet-header.js';
import { ipFields, tcpFields, u16, u32 } from './arbitraries.js';

const scratch = Buffer.alloc(65_600);

function parse(frame: Buffer, vnetHeaderBytes: 0 | 10): FrameView {
  const view = new FrameView();
  parseFrame(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes, view);
  return view;
}

function cut(frame: Buffer): FrameView[] {
  const segments: FrameView[] = [];
  const count = segmentFrame(parse(frame, 10), scratch, (bytes, offset, length) => {
    segments.push(parse(Buffer.from(bytes.subarray(offset, offset + length)), 0));
  });
  expect(count).toBe(segments.length);
  return segments;
}

const payloadOf = (view: FrameView) => view.bytes.subarray(view.payload, view.payload + view.payloadBytes);
const gsoTypeOf = (fields: { source: string | Uint8Array }) =>
  fields.source.length === 4 ? GsoType.TCPV4 : GsoType.TCPV6;
const checksum = fc.constantFrom('full' as const, 'partial' as const);

describe('TCP super-frames', () => {
  const flags = fc.integer({ min: 0, max: 255 }).map((bits) => (bits & ~0x02) | 0x10);
  const options = fc.record({ timestamp: fc.record({ value: u32, echo: u32 }) }, { requiredKeys: [] });

  it('rejoined give the same bytes; lengths, ids, sequence numbers, flags and checksums are right', () => {
    fc.assert(
      fc.property(
        tcpFields,
        options,
        flags,
        fc.uint8Array({ minLength: 1, maxLength: 20_000, size: 'max' }),
        fc.integer({ min: 40, max: 9000 }),
        checksum,
        (fields, tcpOptions, bits, payload, gsoBytes, mode) => {
          const vnet = { gsoType: gsoTypeOf(fields), gsoBytes };
          const frame = buildTcp({
            ...fields,
            options: tcpOptions,
            flags: bits,
            payload,
            vnet,
            checksum: mode,
          });
          // the length fields of the super-frame do not count
          const whole = parse(frame, 10);
          const segments = cut(frame);
          expect(segments.length).toBe(Math.ceil(payload.length / gsoBytes));
          expect(Buffer.concat(segments.map(payloadOf)).equals(payload)).toBe(true);
          let position = 0;
          segments.forEach((segment, index) => {
            const isLast = index === segments.length - 1;
            expect(segment.kind).toBe(FrameKind.TCP);
            expect(segment.l3End).toBe(segment.end);
            expect(segment.seq).toBe((fields.seq + position) >>> 0);
            expect(segment.ack).toBe(fields.ack);
            expect(segment.vlan).toBe(fields.vlan);
            expect(segment.tcpFlags & 0x09).toBe(isLast ? bits & 0x09 : 0);
            expect(segment.tcpFlags & 0x80).toBe(index === 0 ? bits & 0x80 : 0);
            expect(segment.tcpFlags & 0x54).toBe(bits & 0x54);
            expect(segment.optionsEnd - segment.options).toBe(whole.optionsEnd - whole.options);
            expect(verifyL4Checksum(segment)).toBe(true);
            if (segment.ipVersion === 4) {
              expect(verifyIpv4Checksum(segment.bytes, segment.l3)).toBe(true);
              expect(segment.bytes.readUInt16BE(segment.l3 + 4)).toBe(((fields.id ?? 0) + index) & 0xffff);
            }
            position += segment.payloadBytes;
          });
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
  });

  const base: TcpFields = {
    source: '10.0.0.2',
    destination: '10.0.0.1',
    sourcePort: 80,
    destinationPort: 40000,
    seq: 0,
    flags: 0x10,
    payload: Buffer.alloc(3000, 7),
    vnet: { gsoType: GsoType.TCPV4, gsoBytes: 1000 },
  };

  it('keep the urgent mark on the segments that hold urgent data', () => {
    const segments = cut(buildTcp({ ...base, flags: 0x30, urgent: 1500 }));
    expect(segments.map((view) => view.tcpFlags & 0x20)).toEqual([0x20, 0x20, 0]);
    expect(segments.map((view) => view.bytes.readUInt16BE(view.l4 + 18))).toEqual([1500, 500, 0]);
  });

  it('of more than 65535 bytes, whose length field is 0', () => {
    const segments = cut(buildTcp({ ...base, payload: Buffer.alloc(100_000, 1) }));
    expect(segments.length).toBe(100);
    expect(segments.every((view) => view.payloadBytes === 1000 && verifyL4Checksum(view))).toBe(true);
  });

  it.each<[string, Partial<TcpFields>]>([
    ['SYN', { flags: 0x12 }],
    ['a signature', { options: { md5: Buffer.alloc(16) } }],
    ['gso_size 0', { vnet: { gsoType: GsoType.TCPV4 } }],
    ['a type of the other IP version', { vnet: { gsoType: GsoType.TCPV6, gsoBytes: 1000 } }],
    ['UDP type on TCP', { vnet: { gsoType: GsoType.UDP_L4, gsoBytes: 1000 } }],
    ['UFO', { vnet: { gsoType: GsoType.UDP, gsoBytes: 1000 } }],
    ['an unknown type', { vnet: { gsoType: 99, gsoBytes: 1000 } }],
    ['no GSO', { vnet: {} }],
    ['more segments than any stack asks for', { vnet: { gsoType: GsoType.TCPV4, gsoBytes: 1 } }],
  ])('with %s are refused', (_name, change) => {
    expect(cut(buildTcp({ ...base, ...change }))).toEqual([]);
  });

  it('are cut alike with the ECN bit in their type', () => {
    const vnet = { gsoType: GsoType.TCPV4 | GsoType.ECN, gsoBytes: 1000 };
    expect(cut(buildTcp({ ...base, vnet })).length).toBe(3);
  });

  it('that are IPv6 jumbograms are refused, for the option belongs to the whole', () => {
    const jumbo = { extensionProtocol: 0, ipOptions: Buffer.from('0600c20400011170', 'hex') };
    const vnet = { gsoType: GsoType.TCPV6, gsoBytes: 1000 };
    const fields = { ...base, ...jumbo, vnet, source: 'fd00::2', destination: 'fd00::1' };
    expect(cut(buildTcp({ ...fields, payload: Buffer.alloc(70_000) }))).toEqual([]);
    expect(cut(buildTcp(fields)).length).toBe(3);
  });

  it('that do not fit the scratch buffer are refused', () => {
    const view = parse(buildTcp(base), 10);
    expect(segmentFrame(view, Buffer.alloc(1000), () => expect.unreachable())).toBe(0);
  });
});

describe('UDP super-frames (USO)', () => {
  it('rejoined give the same bytes, each a datagram of its own', () => {
    fc.assert(
      fc.property(
        ipFields,
        u16,
        fc.uint8Array({ minLength: 1, maxLength: 9000, size: 'max' }),
        fc.integer({ min: 20, max: 1500 }),
        checksum,
        (ip, port, payload, gsoBytes, mode) => {
          const vnet = { gsoType: GsoType.UDP_L4, gsoBytes };
          const segments = cut(
            buildUdp({ ...ip, sourcePort: port, destinationPort: 1, payload, vnet, checksum: mode }),
          );
          expect(segments.length).toBe(Math.ceil(payload.length / gsoBytes));
          expect(Buffer.concat(segments.map(payloadOf)).equals(payload)).toBe(true);
          for (const segment of segments) {
            expect(segment.kind).toBe(FrameKind.UDP);
            expect(segment.bytes.readUInt16BE(segment.l4 + 4)).toBe(segment.payloadBytes + 8);
            expect(segment.bytes.readUInt16BE(segment.l4 + 6)).not.toBe(0);
            expect(verifyL4Checksum(segment)).toBe(true);
          }
        },
      ),
      { numRuns: 40, endOnFailure: true },
    );
  });
  it('without a checksum stay without', () => {
    const fields = {
      source: '1.2.3.4',
      destination: '5.6.7.8',
      sourcePort: 1,
      destinationPort: 2,
      checksum: 'none',
    } as const;
    const vnet = { gsoType: GsoType.UDP_L4, gsoBytes: 10 };
    const segments = cut(buildUdp({ ...fields, payload: Buffer.alloc(25, 1), vnet }));
    expect(segments.map((view) => view.bytes.readUInt16BE(view.l4 + 6))).toEqual([0, 0, 0]);
  });
});

describe('completeChecksum', () => {
  it('makes the full checksum of a partial one and takes the request back', () => {
    fc.assert(
      fc.property(tcpFields, (fields) => {
        const frame = buildTcp({ ...fields, checksum: 'partial' });
        expect(completeChecksum(parse(frame, 10))).toBe(true);
        expect(vnetNeedsChecksum(frame, 0)).toBe(false);
        const view = parse(frame, 10);
        expect(view.partialChecksum).toBe(false);
        expect(verifyL4Checksum(view)).toBe(true);
      }),
    );
  });
  it('writes 0xffff for 0, which to UDP would mean none', () => {
    const fields = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 5, destinationPort: 6 };
    const probe = buildUdp({ ...fields, payload: Buffer.alloc(2) });
    const frame = buildUdp({ ...fields, payload: probe.subarray(40, 42), checksum: 'partial' });
    expect(completeChecksum(parse(frame, 10))).toBe(true);
    expect(frame.readUInt16BE(10 + 40)).toBe(0xffff);
  });
  it('leaves a full one alone', () => {
    const frame = buildTcp({
      source: '::1',
      destination: '::2',
      sourcePort: 1,
      destinationPort: 2,
      seq: 1,
      flags: 2,
      vnet: {},
    });
    const before = Buffer.from(frame);
    expect(completeChecksum(parse(frame, 10))).toBe(true);
    expect(frame).toEqual(before);
  });
  it('completes the inner one of a tunnel, to which the header points', () => {
    const inner = buildUdp({
      source: '1.1.1.1',
      destination: '2.2.2.2',
      sourcePort: 1,
      destinationPort: 2,
      payload: Buffer.from('odd'),
      checksum: 'partial',
    });
    const packet = inner.subarray(10 + 14);
    const vnet = { flags: 1, checksumStart: 14 + 20 + 4 + 20, checksumOffset: 6 };
    const gre = Buffer.concat([Buffer.from('00000800', 'hex'), packet]);
    const frame = buildIp({ source: '3.3.3.3', destination: '4.4.4.4', vnet }, 47, gre);
    expect(completeChecksum(parse(frame, 10))).toBe(true);
    const rebuilt = Buffer.concat([frame.subarray(10, 24), frame.subarray(10 + 14 + 24)]);
    expect(verifyL4Checksum(parse(rebuilt, 0))).toBe(true);
    expect(rebuilt.readUInt16BE(14 + 26)).not.toBe(inner.readUInt16BE(10 + 14 + 26));
  });
  it.each([
    [65_535, 0],
    [34, 65_535],
    [34, 20],
    [54, 0],
  ])('refuses a header that points outside: start %i, offset %i', (checksumStart, checksumOffset) => {
    const frame = buildTcp({
      source: '1.2.3.4',
      destination: '5.6.7.8',
      sourcePort: 1,
      destinationPort: 2,
      seq: 1,
      flags: 2,
      vnet: {},
    });
    writeVnetHeader(frame, 0, { flags: 1, checksumStart, checksumOffset });
    const before = Buffer.from(frame);
    expect(completeChecksum(parse(frame, 10))).toBe(false);
    expect(frame).toEqual(before);
  });
});
