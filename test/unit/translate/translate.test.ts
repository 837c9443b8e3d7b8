/** T4, T5, T10, T18 and the run-ahead trap, on every kind of frame that carries a sequence number. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlowFlag } from '../../../src/flow/flow-state.js';
import { FlowTable } from '../../../src/flow/flow-table.js';
import { fromPrimary, fromSecondary, toPrimary, toSecondary } from '../../../src/translate/translate.js';
import { formatIp } from '../../../src/wire/addresses.js';
import { buildIcmp, buildIp, buildTcp, type TcpFields } from '../../../src/wire/build.js';
import { readU32 } from '../../../src/wire/bytes.js';
import { verifyIpv4Checksum, verifyL4Checksum } from '../../../src/wire/checksum.js';
import { FrameKind, FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

function viewOf(frame: Buffer, vnetHeaderBytes: 0 | 10 = 0): FrameView {
  const view = new FrameView();
  parseFrame(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes, view);
  return view;
}

const GUEST = { v4: '10.0.0.2', v6: 'fd00::2' };
const CLIENT = { v4: '10.0.0.1', v6: 'fd00::1' };
type Version = 'v4' | 'v6';

const fromGuest = (fields: Partial<TcpFields>, version: Version = 'v4'): Buffer =>
  buildTcp({
    source: GUEST[version],
    destination: CLIENT[version],
    sourcePort: 80,
    destinationPort: 5,
    seq: 100,
    flags: TcpFlag.ACK,
    ...fields,
  });
const fromClient = (fields: Partial<TcpFields>, version: Version = 'v4'): Buffer =>
  buildTcp({
    source: CLIENT[version],
    destination: GUEST[version],
    sourcePort: 5,
    destinationPort: 80,
    seq: 100,
    flags: TcpFlag.ACK,
    ...fields,
  });

function table(
  seqDelta: number,
  tsDelta: number,
  clientSeqDelta = 0,
  clientTsDelta = 0,
): { flows: FlowTable; flow: number } {
  const flows = new FlowTable({ flowsMax: 4, seed: 1 });
  const flow = flows.findOrAdd(viewOf(fromGuest({})), false, 0);
  flows.state.seqDelta[flow] = seqDelta;
  flows.state.tsDelta[flow] = tsDelta;
  flows.state.clientSeqDelta[flow] = clientSeqDelta;
  flows.state.clientTsDelta[flow] = clientTsDelta;
  return { flows, flow };
}

function sound(view: FrameView): boolean {
  return verifyL4Checksum(view) && (view.ipVersion !== 4 || verifyIpv4Checksum(view.bytes, view.l3));
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });

describe('translation', () => {
  it('there and back is nothing, for all fields, and every checksum is right on the way', () => {
    const fields = fc.record({
      seq: u32,
      ack: u32,
      delta: u32,
      tsDelta: u32,
      clientDelta: u32,
      clientTsDelta: u32,
      stamp: u32,
      echo: u32,
      sack: fc.array(fc.tuple(u32, u32), { minLength: 1, maxLength: 2 }),
      nops: fc.integer({ min: 0, max: 3 }),
      version: fc.constantFrom<Version>('v4', 'v6'),
      payload: fc.uint8Array({ maxLength: 50 }),
    });
    fc.assert(
      fc.property(fields, (f) => {
        const { flows, flow } = table(f.delta, f.tsDelta, f.clientDelta, f.clientTsDelta);
        const { state } = flows;
        const raw = Buffer.alloc(f.nops, 1);
        const options = { raw, timestamp: { value: f.stamp, echo: f.echo } };
        const sent = fromGuest({ seq: f.seq, ack: f.ack, options, payload: f.payload }, f.version);
        const view = viewOf(sent);
        fromSecondary(view, flows, flow);
        expect(view.seq).toBe((f.seq + f.delta + f.clientDelta) >>> 0);
        expect(readU32(view.bytes, view.timestamp)).toBe((f.stamp + f.tsDelta + f.clientTsDelta) >>> 0);
        expect(readU32(view.bytes, view.timestamp + 4)).toBe(f.echo);
        expect(view.ack).toBe(f.ack);
        expect(sound(view)).toBe(true);

        const answer = viewOf(
          fromClient(
            {
              seq: f.ack,
              ack: view.seq,
              options: {
                raw,
                timestamp: { value: f.echo, echo: readU32(view.bytes, view.timestamp) },
                sack: f.sack,
              },
            },
            f.version,
          ),
        );
        toSecondary(answer, flows, flow);
        expect(answer.ack).toBe(f.seq);
        expect(readU32(answer.bytes, answer.timestamp + 4)).toBe(f.stamp);
        expect(readU32(answer.bytes, answer.timestamp)).toBe(f.echo);
        expect(answer.seq).toBe(f.ack);
        f.sack.forEach(([left], index) => {
          expect(readU32(answer.bytes, answer.sack + index * 8)).toBe((left - f.delta - f.clientDelta) >>> 0);
        });
        expect(sound(answer)).toBe(true);
        expect(state.clientTsDelta[flow]! >>> 0).toBe(f.clientTsDelta);
      }),
    );
  });

  it('the primary gets the client table alone', () => {
    const { flows, flow } = table(1000, 50, 200, 7);
    const view = viewOf(fromClient({ ack: 5000, options: { timestamp: { value: 1, echo: 100 } } }));
    toPrimary(view, flows, flow);
    expect(view.ack).toBe(4800);
    expect(readU32(view.bytes, view.timestamp + 4)).toBe(93);
    const back = viewOf(fromGuest({ seq: 10 }));
    fromPrimary(back, flows, flow);
    expect(back.seq).toBe(210);
  });

  it('T5: RST of both kinds', () => {
    const { flows, flow } = table(1000, 0);
    const withAck = viewOf(fromClient({ ack: 5000, flags: TcpFlag.RST | TcpFlag.ACK }));
    toSecondary(withAck, flows, flow);
    expect(withAck.ack).toBe(4000);
    const without = fromClient({ ack: 0, flags: TcpFlag.RST });
    const view = viewOf(Buffer.from(without));
    toSecondary(view, flows, flow);
    expect(view.bytes.equals(without)).toBe(true);
    const ofGuest = viewOf(fromGuest({ seq: 10, flags: TcpFlag.RST }));
    fromSecondary(ofGuest, flows, flow);
    expect(ofGuest.seq).toBe(1010);
    const ofNobody = viewOf(fromGuest({ seq: 0, flags: TcpFlag.RST | TcpFlag.ACK }));
    fromSecondary(ofNobody, flows, flow);
    expect(ofNobody.seq).toBe(0);
  });

  it('T5: a SYN of the client has nothing of the guest in it', () => {
    const { flows, flow } = table(1000, 77);
    const syn = fromClient({ flags: TcpFlag.SYN, ack: 0, options: { timestamp: { value: 9, echo: 0 } } });
    const view = viewOf(Buffer.from(syn));
    toSecondary(view, flows, flow);
    expect(view.bytes.equals(syn)).toBe(true);
  });

  it('T10: TSval never goes back behind what the client was shown, and the echo finds its way home', () => {
    const { flows, flow } = table(0, 0, 5, 0);
    flows.state.tsShown[flow] = 10_000;
    flows.state.set(flow, FlowFlag.TIMESTAMP_SHOWN);
    const stamps = [400, 401, 403].map((value) => {
      const view = viewOf(fromGuest({ options: { timestamp: { value, echo: 1 } } }));
      fromPrimary(view, flows, flow);
      expect(sound(view)).toBe(true);
      return readU32(view.bytes, view.timestamp);
    });
    expect(stamps).toEqual([10_000, 10_001, 10_003]);
    const echo = viewOf(fromClient({ options: { timestamp: { value: 1, echo: 10_001 } } }));
    toPrimary(echo, flows, flow);
    expect(readU32(echo.bytes, echo.timestamp + 4)).toBe(401);
  });

  it('T10: the echo in the answer to a repeated SYN is not in the future of the secondary', () => {
    const { flows, flow } = table(1000, -40); // its SYN came 40 ms after the primary's
    flows.state.set(flow, FlowFlag.TIMESTAMP_SYN_SECONDARY);
    flows.state.tsSynSecondary[flow] = 540;
    const echoFor = (shown: number, flags: number): number => {
      const view = viewOf(fromClient({ flags, ack: 5, options: { timestamp: { value: 9, echo: shown } } }));
      toSecondary(view, flows, flow);
      expect(sound(view)).toBe(true);
      return readU32(view.bytes, view.timestamp + 4);
    };
    const synAck = TcpFlag.SYN | TcpFlag.ACK;
    expect(echoFor(500, synAck)).toBe(540);
    expect(echoFor(1500, synAck)).toBe(540); // the primary has repeated its SYN, the secondary not yet
    expect(echoFor(1500, TcpFlag.ACK)).toBe(1540);
  });

  it('run-ahead: the secondary never gets an ack for what it has not sent', () => {
    const { flows, flow } = table(1000, 0);
    flows.state.set(flow, FlowFlag.SEEN_SECONDARY);
    flows.state.endSecondary[flow] = 3000;
    const view = viewOf(fromClient({ ack: 5000, payload: Buffer.from('request') }));
    toSecondary(view, flows, flow);
    expect(view.ack).toBe(3000);
    expect(sound(view)).toBe(true);
  });

  it('T18: a partial checksum is left alone', () => {
    const { flows, flow } = table(1000, 7);
    const frame = fromClient({
      ack: 5000,
      checksum: 'partial',
      vnet: {},
      options: { timestamp: { value: 1, echo: 100 } },
    });
    const before = viewOf(Buffer.from(frame), 10);
    const view = viewOf(frame, 10);
    toSecondary(view, flows, flow);
    expect(view.ack).toBe(4000);
    expect(view.bytes.readUInt16BE(view.l4 + 16)).toBe(before.bytes.readUInt16BE(before.l4 + 16));
  });

  it('T11: a signed segment passes as it is, counted', () => {
    const { flows, flow } = table(1000, 7);
    const frame = fromClient({ ack: 5000, options: { md5: Buffer.alloc(16) } });
    const view = viewOf(Buffer.from(frame));
    toSecondary(view, flows, flow);
    expect(view.bytes.equals(frame)).toBe(true);
    expect(flows.state.signedUntouched).toBe(1);
    expect(flows.state.has(flow, FlowFlag.SIGNED)).toBe(true);
  });

  it('T5: the sequence number inside ICMP and ICMPv6 errors', () => {
    for (const version of ['v4', 'v6'] as const) {
      const { flows, flow } = table(1000, 0, 30, 0);
      const segment = fromGuest({ seq: 9030 }, version);
      const error = viewOf(
        buildIcmp({
          source: CLIENT[version],
          destination: GUEST[version],
          type: version === 'v4' ? 3 : 1,
          code: 4,
          payload: segment.subarray(14),
        }),
      );
      toSecondary(error, flows, flow);
      const quoted = error.payload + (version === 'v4' ? 20 : 40);
      expect(readU32(error.bytes, quoted + 4)).toBe(8000);
      expect(sound(error)).toBe(true);
      const again = viewOf(Buffer.from(error.bytes));
      toPrimary(again, flows, flow);
      expect(readU32(again.bytes, quoted + 4)).toBe(7970);
    }
  });

  /** The beginning of a segment as its first fragment. */
  const firstFragment = (segment: Buffer, version: Version, l4Bytes: number): Buffer => {
    const whole = viewOf(segment);
    const payload = whole.bytes.subarray(whole.l4, whole.l4 + l4Bytes);
    const ends = {
      source: formatIp(segment, whole.l3 + (version === 'v4' ? 12 : 8), version === 'v4' ? 4 : 6),
      destination: formatIp(segment, whole.l3 + (version === 'v4' ? 16 : 24), version === 'v4' ? 4 : 6),
    };
    return buildIp({ ...ends, fragment: { offset: 0, more: true } }, 6, payload);
  };

  it.each(['v4', 'v6'] as const)(
    'T16: the header in a first fragment, as in the whole segment (%s)',
    (version) => {
      const { flows, flow } = table(1000, 50, 200, 7);
      const options = { timestamp: { value: 11, echo: 4000 }, sack: [[6000, 7000]] as [number, number][] };
      const fields = { ack: 5000, options, payload: Buffer.alloc(64, 'data') };
      for (const [segment, rewrite] of [
        [fromClient(fields, version), toSecondary],
        [fromClient(fields, version), toPrimary],
        [fromGuest(fields, version), fromSecondary],
        [fromGuest(fields, version), fromPrimary],
      ] as const) {
        const whole = viewOf(Buffer.from(segment));
        const before = Buffer.from(segment);
        rewrite(whole, flows, flow);
        expect(sound(whole)).toBe(true);
        expect(whole.bytes.equals(before)).toBe(false);
        const header = whole.optionsEnd - whole.l4;
        for (const l4Bytes of [header + (8 - (header % 8)), header + 32]) {
          const fragment = viewOf(firstFragment(segment, version, l4Bytes));
          expect(fragment.kind).toBe(FrameKind.FRAGMENT);
          rewrite(fragment, flows, flow);
          const rewritten = fragment.bytes.subarray(fragment.l4, fragment.l4 + l4Bytes);
          expect(rewritten.equals(whole.bytes.subarray(whole.l4, whole.l4 + l4Bytes))).toBe(true);
        }
      }
      expect(flows.state.fragmentsUntouched).toBe(0);
    },
  );

  it('T16: a fragment without the whole header passes as it is, counted; a later one is nothing of TCP', () => {
    const { flows, flow } = table(1000, 50, 200, 7);
    const segment = fromGuest({ ack: 5000, payload: Buffer.alloc(64) });
    for (const l4Bytes of [8, 16]) {
      const cut = firstFragment(segment, 'v4', l4Bytes);
      const view = viewOf(Buffer.from(cut));
      fromPrimary(view, flows, flow);
      expect(view.bytes.equals(cut)).toBe(true);
    }
    expect(flows.state.fragmentsUntouched).toBe(2);
    // too short to be a fragment that is not the last
    for (const l4Bytes of [0, 3, 7]) {
      const cut = firstFragment(segment, 'v4', l4Bytes);
      const view = viewOf(Buffer.from(cut));
      fromPrimary(view, flows, flow);
      expect(view.bytes.equals(cut)).toBe(true);
    }
    const later = buildIp(
      { source: GUEST.v4, destination: CLIENT.v4, fragment: { offset: 64, more: false } },
      6,
      segment.subarray(34),
    );
    const view = viewOf(Buffer.from(later));
    fromPrimary(view, flows, flow);
    expect(view.bytes.equals(later)).toBe(true);
    expect(flows.state.fragmentsUntouched).toBe(2);
  });

  it.each(['v4', 'v6'] as const)(
    'T4: D-SACK, duplicate blocks below the ack, both edges and both ways (%s)',
    (version) => {
      const { flows, flow } = table(1000, 0, 200, 0);
      // RFC 2883 4: the first block tells what came twice, below the ack; the second is an ordinary one above it
      const sack: [number, number][] = [
        [4000, 4500],
        [6000, 7000],
      ];
      const ofClient = viewOf(fromClient({ ack: 5000, options: { sack } }, version));
      toSecondary(ofClient, flows, flow);
      const edges = (view: FrameView): number[] =>
        [0, 4, 8, 12].map((at) => readU32(view.bytes, view.sack + at));
      expect(ofClient.ack).toBe(3800);
      expect(edges(ofClient)).toEqual([2800, 3300, 4800, 5800]);
      expect(sound(ofClient)).toBe(true);
      const again = viewOf(fromClient({ ack: 5000, options: { sack } }, version));
      toPrimary(again, flows, flow);
      expect(edges(again)).toEqual([3800, 4300, 5800, 6800]);
      expect(sound(again)).toBe(true);
      // a guest tells of the client's stream, which is one for all
      for (const rewrite of [fromSecondary, fromPrimary]) {
        const ofGuest = viewOf(fromGuest({ seq: 10, ack: 5000, options: { sack } }, version));
        rewrite(ofGuest, flows, flow);
        expect(ofGuest.seq).not.toBe(10);
        expect(edges(ofGuest)).toEqual([4000, 4500, 6000, 7000]);
        expect(sound(ofGuest)).toBe(true);
      }
    },
  );

  it.each(['v4', 'v6'] as const)(
    'T5: the ack quoted in an error of the guest, as far as it is quoted (%s)',
    (version) => {
      const { flows, flow } = table(1000, 0, 30, 0);
      const error = (flags: number, quotedBytes: number): FrameView => {
        const segment = fromClient({ seq: 77, ack: 9000, flags, payload: Buffer.from('abc') }, version);
        const l3Bytes = version === 'v4' ? 20 : 40;
        return viewOf(
          buildIcmp({
            source: GUEST[version],
            destination: CLIENT[version],
            type: version === 'v4' ? 3 : 1,
            code: 3,
            payload: segment.subarray(14, 14 + l3Bytes + quotedBytes),
          }),
        );
      };
      for (const quotedBytes of [8, 11, 12, 13, 14, 17, 18, 20, 23]) {
        for (const flags of [TcpFlag.ACK, TcpFlag.PSH]) {
          const view = error(flags, quotedBytes);
          const before = Buffer.from(view.bytes);
          fromPrimary(view, flows, flow);
          const at = view.payload + (version === 'v4' ? 20 : 40);
          const isMoved = quotedBytes >= 12 && (quotedBytes < 14 || flags === TcpFlag.ACK);
          expect(sound(view)).toBe(true);
          if (!isMoved) {
            expect(view.bytes.equals(before)).toBe(true);
            continue;
          }
          expect([readU32(view.bytes, at + 4), readU32(view.bytes, at + 8)]).toEqual([77, 9030]);
          if (quotedBytes < 23) continue;
          // the client gets its own segment back, checksum and all
          const own = viewOf(fromClient({ seq: 77, ack: 9030, flags, payload: Buffer.from('abc') }, version));
          expect(view.bytes.subarray(at).equals(own.bytes.subarray(own.l4))).toBe(true);
        }
      }
    },
  );

  it('T33: any bytes: never throws, never touches what is outside', () => {
    const { flows, flow } = table(1000, 7, 30, 5);
    const seeds = [
      fromClient({ ack: 5, options: { timestamp: { value: 1, echo: 2 }, sack: [[1, 2]] } }),
      fromGuest({}, 'v6'),
    ];
    const edits = fc.array(fc.tuple(fc.nat(110), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(fc.constantFrom(...seeds), edits, fc.nat(120), (seed, changes, length) => {
        const slab = Buffer.alloc(300, 0xa5);
        const bytes = Buffer.from(seed.subarray(0, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        bytes.copy(slab, 100);
        const view = new FrameView();
        for (const rewrite of [toSecondary, toPrimary, fromSecondary, fromPrimary]) {
          parseFrame(slab, 100, bytes.length, 0, view);
          rewrite(view, flows, flow);
        }
        expect(slab.subarray(0, 100).every((byte) => byte === 0xa5)).toBe(true);
        expect(slab.subarray(100 + bytes.length).every((byte) => byte === 0xa5)).toBe(true);
      }),
    );
  });
});
