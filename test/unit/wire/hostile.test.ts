import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { flowText } from '../../../src/wire/addresses.js';
import { buildTcp, buildUdp } from '../../../src/wire/build.js';
import { verifyL4Checksum, writeL4Checksum } from '../../../src/wire/checksum.js';
import { FLOW_KEY_WORDS, writeFlowKey } from '../../../src/wire/flow-key.js';
import { fragmentId, fragmentOffset, parseTcpFragment } from '../../../src/wire/fragment.js';
import { FrameKind, FrameView } from '../../../src/wire/frame-view.js';
import { parseAny, parseFrame } from '../../../src/wire/parse.js';
import { parsePlain } from '../../../src/wire/parse-plain.js';
import { parseQuoted } from '../../../src/wire/quoted.js';
import { completeChecksum, SEGMENTS_MAX, segmentFrame } from '../../../src/wire/segment.js';
import { anyFrame, payload, tcpFields, u16, u32, udpFields } from './arbitraries.js';

const MARGIN = 64;

/** Copies of the frame amid two different poisons: whatever is read outside shows as a difference. */
function placed(frame: Uint8Array, vnetHeader: Uint8Array, poison: number): Buffer {
  const bytes = Buffer.alloc(frame.length + 2 * MARGIN, poison);
  bytes.set(vnetHeader, MARGIN - vnetHeader.length);
  bytes.set(frame, MARGIN);
  return bytes;
}

const FIELDS = Object.keys(new FrameView()).filter((key) => key !== 'bytes') as (keyof FrameView)[];

function numbers(view: FrameView): unknown[] {
  return FIELDS.map((field) => view[field]);
}

/** Parses, asks everything that can be asked of a view, and checks that every offset lies inside. */
function exercise(frame: Uint8Array, vnetHeader: Uint8Array): void {
  const vnetHeaderBytes = vnetHeader.length as 0 | 10;
  const outcomes: unknown[][] = [];
  for (const poison of [0x00, 0xff, 0x45]) {
    const bytes = placed(frame, vnetHeader, poison);
    const view = new FrameView();
    const quoted = new FrameView();
    const key = new Int32Array(FLOW_KEY_WORDS);
    parseFrame(bytes, MARGIN, frame.length, vnetHeaderBytes, view);
    assertInside(view);
    if (parseQuoted(view, quoted)) assertInside(quoted);
    const segment = new FrameView();
    if (parseTcpFragment(view, segment)) assertInside(segment);
    writeFlowKey(view, true, key, 0);
    const outcome = [
      ...numbers(view),
      ...numbers(quoted),
      ...numbers(segment),
      ...key,
      flowText(view, false),
      verifyL4Checksum(view),
    ];
    if (view.kind === FrameKind.FRAGMENT) outcome.push(fragmentId(view), fragmentOffset(view));
    const scratch = Buffer.alloc(65_600);
    const segments = segmentFrame(view, scratch, (_bytes, _offset, length) => outcome.push(length));
    expect(segments).toBeLessThanOrEqual(SEGMENTS_MAX);
    completeChecksum(view);
    writeL4Checksum(view);
    outcome.push(bytes.subarray(MARGIN, MARGIN + frame.length).toString('base64'));
    outcomes.push(outcome);
    const outside = Buffer.concat([
      bytes.subarray(0, MARGIN - vnetHeader.length),
      bytes.subarray(MARGIN + frame.length),
    ]);
    expect(outside.every((byte) => byte === poison)).toBe(true);
  }
  expect(outcomes[1]).toEqual(outcomes[0]);
  expect(outcomes[2]).toEqual(outcomes[0]);
}

function assertInside(view: FrameView): void {
  const offsets = [
    view.network,
    view.l3,
    view.l3End,
    view.l4,
    view.payload,
    view.payload && view.payload + view.payloadBytes,
    view.options,
    view.optionsEnd,
    view.timestamp && view.timestamp + 8,
    view.sack && view.sack + 8 * view.sackBlocks,
  ];
  for (const offset of offsets) {
    if (offset !== 0 && (offset < view.start || offset > view.end)) {
      throw new Error(`an offset outside the frame: ${JSON.stringify(numbers(view))}`);
    }
  }
  if (view.payloadBytes < 0) throw new Error('a negative payload');
}

const vnetHeader = fc.oneof(
  fc.constant(new Uint8Array(0)),
  fc.uint8Array({ minLength: 10, maxLength: 10 }),
  // plausible: small offsets, real GSO types
  fc
    .tuple(
      fc.constantFrom(0, 1, 2, 3),
      fc.constantFrom(0, 1, 3, 4, 5, 0x81),
      fc.nat(600),
      fc.nat(80),
      fc.nat(20),
    )
    .map(([flags, gso, size, start, offset]) =>
      Uint8Array.from([flags, gso, 0, 0, size & 255, size >> 8, start, 0, offset, 0]),
    ),
);

const edits = fc.array(fc.tuple(fc.nat(1 << 16), fc.integer({ min: 0, max: 255 })), { maxLength: 8 });

describe('any bytes', () => {
  it('random ones', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), vnetHeader, exercise), { numRuns: 600 });
  });

  it('valid frames with bytes changed and ends cut', () => {
    fc.assert(
      fc.property(anyFrame, edits, fc.nat(100), vnetHeader, (frame, changes, cut, header) => {
        const bytes = Buffer.from(frame);
        // most of what can lie stands in the first 100 bytes
        for (const [at, value] of changes) bytes[at % Math.min(bytes.length, 100)] = value;
        const end = cut < 50 ? bytes.length : Math.max(0, bytes.length - (cut - 50));
        exercise(bytes.subarray(0, end), header);
      }),
      { numRuns: 1500 },
    );
  });

  it.each([0, 1, 13, 14, 65_535, 65_549, 65_550])(
    '%i bytes of each value that could start something',
    (length) => {
      for (const value of [0x00, 0x08, 0x45, 0x60, 0x81, 0x88, 0xff]) {
        exercise(Buffer.alloc(length, value), new Uint8Array(0));
      }
    },
  );

  it('the longest frame with one-byte segments is refused, not cut into tens of thousands', () => {
    const frame = buildTcp({
      source: '10.0.0.2',
      destination: '10.0.0.1',
      sourcePort: 1,
      destinationPort: 2,
      seq: 0,
      flags: 0x10,
      payload: Buffer.alloc(65_000),
      vnet: { gsoType: 1, gsoBytes: 1 },
    });
    const view = new FrameView();
    parseFrame(frame, 10, frame.length - 10, 10, view);
    expect(segmentFrame(view, Buffer.alloc(65_600), () => expect.unreachable())).toBe(0);
  });
});

describe('plain frames, parsed in one go', () => {
  const plainPlace = {
    source: '10.0.0.2',
    destination: '10.0.0.1',
  };
  const timestamp = fc.option(fc.record({ value: u32, echo: u32 }), { nil: undefined });
  const plainTcp = fc
    .record({
      sourcePort: u16,
      destinationPort: u16,
      seq: u32,
      ack: u32,
      flags: fc.nat(255),
      timestamp,
      payload,
    })
    .map(({ timestamp: stamp, ...tcp }) =>
      buildTcp({ ...plainPlace, ...tcp, ...(stamp === undefined ? {} : { options: { timestamp: stamp } }) }),
    );
  const plainUdp = fc
    .record({ sourcePort: u16, destinationPort: u16, payload })
    .map((udp) => buildUdp({ ...plainPlace, ...udp }));
  const frames = fc.oneof(plainTcp, plainUdp, tcpFields.map(buildTcp), udpFields.map(buildUdp), anyFrame);
  // headers alone: what is behind them decides nothing
  const changes = fc.array(
    // byte 17: the packet's length
    fc.oneof(fc.tuple(fc.nat(70), fc.nat(255)), fc.tuple(fc.constant(17), fc.nat(80))),
    { maxLength: 3 },
  );

  it('are what they are layer by layer, whatever is changed in them or cut off', () => {
    // what the frame before has left in the view must not show
    const view = new FrameView();
    const expected = new FrameView();
    let plain = 0;
    fc.assert(
      fc.property(frames, changes, fc.nat(30), vnetHeader, (frame, list, cut, header) => {
        for (const [at, value] of list) if (at < frame.length) frame[at] = value;
        const length = Math.max(0, frame.length - (cut < 10 ? cut : 0));
        const bytes = placed(frame.subarray(0, length), header, 0x45);
        const vnetHeaderBytes = header.length as 0 | 10;
        parseFrame(bytes, MARGIN, length, vnetHeaderBytes, view);
        expected.bytes = bytes;
        expected.start = MARGIN;
        expected.end = MARGIN + length;
        expected.vnetHeaderBytes = vnetHeaderBytes;
        parseAny(expected);
        expected.partialChecksum = view.partialChecksum;
        expect(numbers(view)).toEqual(numbers(expected));
        if (parsePlain(expected)) plain += 1;
      }),
      { numRuns: 4000 },
    );
    expect(plain).toBeGreaterThan(500);
  });
});

describe('parsing costs no more for worse bytes', () => {
  it('walks option lists and extension headers a bounded number of steps', () => {
    // counts reads, which time cannot on a shared machine
    const count = (frame: Buffer): number => {
      let reads = 0;
      const counted = new Proxy(frame, {
        get(target, key) {
          if (typeof key === 'string' && /^\d+$/.test(key)) reads++;
          return Reflect.get(target, key, target);
        },
      });
      parseFrame(counted as Buffer, 0, frame.length, 0, new FrameView());
      return reads;
    };
    const nops = buildTcp({
      source: 'fd00::1',
      destination: 'fd00::2',
      sourcePort: 1,
      destinationPort: 2,
      seq: 0,
      flags: 2,
      options: { raw: Buffer.alloc(40, 1) },
      ipOptions: Buffer.from(`${'3c00000000000000'.repeat(7999)}0600000000000000`, 'hex'),
      extensionProtocol: 60,
    });
    expect(count(nops)).toBeLessThan(200);
    const short = buildTcp({
      source: '10.0.0.1',
      destination: '10.0.0.2',
      sourcePort: 1,
      destinationPort: 2,
      seq: 0,
      flags: 2,
      options: { raw: Buffer.alloc(40, 1) },
    });
    expect(count(short)).toBeLessThan(150);
  });
});
