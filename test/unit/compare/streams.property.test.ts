/**
 * For any stream and any difference that two copies of one guest may show, everything leaves unchanged and in order;
 * with one byte different there is one divergence, at that byte, and nothing from there on leaves before a commit.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ACK, FIN, Guest, Harness, PSH } from './harness.js';

/** Every byte of a stream may be a frame of its own, on both sides. */
const ROOMY = { heldFramesMax: 16_384 };

interface Plan {
  readonly stream: Uint8Array;
  readonly primaryIsn: number;
  readonly secondaryIsn: number;
  readonly tsPrimary: number;
  readonly tsSecondary: number;
  readonly cutsPrimary: readonly number[];
  readonly cutsSecondary: readonly number[];
  /** Repeats by index, moves as [from, by]. */
  readonly repeatsPrimary: readonly number[];
  readonly repeatsSecondary: readonly number[];
  readonly movesPrimary: readonly (readonly [number, number])[];
  readonly movesSecondary: readonly (readonly [number, number])[];
  /** Which side goes next, again and again. */
  readonly turns: readonly boolean[];
  readonly acknowledgesEvery: number;
  readonly windowSecondary: number;
  readonly ipv6: boolean;
  readonly fin: boolean;
}

const u32 = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0xfffff000, max: 0xffffffff }),
);
const STREAM_BYTES_MAX = 6000;
/** Fewer segments than are walked to find the place of one out of order: beyond them a guest gets a checkpoint. */
const cuts = fc
  .array(fc.integer({ min: 1, max: 1448 }), { minLength: 1, maxLength: 20 })
  .filter(
    (lengths) => lengths.reduce((sum, length) => sum + length) * 1000 >= STREAM_BYTES_MAX * lengths.length,
  );
const plan: fc.Arbitrary<Plan> = fc.record({
  stream: fc.uint8Array({ minLength: 1, maxLength: STREAM_BYTES_MAX }),
  primaryIsn: u32,
  secondaryIsn: u32,
  tsPrimary: u32,
  tsSecondary: u32,
  cutsPrimary: cuts,
  cutsSecondary: cuts,
  repeatsPrimary: fc.array(fc.nat(50), { maxLength: 4 }),
  repeatsSecondary: fc.array(fc.nat(50), { maxLength: 4 }),
  movesPrimary: fc.array(fc.tuple(fc.nat(50), fc.integer({ min: -3, max: 3 })), { maxLength: 4 }),
  movesSecondary: fc.array(fc.tuple(fc.nat(50), fc.integer({ min: -3, max: 3 })), { maxLength: 4 }),
  turns: fc.array(fc.boolean(), { minLength: 2, maxLength: 40 }),
  acknowledgesEvery: fc.integer({ min: 1, max: 5 }),
  windowSecondary: fc.integer({ min: 1000, max: 65535 }),
  ipv6: fc.boolean(),
  fin: fc.boolean(),
});

interface Piece {
  readonly from: number;
  readonly to: number;
  readonly frame: Buffer;
}

function pieces(
  guest: Guest,
  stream: Uint8Array,
  cuts: readonly number[],
  fin: boolean,
  window: number,
): Piece[] {
  const list: Piece[] = [];
  for (let from = 0, index = 0; from < stream.length; index += 1) {
    const to = Math.min(stream.length, from + cuts[index % cuts.length]!);
    const isLast = to === stream.length;
    const frame = guest.frame({
      at: 1 + from,
      data: stream.subarray(from, to),
      flags: ACK | PSH | (isLast && fin ? FIN : 0),
      id: index,
      window,
      options: { timestamp: { value: (guest.tsBase + index) >>> 0, echo: 5 } },
    });
    list.push({ from, to: isLast && fin ? to + 1 : to, frame });
    from = to;
  }
  return list;
}

function disturb(
  list: Piece[],
  repeats: readonly number[],
  moves: readonly (readonly [number, number])[],
): Piece[] {
  const result = [...list];
  for (const index of repeats) result.push(result[index % result.length]!);
  for (const [from, by] of moves) {
    const at = from % result.length;
    const [moved] = result.splice(at, 1);
    result.splice(Math.max(0, Math.min(result.length, at + by)), 0, moved!);
  }
  return result;
}

function play(harness: Harness, plan: Plan, secondaryStream: Uint8Array): { primary: Piece[]; p: Guest } {
  const p = new Guest(plan.primaryIsn, plan.tsPrimary, { ipv6: plan.ipv6 });
  const s = new Guest(plan.secondaryIsn, plan.tsSecondary, { ipv6: plan.ipv6 });
  harness.primary(p.synAck());
  harness.secondary(s.synAck({}, plan.windowSecondary));
  const primary = disturb(
    pieces(p, plan.stream, plan.cutsPrimary, plan.fin, 1000),
    plan.repeatsPrimary,
    plan.movesPrimary,
  );
  const secondary = disturb(
    pieces(s, secondaryStream, plan.cutsSecondary, plan.fin, plan.windowSecondary),
    plan.repeatsSecondary,
    plan.movesSecondary,
  );
  let atPrimary = 0;
  let atSecondary = 0;
  for (let turn = 0; atPrimary < primary.length || atSecondary < secondary.length; turn += 1) {
    const primaryNext = plan.turns[turn % plan.turns.length]!;
    if ((primaryNext && atPrimary < primary.length) || atSecondary === secondary.length) {
      harness.primary(primary[atPrimary]!.frame);
      atPrimary += 1;
    } else {
      harness.secondary(secondary[atSecondary]!.frame);
      atSecondary += 1;
    }
    if (turn % plan.acknowledgesEvery === 0) acknowledge(harness, p);
  }
  return { primary, p };
}

/** The client acknowledges what it has got without a hole. */
function acknowledge(harness: Harness, p: Guest): void {
  let have = 0;
  for (let grown = true; grown; ) {
    grown = false;
    for (const { view } of harness.released) {
      const from = (view.seq - p.isn) | 0;
      const to = from + view.seqLength();
      if (from <= have && to > have) {
        have = to;
        grown = true;
      }
    }
  }
  if (have > 0) harness.client(p.fromClient({ at: 1, ack: have }));
}

describe('streams', () => {
  it('leave unchanged and in the primary order, whatever differs between equal guests', () => {
    fc.assert(
      fc.property(plan, (plan) => {
        const harness = new Harness(ROOMY);
        const { primary } = play(harness, plan, plan.stream);
        expect(harness.divergences).toEqual([]);
        const left = harness.released.slice(1).map((frame) => frame.bytes.toString('hex'));
        expect(left).toEqual(primary.map((piece) => piece.frame.toString('hex')));
        expect(harness.comparator.heldFrames).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it('with one byte different diverge once, there, and nothing from there on leaves before a commit', () => {
    fc.assert(
      fc.property(plan, fc.nat(), fc.integer({ min: 1, max: 255 }), (plan, where, bits) => {
        const harness = new Harness(ROOMY);
        const at = where % plan.stream.length;
        const other = Uint8Array.from(plan.stream);
        other[at]! ^= bits;
        const { primary } = play(harness, plan, other);
        expect(harness.divergences.map(({ reason, offset }) => ({ reason, offset }))).toEqual([
          { reason: 'payload', offset: at },
        ]);
        expect(harness.divergences[0]!.primaryBytes[0]).toBe(plan.stream[at]);
        expect(harness.divergences[0]!.secondaryBytes[0]).toBe(other[at]);
        const blocked = primary.findIndex((piece) => piece.from <= at && piece.to > at);
        const expected = primary.slice(0, blocked).map((piece) => piece.frame.toString('hex'));
        expect(harness.released.slice(1).map((frame) => frame.bytes.toString('hex'))).toEqual(expected);
        harness.take();
        harness.commit();
        expect(harness.released.map((frame) => frame.bytes.toString('hex'))).toEqual(
          primary.slice(blocked).map((piece) => piece.frame.toString('hex')),
        );
        expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
