/** The short ways of comparing say, release and remember what the long way does, whatever the traffic. */
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { TcpMatch } from '../../../src/compare/tcp-match.js';
import { ACK, established, FIN, Harness, PSH, RST, SYN, URG } from './harness.js';

const POSITIONS = 24;
const contents = Buffer.from(Array.from({ length: 64 }, (_, index) => index + 1));

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
  differs: fc.integer({ min: 0, max: 40 }).map((number) => number === 0),
});
/** The rest goes on where the side stopped: most traffic is in order. */
const step = fc.oneof(
  { weight: 12, arbitrary: fc.tuple(fc.constantFrom('primary', 'secondary'), fc.boolean(), segment) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('client'), fc.boolean(), segment) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom('wait', 'commit', 'alone', 'adopt'), fc.boolean(), segment),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Everything that can be seen of a comparator after every step. */
function play(steps: readonly Step[]): string {
  const harness = new Harness();
  const guests = established(harness);
  const next = { primary: 1, secondary: 1 };
  const seen: unknown[] = [];
  const { comparator, flows } = harness;
  const columns = Object.entries(flows.state).filter(([, column]) => ArrayBuffer.isView(column));
  for (const [what, goesOn, { at, length, flags, ack, differs }] of steps) {
    let verdict = -1;
    if (what === 'primary' || what === 'secondary') {
      const from = goesOn ? next[what] : at;
      const data = Buffer.from(contents.subarray(from, from + length));
      if (differs && data.length > 0) data[0] = 0xff;
      next[what] = Math.max(next[what], from + length);
      const frame = (what === 'primary' ? guests.p : guests.s).frame({ at: from, data, flags, ack });
      if (what === 'primary') verdict = harness.primary(frame);
      else harness.secondary(frame);
    } else if (what === 'client') {
      harness.client(guests.p.fromClient({ at: 1, ack: at, flags: flags & ~(SYN | RST) }));
    } else if (what === 'wait') {
      harness.pass(goesOn ? 10 : 1200);
    } else if (what === 'commit') {
      harness.commit();
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
    seen.push(columns.map(([name, column]) => [name, (column as Int32Array)[0]]));
  }
  return JSON.stringify(seen);
}

const told = { at: 0, length: 4, flags: ACK | FIN, ack: 1, differs: false };
/** Both have ended, and the primary goes on nevertheless. */
const dataBehindTheEnd: Step[] = [
  ['secondary', true, told],
  ['primary', true, told],
  ['primary', false, { ...told, at: 6, flags: ACK }],
];

afterEach(() => vi.restoreAllMocks());

describe('short ways', () => {
  it('new data that waits for the secondary is not judged', () => {
    const taken = vi.spyOn(TcpMatch.prototype, 'awaitsData');
    let shortened = 0;
    fc.assert(
      fc.property(fc.noBias(fc.array(step, { minLength: 1, maxLength: 40 })), (steps) => {
        taken.mockReset();
        const short = play(steps);
        shortened += taken.mock.results.filter(({ value }) => value === true).length;
        taken.mockReturnValue(false);
        expect(short).toBe(play(steps));
      }),
      { numRuns: 200, examples: [[dataBehindTheEnd]] },
    );
    expect(shortened).toBeGreaterThan(30);
  });
});
