/** T18: the two VMs need not put the same bytes into one super-frame, and neither waits for the other's to end. */
import { beforeEach, describe, expect, it } from 'vitest';
import { buildTcp } from '../../../src/wire/build.js';
import { pseudoHeaderSum, verifyIpv4Checksum } from '../../../src/wire/checksum.js';
import { ACK, established, FIN, type Guest, Harness, PSH, type Released, URG } from './harness.js';

const MSS = 100;
/** A Linux guest says here how much of the frame is linear: more than there is in a piece of it. */
const HEADER_BYTES_SAID = 1000;

const text = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, index) => String.fromCharCode(97 + ((from + index) % 26))).join('');

interface Fields {
  readonly flags?: number;
  readonly ack?: number;
  readonly urgent?: number;
}

function frameOf(guest: Guest, from: number, to: number, fields: Fields = {}, ipv6 = false): Buffer {
  const isSuper = to - from > MSS;
  return buildTcp({
    source: ipv6 ? 'fd00::2' : '10.0.0.2',
    destination: ipv6 ? 'fd00::1' : '10.0.0.1',
    sourcePort: 80,
    destinationPort: 40_000,
    seq: guest.isn + 1 + from,
    ack: guest.clientIsn + (fields.ack ?? 1),
    flags: fields.flags ?? ACK | PSH,
    window: 1000,
    id: 7,
    payload: Buffer.from(text(from, to)),
    checksum: 'partial',
    vnet: isSuper
      ? { gsoType: ipv6 ? 4 : 1, gsoBytes: MSS, headerBytes: HEADER_BYTES_SAID }
      : { headerBytes: 54 },
  });
}

describe('a super-frame of which the secondary has said a part', () => {
  let harness: Harness;
  let p: Guest;
  let s: Guest;

  beforeEach(() => {
    harness = new Harness();
    ({ p, s } = established(harness));
    harness.vnetHeaderBytes = 10;
  });

  const batch = (side: 'primary' | 'secondary', ...frames: Buffer[]): Released[] => {
    for (const frame of frames) harness[side](frame);
    harness.comparator.endBatch(harness.nowMs);
    return harness.take();
  };
  const ranges = (released: Released[]) =>
    released.map(({ view }) => [view.seq - p.isn - 1, view.seq - p.isn - 1 + view.payloadBytes]);

  it('leaves in whole segments when the batch is through, and the rest when it was said as well', () => {
    expect(batch('primary', frameOf(p, 0, 1000))).toEqual([]);
    expect(ranges(batch('secondary', frameOf(s, 0, 120), frameOf(s, 120, 350)))).toEqual([[0, 300]]);
    expect(ranges(batch('secondary', frameOf(s, 350, 360)))).toEqual([]);
    expect(ranges(batch('secondary', frameOf(s, 360, 460)))).toEqual([[300, 400]]);
    expect(ranges(batch('secondary', frameOf(s, 460, 1000)))).toEqual([[400, 1000]]);
    expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
    expect(harness.comparator.heldBytes).toBe(0);
    expect(harness.flows.state.heldBytes[harness.flow(frameOf(p, 0, 1))]).toBe(0);
    expect(harness.divergences).toEqual([]);
  });

  it('is on record whole: the bytes under the headers of the rest are the payload that left', () => {
    batch('primary', frameOf(p, 0, 1000));
    batch('secondary', frameOf(s, 0, 300));
    batch('secondary', frameOf(s, 300, 1000));
    expect(batch('primary', frameOf(p, 0, 300)).map(({ reason }) => reason)).toEqual(['retransmission']);
    expect(harness.divergences).toEqual([]);
  });

  it('leaves as well when the secondary had said that part first', () => {
    expect(batch('secondary', frameOf(s, 0, 250))).toEqual([]);
    expect(ranges(batch('primary', frameOf(p, 0, 1000)))).toEqual([[0, 200]]);
    expect(ranges(batch('secondary', frameOf(s, 250, 1000)))).toEqual([[200, 1000]]);
  });

  it.each([4, 6])('in pieces that are what the primary would have sent (IPv%i)', (version) => {
    const isV6 = version === 6;
    const frame = (guest: Guest, from: number, to: number, fields?: Fields) =>
      frameOf(guest, from, to, fields, isV6);
    // over IPv6 a connection that was picked up in mid-stream: positions are the same in both
    const other = isV6 ? p : s;
    batch('primary', frame(p, 0, 50));
    batch('secondary', frame(other, 0, 50));
    const released = [
      ...batch('primary', frame(p, 50, 650, { flags: ACK | PSH | FIN | 0x80 })),
      ...batch('secondary', frame(other, 50, 151)),
      ...batch('secondary', frame(other, 151, 600)),
      ...batch('secondary', frame(other, 600, 650, { flags: ACK | FIN })),
    ];
    expect(ranges(released)).toEqual([
      [50, 150],
      [150, 550],
      [550, 650],
    ]);
    for (const { view, bytes } of released) {
      const { start, end, l3, l4, payload, payloadBytes } = view;
      expect(end - start).toBe(payload - start + payloadBytes);
      expect(view.l3End).toBe(end);
      expect(isV6 || verifyIpv4Checksum(bytes, l3)).toBe(true);
      expect(bytes.readUInt16BE(l4 + 16)).toBe(pseudoHeaderSum(view, 6, end - l4));
      const from = view.seq - p.isn - 1;
      expect(bytes.toString('latin1', payload, end)).toBe(text(from, from + payloadBytes));
      expect(bytes.readUInt16LE(2)).toBe(payload - start);
      expect(bytes[1]).toBe(payloadBytes > MSS ? (isV6 ? 4 : 1) : 0);
      expect(bytes.readUInt16LE(4)).toBe(payloadBytes > MSS ? MSS : 0);
    }
    expect(released.map(({ view }) => view.tcpFlags)).toEqual([ACK | 0x80, ACK, ACK | PSH | FIN]);
    if (!isV6) expect(released.map(({ view, bytes }) => bytes.readUInt16BE(view.l3 + 4))).toEqual([7, 8, 12]);
  });

  it('keeps a segment back for the FIN that the secondary has not sent', () => {
    batch('primary', frameOf(p, 0, 200, { flags: ACK | FIN }));
    expect(ranges(batch('secondary', frameOf(s, 0, 200)))).toEqual([[0, 100]]);
    expect(ranges(batch('secondary', frameOf(s, 200, 200, { flags: ACK | FIN })))).toEqual([[100, 200]]);
  });

  it('shows no more than the secondary has acknowledged, and the rest all of what the primary has', () => {
    batch('primary', frameOf(p, 0, 400, { ack: 101 }));
    const [front] = batch('secondary', frameOf(s, 0, 200, { ack: 51 }));
    expect((front!.view.ack - p.clientIsn) | 0).toBe(51);
    const [rest] = batch('secondary', frameOf(s, 200, 400, { ack: 101 }));
    expect((rest!.view.ack - p.clientIsn) | 0).toBe(101);
  });

  it('diverges at the byte that differs behind the part that left', () => {
    batch('primary', frameOf(p, 0, 400));
    batch('secondary', frameOf(s, 0, 200));
    const other = frameOf(s, 200, 400);
    other[other.length - 1]! ^= 1;
    expect(batch('secondary', other)).toEqual([]);
    expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['payload', 399]]);
    harness.commit();
    expect(ranges(harness.take())).toEqual([[200, 400]]);
  });

  it.each([
    ['urgent data', { flags: ACK | URG }],
    ['nothing that differs from one that waits for a checkpoint', { flags: ACK }],
  ])('stays whole with %s', (_what, fields) => {
    if (fields.flags === ACK) harness.comparator.buffersOnly = true;
    batch('primary', frameOf(p, 0, 400, fields));
    expect(batch('secondary', frameOf(s, 0, 200, fields))).toEqual([]);
  });

  it('of two connections leaves from both', () => {
    const other = { guest: 80, client: 40_001 };
    const elsewhere = (frame: Buffer): Buffer => {
      frame.writeUInt16BE(other.client, 10 + 14 + 20 + 2);
      return frame;
    };
    batch('primary', elsewhere(frameOf(p, 0, 10)), frameOf(p, 0, 400));
    batch('secondary', elsewhere(frameOf(p, 0, 10)));
    batch('primary', elsewhere(frameOf(p, 10, 410)));
    const released = batch('secondary', frameOf(s, 0, 200), elsewhere(frameOf(p, 10, 210)));
    expect(ranges(released)).toEqual([
      [0, 200],
      [10, 210],
    ]);
  });
});
