/** Arena, hold store, released record and lag estimate. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena, BLOCK_BYTES_MAX } from '../../../src/compare/arena.js';
import { LagEstimate } from '../../../src/compare/lag.js';
import { ReleasedRecord } from '../../../src/compare/released-record.js';
import { FlowState, SLOT_WORDS } from '../../../src/flow/flow-state.js';
import { FLOW_KEY_WORDS } from '../../../src/wire/flow-key.js';

describe('Arena', () => {
  it('gives blocks that never overlap, whatever is taken and given back, and stays within its bound', () => {
    const step = fc.tuple(fc.integer({ min: 1, max: BLOCK_BYTES_MAX }), fc.boolean(), fc.nat());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const arena = new Arena(2 << 20);
        const held: { address: number; bytes: number; mark: number }[] = [];
        let mark = 0;
        for (const [bytes, release, pick] of steps) {
          if (release && held.length > 0) {
            const [block] = held.splice(pick % held.length, 1);
            const at = arena.offset(block!.address);
            const content = arena.buffer(block!.address).subarray(at, at + block!.bytes);
            expect(content.every((byte) => byte === block!.mark)).toBe(true);
            arena.free(block!.address);
            continue;
          }
          const address = arena.allocate(bytes);
          if (address === -1) continue;
          mark = (mark + 1) & 0xff;
          const at = arena.offset(address);
          arena.buffer(address).fill(mark, at, at + bytes);
          held.push({ address, bytes, mark });
        }
        expect(arena.reservedBytes).toBeLessThanOrEqual(8 << 20);
      }),
      { numRuns: 60 },
    );
  });

  it('lends an empty chunk to another size', () => {
    const arena = new Arena(1 << 20);
    for (const bytes of [200, 600, 1500, 4000, 16_000, 66_000, 200]) {
      const blocks: number[] = [];
      for (let address = arena.allocate(bytes); address !== -1; address = arena.allocate(bytes))
        blocks.push(address);
      expect(blocks.length * bytes).toBeGreaterThan(100_000);
      for (const address of blocks) arena.free(address);
    }
    expect(arena.allocate(BLOCK_BYTES_MAX + 1)).toBe(-1);
  });
});

/** The slot of the second flow; the first one's is 0. */
const OTHER = SLOT_WORDS;

function twoFlows(): FlowState {
  const state = new FlowState(2);
  for (const slot of [0, OTHER]) state.reset(slot, new Int32Array(FLOW_KEY_WORDS), 0, 0);
  return state;
}

describe('ReleasedRecord', () => {
  it('knows the newest bytes of every flow, tells what differs, and forgets what the client has', () => {
    const state = twoFlows();
    const record = new ReleasedRecord(state, 1000);
    const stream = Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 7) & 0xff));
    for (let at = 0; at < 5000; at += 100) record.append(at % 200 === 0 ? 0 : OTHER, at, stream, at, 100);
    expect(record.check(0, 100, stream, 100, 50)).toBe(0);
    expect(record.check(0, 4810, stream, 4810, 500)).toBe(90);
    expect(record.check(OTHER, 4900, stream, 4900, 100)).toBe(100);
    const other = Buffer.from(stream);
    other[4950]! ^= 1;
    expect(record.check(OTHER, 4900, other, 4900, 100)).toBe(-51);
    expect([...record.excerpt(OTHER, 4950, 2)]).toEqual([...stream.subarray(4950, 4952)]);
    record.trim(OTHER, 5000);
    expect(record.check(OTHER, 4900, stream, 4900, 100)).toBe(0);
    record.forget(0);
    expect(record.check(0, 4810, stream, 4810, 500)).toBe(0);
    // the ring goes on over what was forgotten
    for (let at = 0; at < 5000; at += 70) record.append(0, at, stream, at, Math.min(70, 5000 - at));
    expect(record.check(0, 4970, stream, 4970, 30)).toBe(30);
  });

  it('agrees with a list that remembers everything', () => {
    const entry = fc.tuple(fc.nat(1), fc.integer({ min: 1, max: 90 }), fc.nat(20));
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 80 }), (entries) => {
        const state = twoFlows();
        const record = new ReleasedRecord(state, 300);
        const streams = [Buffer.alloc(8000, 1), Buffer.alloc(8000, 2)];
        const ends = [0, 0];
        for (const [flow, length, trims] of entries) {
          record.append(flow * OTHER, ends[flow]!, streams[flow]!, ends[flow]!, length);
          ends[flow]! += length;
          if (trims === 0) record.trim(flow * OTHER, ends[flow]! - 5);
          // the newest bytes are always there, and are the flow's own
          const back = Math.min(5, length);
          expect(
            record.check(flow * OTHER, ends[flow]! - back, streams[flow]!, ends[flow]! - back, back),
          ).toBe(back);
          expect(record.check(flow * OTHER, ends[flow]! - back, streams[1 - flow]!, 0, back)).toBe(-1);
        }
      }),
    );
  });
});

describe('ReleasedRecord of clients that acknowledge', () => {
  it('begins its ring anew when nothing is left, and loses and mixes up nothing', () => {
    const streams = [0, 1].map((flow) =>
      Buffer.from(Array.from({ length: 9000 }, (_, index) => (index * 7 + (index >> 5) + flow * 101) & 0xff)),
    );
    const entry = fc.tuple(fc.nat(1), fc.integer({ min: 1, max: 90 }), fc.nat(5));
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 90 }), (entries) => {
        const state = twoFlows();
        const record = new ReleasedRecord(state, 300);
        const ends = [0, 0];
        const all: { flow: number; from: number; length: number; isLive: boolean }[] = [];
        for (const [flow, length, ack] of entries) {
          record.append(flow * OTHER, ends[flow]!, streams[flow]!, ends[flow]!, length);
          all.push({ flow, from: ends[flow]!, length, isLive: true });
          ends[flow]! += length;
          let younger = 0;
          for (const one of [...all].reverse()) {
            const same = record.check(one.flow * OTHER, one.from, streams[one.flow]!, one.from, one.length);
            // no entry wraps: up to one entry's length is lost at the end of the ring
            const mayBeLost = !one.isLive || younger + one.length > 300 - 90;
            expect(same === one.length || (same === 0 && mayBeLost)).toBe(true);
            younger += one.length;
          }
          const acknowledged = ack === 0 ? [flow] : ack === 1 ? [0, 1] : [];
          for (const which of acknowledged) record.trim(which * OTHER, ends[which]!);
          for (const one of all) one.isLive &&= !acknowledged.includes(one.flow);
        }
      }),
    );
  });
});

describe('LagEstimate', () => {
  it('waits for the ceiling without samples, and between floor and ceiling with them', () => {
    const lag = new LagEstimate({ holdMsMin: 50, holdMsMax: 1000 });
    lag.refresh();
    expect(lag.holdMs).toBe(1000);
    for (let index = 0; index < 100; index += 1) lag.sample(0.2);
    lag.refresh();
    expect(lag.holdMs).toBe(50);
    for (let index = 0; index < 20_000; index += 1) lag.sample(40);
    lag.refresh();
    expect(lag.holdMs).toBeGreaterThan(150);
    expect(lag.holdMs).toBeLessThan(250);
    for (let index = 0; index < 20; index += 1) lag.sample(1e9);
    lag.refresh();
    expect(lag.holdMs).toBeLessThan(250);
    for (let index = 0; index < 3000; index += 1) lag.sample(1e9);
    lag.refresh();
    expect(lag.holdMs).toBe(1000);
  });
});
