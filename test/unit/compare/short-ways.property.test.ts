/** The short ways of comparing say, release and remember what the long way does, whatever the traffic. */
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { TcpMatch } from '../../../src/compare/tcp-match.js';
import { ShortWay, TcpShortWay } from '../../../src/compare/tcp-short-way.js';
import type { TcpOptions } from '../../../src/wire/build.js';
import { ACK, established, FIN, Guest, Harness, PSH, RST, SYN, URG } from './harness.js';

const POSITIONS = 24;
const contents = Buffer.from(Array.from({ length: 64 }, (_, index) => index + 1));

const stamped = (value: number): TcpOptions => ({ timestamp: { value, echo: 1 } });
const segment = fc.record({
  at: fc.integer({ min: 0, max: POSITIONS }),
  length: fc.integer({ min: 0, max: 6 }),
  flags: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(ACK, ACK | PSH) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(0, ACK | FIN, ACK | RST, RST, ACK | URG, SYN | ACK, ACK | PSH | FIN),
    },
  ),
  ack: fc.integer({ min: 1, max: 6 }),
  window: fc.oneof({ weight: 3, arbitrary: fc.constant(1000) }, fc.integer({ min: 0, max: 2000 })),
  options: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom<TcpOptions>({}, stamped(5), stamped(6), stamped(7)) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<TcpOptions>(
        { sack: [[5_000_003, 5_000_005]] },
        { ...stamped(6), sack: [[5_000_003, 5_000_005]] },
        { md5: Buffer.alloc(16) },
      ),
    },
  ),
  /** Flags that the secondary's segment has alone, or lacks. */
  otherFlags: fc.oneof(
    { weight: 20, arbitrary: fc.constant(0) },
    fc.constantFrom<number>(FIN, URG, PSH, RST),
  ),
  differs: fc.integer({ min: 0, max: 40 }).map((number) => number === 0),
});
/** `both` say the same, the primary first or the secondary. The rest goes on where the side stopped: most traffic is in order. */
const step = fc.oneof(
  { weight: 12, arbitrary: fc.tuple(fc.constantFrom('primary', 'secondary'), fc.boolean(), segment) },
  { weight: 12, arbitrary: fc.tuple(fc.constant('both'), fc.boolean(), segment) },
  { weight: 8, arbitrary: fc.tuple(fc.constant('cut'), fc.boolean(), segment) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('client'), fc.boolean(), segment) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom('wait', 'commit', 'buffer', 'alone', 'adopt'), fc.boolean(), segment),
  },
);
type Segment = typeof segment extends fc.Arbitrary<infer T> ? T : never;
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Which number a frame got is nobody's business; whether there is one is. */
const FRAMES = /^(primary|secondary)(First|Last)$|^ackFrameSecondary$|^owedFrame$/;
const told = (name: string, value: number) => (FRAMES.test(name) ? value !== -1 : value);

/** How the connection began; `wrapping`: its positions pass 2^32, and 2^31 on the other side. */
const openings = fc.constantFrom('handshake', 'wrapping', 'mid-stream');
type Opening = typeof openings extends fc.Arbitrary<infer T> ? T : never;

function open(harness: Harness, opening: Opening): { readonly p: Guest; readonly s: Guest } {
  if (opening === 'mid-stream') return { p: new Guest(1_000_000), s: new Guest(1_000_000) };
  return opening === 'wrapping' ? established(harness, 2 ** 32 - 12, 2 ** 31 - 12) : established(harness);
}

/** Everything that can be seen of a comparator after every step. */
function play(opening: Opening, steps: readonly Step[]): string {
  const harness = new Harness();
  const guests = open(harness, opening);
  const next = { primary: 1, secondary: 1 };
  const seen: unknown[] = [];
  const { comparator, flows } = harness;
  const columns = Object.entries(flows.state).filter(([, column]) => ArrayBuffer.isView(column));
  const send = (
    side: 'primary' | 'secondary',
    at: number,
    { length, flags, differs, ...fields }: Segment,
  ) => {
    const data = Buffer.from(contents.subarray(at, at + length));
    if (differs && data.length > 0) data[0] = 0xff;
    next[side] = Math.max(next[side], at + length);
    const frame = (side === 'primary' ? guests.p : guests.s).frame({ ...fields, at, data, flags });
    if (side === 'primary') return harness.primary(frame);
    harness.secondary(frame);
    return -1;
  };
  for (const [what, goesOn, fields] of steps) {
    const { at, flags } = fields;
    let verdict = -1;
    if (what === 'primary' || what === 'secondary') {
      verdict = send(what, goesOn ? next[what] : at, fields);
    } else if (what === 'both') {
      const from = next.primary;
      const others = { ...fields, flags: flags ^ fields.otherFlags, differs: false };
      if (!goesOn) send('secondary', from, others);
      verdict = send('primary', from, fields);
      if (goesOn) send('secondary', from, others);
    } else if (what === 'cut') {
      // the same bytes, by the secondary in two segments: in three of four cases the second ends where the primary's does
      const from = next.primary;
      const half = Math.floor(fields.length / 2);
      const rest = { ...fields, length: fields.length - half + (at % 4 === 0 ? 1 : 0), differs: false };
      if (goesOn) verdict = send('primary', from, fields);
      send('secondary', from, { ...fields, length: half, differs: false });
      send('secondary', from + half, rest);
      if (!goesOn) verdict = send('primary', from, fields);
    } else if (what === 'client') {
      harness.client(guests.p.fromClient({ at: 1, ack: at, flags: flags & ~(SYN | RST) }));
    } else if (what === 'wait') {
      harness.pass(goesOn ? 10 : 1200);
    } else if (what === 'commit') {
      harness.commit();
    } else if (what === 'buffer') {
      comparator.buffersOnly = goesOn;
    } else if (what === 'alone') {
      comparator.releaseAllPrimary(harness.nowMs);
    } else {
      comparator.adoptSecondary();
      comparator.takeSecondary(() => {});
    }
    seen.push([what, verdict]);
    seen.push(harness.take().map(({ bytes, reason, heldMs }) => [bytes.toString('hex'), reason, heldMs]));
    seen.push(harness.divergences.map(({ reason, offset }) => [reason, offset]));
    seen.push([comparator.heldFrames, comparator.keptFrames, comparator.lagMs, [...comparator.unstorable]]);
    seen.push([comparator.secondaryDuplicates, comparator.heldBytes, comparator.keptBytes]);
    seen.push(columns.map(([name, column]) => [name, told(name, (column as Int32Array)[0]!)]));
  }
  return JSON.stringify(seen);
}

const plain: Segment = {
  at: 0,
  length: 4,
  flags: ACK,
  ack: 1,
  window: 1000,
  options: {},
  otherFlags: 0,
  differs: false,
};
const end: Segment = { ...plain, flags: ACK | FIN };
/** Both have ended, and the primary goes on nevertheless. */
const dataBehindTheEnd: Step[] = [
  ['secondary', true, end],
  ['primary', true, end],
  ['primary', false, { ...plain, at: 6 }],
];
/** In a flow without beginning. */
const synOfOne: Step[] = [
  ['both', true, plain],
  ['secondary', true, { ...plain, flags: SYN | ACK, length: 0 }],
  ['both', true, plain],
];
/** The client acknowledges what was released beyond a hole, and the hole. */
const holeThatWasFilled: Step[] = [
  ['both', true, plain],
  ['secondary', false, { ...plain, at: 8 }],
  ['primary', false, { ...plain, at: 8 }],
  ['client', true, { ...plain, at: 12 }],
  ['both', true, plain],
];

afterEach(() => vi.restoreAllMocks());

/** A way that fewer plays than this took is not tested. A quarter of the rarest's mean: random plays never fall below. */
const LEAST = 30;

const examples: [Opening, Step[]][] = [
  ['handshake', dataBehindTheEnd],
  ['mid-stream', synOfOne],
  ['handshake', holeThatWasFilled],
];
const plays = [openings, fc.noBias(fc.array(step, { minLength: 1, maxLength: 40 }))] as const;

describe('short ways', () => {
  it('new data that waits for the secondary is not judged', () => {
    const taken = vi.spyOn(TcpMatch.prototype, 'awaitsData');
    let shortened = 0;
    fc.assert(
      fc.property(...plays, (opening, steps) => {
        taken.mockReset();
        const short = play(opening, steps);
        shortened += taken.mock.results.filter(({ value }) => value === true).length;
        taken.mockReturnValue(false);
        expect(short).toBe(play(opening, steps));
      }),
      { numRuns: 200, examples },
    );
    expect(shortened).toBeGreaterThan(LEAST);
  });

  it("the secondary's segment that ends the primary's held one is judged by what it needs alone", () => {
    const taken = vi.spyOn(TcpShortWay.prototype, 'secondary');
    let shortened = 0;
    fc.assert(
      fc.property(...plays, (opening, steps) => {
        taken.mockReset();
        const short = play(opening, steps);
        shortened += taken.mock.results.filter(({ value }) => value === true).length;
        taken.mockReturnValue(false);
        expect(short).toBe(play(opening, steps));
      }),
      { numRuns: 600, examples },
    );
    expect(shortened).toBeGreaterThan(LEAST);
  });

  it.each(['primary', 'held'] as const)('so is data that others are kept of: %s', (name) => {
    const taken = vi.spyOn(TcpShortWay.prototype, name);
    const shortened: Record<number, number> = { [ShortWay.LEFT]: 0, [ShortWay.WAITS]: 0 };
    fc.assert(
      fc.property(...plays, (opening, steps) => {
        taken.mockReset();
        const short = play(opening, steps);
        for (const { value } of taken.mock.results) {
          shortened[value as ShortWay] = (shortened[value as ShortWay] ?? 0) + 1;
        }
        taken.mockReturnValue(ShortWay.DECLINED);
        expect(short).toBe(play(opening, steps));
      }),
      { numRuns: 600, examples },
    );
    expect(shortened[ShortWay.LEFT]).toBeGreaterThan(LEAST);
    expect(shortened[ShortWay.WAITS]).toBeGreaterThan(LEAST);
  });
});
