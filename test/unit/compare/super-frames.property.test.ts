/**
 * T18: for any cuts of one stream into super-frames on either side, in any batches, every byte leaves once, in order, as a
 * sound frame, when both VMs have said it and not before; and of what differs nothing leaves before a commit.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildTcp } from '../../../src/wire/build.js';
import { pseudoHeaderSum } from '../../../src/wire/checksum.js';
import { ACK, established, FIN, type Guest, Harness, PSH, type Released } from './harness.js';

const MSS = 100;
const TCPV4 = 1;

const u32 = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0xfffff000, max: 0xffffffff }),
);
const plan = fc.record({
  stream: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
  primaryIsn: u32,
  secondaryIsn: u32,
  cutsPrimary: fc.array(fc.integer({ min: 20, max: 1500 }), { minLength: 1, maxLength: 12 }),
  cutsSecondary: fc.array(fc.integer({ min: 20, max: 1500 }), { minLength: 1, maxLength: 12 }),
  /** Which side goes next, and how many frames of it are one batch. */
  turns: fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 4 })), { minLength: 2, maxLength: 30 }),
  fin: fc.boolean(),
  acknowledges: fc.boolean(),
});
type Plan = typeof plan extends fc.Arbitrary<infer T> ? T : never;

interface Piece {
  readonly from: number;
  readonly to: number;
  readonly frame: Buffer;
}

function superFrames(guest: Guest, stream: Uint8Array, cuts: readonly number[], fin: boolean): Piece[] {
  const list: Piece[] = [];
  for (let from = 0; from < stream.length; ) {
    const to = Math.min(stream.length, from + cuts[list.length % cuts.length]!);
    const isLast = to === stream.length;
    const frame = buildTcp({
      source: '10.0.0.2',
      destination: '10.0.0.1',
      sourcePort: guest.ports.guest,
      destinationPort: guest.ports.client,
      seq: (guest.isn + 1 + from) >>> 0,
      ack: guest.clientIsn + 1,
      flags: ACK | PSH | (isLast && fin ? FIN : 0),
      window: 1000,
      id: list.length,
      payload: stream.subarray(from, to),
      checksum: 'partial',
      vnet: to - from > MSS ? { gsoType: TCPV4, gsoBytes: MSS, headerBytes: 54 } : { headerBytes: 54 },
    });
    list.push({ from, to, frame });
    from = to;
  }
  return list;
}

/** What has left is the stream's next bytes, as a guest's own frame would hold them. Returns where it ends. */
function follow(released: Released[], isn: number, stream: Uint8Array, begun: number): number {
  let at = begun;
  for (const { view, bytes } of released) {
    const { start, end, l4, payload, payloadBytes } = view;
    expect((view.seq - isn - 1) | 0).toBe(at);
    expect(Buffer.compare(bytes.subarray(payload, end), stream.subarray(at, at + payloadBytes))).toBe(0);
    expect(end - payload).toBe(payloadBytes);
    expect(bytes.readUInt16BE(l4 + 16)).toBe(pseudoHeaderSum(view, 6, end - l4));
    expect([bytes[1], bytes.readUInt16LE(4)]).toEqual(payloadBytes > MSS ? [TCPV4, MSS] : [0, 0]);
    expect(bytes.readUInt16LE(2)).toBe(payload - start);
    at += payloadBytes;
    if (at < stream.length) expect(view.tcpFlags & FIN).toBe(0);
  }
  return at;
}

/** Plays the plan; returns how far the stream has left. `seen` is asked after each batch. */
function play(
  plan: Plan,
  secondaryStream: Uint8Array,
  seen: (left: number, said: { primary: Piece[]; secondary: number }) => void,
): { harness: Harness; p: Guest; left: number } {
  const harness = new Harness();
  const { p, s } = established(harness, plan.primaryIsn, plan.secondaryIsn);
  harness.vnetHeaderBytes = 10;
  const primary = superFrames(p, plan.stream, plan.cutsPrimary, plan.fin);
  const secondary = superFrames(s, secondaryStream, plan.cutsSecondary, plan.fin);
  const at = { primary: 0, secondary: 0 };
  let left = 0;
  for (let turn = 0; at.primary < primary.length || at.secondary < secondary.length; turn += 1) {
    const [isPrimary, frames] = plan.turns[turn % plan.turns.length]!;
    const list = isPrimary ? primary : secondary;
    const side = isPrimary ? 'primary' : 'secondary';
    // a plan in which one side never comes again must end, too
    const isDone = at[side] === list.length || (turn > 1000 && !plan.turns.some(([is]) => is !== isPrimary));
    const next = isDone ? (isPrimary ? 'secondary' : 'primary') : side;
    for (let n = 0; n < frames; n += 1) {
      const piece = (next === 'primary' ? primary : secondary)[at[next]];
      if (piece === undefined) break;
      harness[next](piece.frame);
      at[next] += 1;
    }
    harness.comparator.endBatch(harness.nowMs);
    left = follow(harness.take(), p.isn, plan.stream, left);
    seen(left, {
      primary: primary.slice(0, at.primary),
      secondary: secondary[at.secondary - 1]?.to ?? 0,
    });
    if (plan.acknowledges && left > 0) {
      harness.vnetHeaderBytes = 0;
      harness.client(p.fromClient({ at: 1, ack: 1 + left }));
      harness.vnetHeaderBytes = 10;
    }
  }
  return { harness, p, left };
}

describe('super-frames', () => {
  it('leave byte for byte as soon as whole segments of them were said by both, and never before', () => {
    fc.assert(
      fc.property(plan, (plan) => {
        const { harness, left } = play(plan, plan.stream, (left, { primary, secondary }) => {
          const said = Math.min(primary.at(-1)?.to ?? 0, secondary);
          expect(left).toBeLessThanOrEqual(said);
          // of the frame that was said in part, what is left is less than a segment, and more than nothing of the whole
          const begun = primary.find(({ from, to }) => from <= said && said < to);
          if (begun !== undefined) expect(said - left).toBeLessThan(MSS);
        });
        expect(left).toBe(plan.stream.length);
        expect(harness.divergences).toEqual([]);
        expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
        expect(harness.comparator.heldBytes).toBe(0);
      }),
      { numRuns: 150 },
    );
  });

  it('with one byte different leave up to there, and the rest of the primary’s at the commit', () => {
    fc.assert(
      fc.property(plan, fc.nat(), fc.integer({ min: 1, max: 255 }), (plan, where, bits) => {
        const at = where % plan.stream.length;
        const other = Uint8Array.from(plan.stream);
        other[at]! ^= bits;
        const { harness, p, left } = play(plan, other, (left) => expect(left).toBeLessThanOrEqual(at));
        expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['payload', at]]);
        harness.commit();
        expect(follow(harness.take(), p.isn, plan.stream, left)).toBe(plan.stream.length);
        expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
        expect(harness.comparator.heldBytes).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
