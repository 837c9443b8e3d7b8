import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildIp, buildTcp, buildUdp } from '../../../src/wire/build.js';
import {
  l4ChecksumOffset,
  sum16,
  updateChecksum16,
  updateChecksum32,
  verifyIpv4Checksum,
  verifyL4Checksum,
  writeIpv4Checksum,
  writeL4Checksum,
} from '../../../src/wire/checksum.js';
import { FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { anyFrame, tcpFields, u16, u32 } from './arbitraries.js';

function parse(frame: Buffer, vnetHeaderBytes: 0 | 10 = 0): FrameView {
  const view = new FrameView();
  parseFrame(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes, view);
  return view;
}

/** The definition, with nothing clever: 16-bit words, carries added until none is left. */
function plainSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes[at]! * 256 + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = Math.floor(sum / 65536) + (sum % 65536);
  return sum;
}

describe('sum16', () => {
  it('is the definition, wherever the range starts and however long', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat(9), (bytes, from) => {
        const start = Math.min(from, bytes.length);
        expect(sum16(bytes, start, bytes.length)).toBe(plainSum(bytes.subarray(start)));
      }),
    );
  });
  it('does not overflow on the largest frames', () => {
    const bytes = Buffer.alloc(600_000, 0xff);
    expect(sum16(bytes, 0, bytes.length)).toBe(0xffff);
    bytes[599_998] = 0;
    expect(sum16(bytes, 0, bytes.length)).toBe(plainSum(bytes));
  });
  it('has the value of RFC 1071 section 3', () => {
    expect(sum16(Buffer.from('0001f203f4f5f6f7', 'hex'), 0, 8)).toBe(0xddf2);
  });
});

describe('L4 checksums', () => {
  it('writing one makes it verify, changing any byte it covers does not', () => {
    fc.assert(
      fc.property(anyFrame, fc.nat(5000), fc.integer({ min: 1, max: 255 }), (frame, at, flip) => {
        const view = parse(frame);
        const offset = l4ChecksumOffset(view);
        if (offset === 0) return;
        frame.writeUInt16BE(0x1234, offset);
        expect(writeL4Checksum(view)).toBe(true);
        expect(verifyL4Checksum(view)).toBe(true);
        const covered = view.payload + view.payloadBytes - view.l4;
        const where = view.l4 + (at % covered);
        if (where === offset || where === offset + 1) return;
        frame[where] = frame[where]! ^ flip;
        expect(verifyL4Checksum(view)).toBe(false);
      }),
    );
  });

  const udp = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 5, destinationPort: 6 };
  it('UDP without a checksum is right over IPv4, wrong over IPv6', () => {
    expect(verifyL4Checksum(parse(buildUdp({ ...udp, checksum: 'none' })))).toBe(true);
    expect(
      verifyL4Checksum(parse(buildUdp({ ...udp, source: '::1', destination: '::2', checksum: 'none' }))),
    ).toBe(false);
  });
  it('UDP writes 0xffff for 0', () => {
    // a payload word that makes the sum 0xffff
    const probe = buildUdp({ ...udp, payload: Buffer.alloc(2) });
    const payload = Buffer.from([probe[40]!, probe[41]!]);
    const view = parse(buildUdp({ ...udp, payload }));
    expect(view.bytes.readUInt16BE(40)).toBe(0xffff);
    expect(verifyL4Checksum(view)).toBe(true);
  });
  it('a partial one is the pseudo-header sum', () => {
    const fields = { ...udp, seq: 1, flags: 0x10, payload: Buffer.from('data') };
    const view = parse(buildTcp({ ...fields, checksum: 'partial' }), 10);
    expect(verifyL4Checksum(view)).toBe(true);
    expect(view.bytes.readUInt16BE(view.l4 + 16)).toBe(0x0a00 + 2 + 0x0a00 + 1 + 6 + 24);
  });
  it('there is none in a fragment, GRE or ARP', () => {
    const fragment = buildIp({ ...udp, fragment: { offset: 0, more: true } }, 17, Buffer.alloc(16));
    const before = Buffer.from(fragment);
    expect(writeL4Checksum(parse(fragment))).toBe(false);
    expect(fragment).toEqual(before);
    expect(writeL4Checksum(parse(buildIp(udp, 47, Buffer.alloc(16))))).toBe(false);
  });
});

describe('incremental update (RFC 1624)', () => {
  it('equals the full checksum for any edit of sequence, ack, window and timestamps, odd places included', () => {
    fc.assert(
      fc.property(tcpFields, u32, u32, u16, u32, fc.boolean(), (fields, seq, ack, window, stamp, odd) => {
        // one NOP before the timestamps puts them at an odd offset
        const raw = Buffer.concat([Buffer.alloc(odd ? 1 : 2, 1), Buffer.from('080a0123456789abcdef', 'hex')]);
        const frame = buildTcp({ ...fields, options: { raw } });
        const view = parse(frame);
        const checksum = view.l4 + 16;
        updateChecksum32(frame, checksum, view.seq, seq);
        frame.writeUInt32BE(seq, view.l4 + 4);
        updateChecksum32(frame, checksum, view.ack, ack);
        frame.writeUInt32BE(ack, view.l4 + 8);
        updateChecksum16(frame, checksum, view.window, window);
        frame.writeUInt16BE(window, view.l4 + 14);
        expect((view.timestamp - view.l4) % 2).toBe(odd ? 1 : 0);
        updateChecksum32(frame, checksum, frame.readUInt32BE(view.timestamp), stamp, odd);
        frame.writeUInt32BE(stamp, view.timestamp);
        const updated = frame.readUInt16BE(checksum);
        writeL4Checksum(view);
        expect(updated).toBe(frame.readUInt16BE(checksum));
      }),
    );
  });
  it('of an IPv4 header', () => {
    fc.assert(
      fc.property(u16, u16, (before, after) => {
        const frame = buildIp({ source: '1.2.3.4', destination: '5.6.7.8', id: before }, 47, Buffer.alloc(0));
        updateChecksum16(frame, 24, before, after);
        frame.writeUInt16BE(after, 18);
        expect(verifyIpv4Checksum(frame, 14)).toBe(true);
        const updated = frame.readUInt16BE(24);
        writeIpv4Checksum(frame, 14);
        expect(frame.readUInt16BE(24)).toBe(updated);
      }),
    );
  });
});

describe('IPv6 with a routing header: the checksum covers the final destination (RFC 8200 8.1)', () => {
  const source = 'fd00::1';
  const [final, between] = [Buffer.alloc(16, 0xaa), Buffer.alloc(16, 0xbb)];
  const routing = (type: number, left: number, ...addresses: readonly Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([17, 2 * addresses.length, type, left, 0, 0, 0, 0]), ...addresses]);
  const whole = buildUdp({ source, destination: final, sourcePort: 1, destinationPort: 2, payload: final });
  const datagram = whole.subarray(54);
  const onItsWay = (header: Buffer, destination: Uint8Array): FrameView =>
    parse(buildIp({ source, destination, ipOptions: header, extensionProtocol: 43 }, 17, datagram));

  it.each([
    ['source route, last address', routing(0, 2, between, final), between],
    ['source route at its end', routing(0, 0, between, between), final],
    ['mobile node', routing(2, 1, final), between],
    ['segments, listed from the last', routing(4, 1, final, between), between],
    ['segments at their end', routing(4, 0, between, between), final],
    ['a type nobody knows', routing(9, 1, between), final],
    ['no room for an address', routing(0, 1), final],
  ])('%s', (_what, header, destination) => {
    const view = onItsWay(header, destination);
    expect(view.ipProtocol).toBe(17);
    expect(verifyL4Checksum(view)).toBe(true);
    const before = Buffer.from(view.bytes);
    writeL4Checksum(view);
    expect(view.bytes).toEqual(before);
  });

  it('behind other extension headers', () => {
    const options = Buffer.from('2b00010400000000', 'hex');
    const header = Buffer.concat([options, routing(4, 1, final, between)]);
    const frame = buildIp(
      { source, destination: between, ipOptions: header, extensionProtocol: 0 },
      17,
      datagram,
    );
    expect(verifyL4Checksum(parse(frame))).toBe(true);
  });
});
