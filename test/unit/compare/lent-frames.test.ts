/** Frames that are held in the slab they were received in: the same as if they had been copied at once. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HoldLimits, HoldStore, NONE, Side } from '../../../src/compare/hold-store.js';
import type { FrameBytes } from '../../../src/wire/frame-memory.js';
import { FrameView } from '../../../src/wire/frame-view.js';

const LIMITS: HoldLimits = { heldFramesMax: 64, heldBytesMax: 1 << 20 };
const VNET = 10;
const SLAB_BYTES = 8192;
const HEADER_BYTES = 54;

/** What the store should say of a frame. */
interface Expected {
  readonly side: Side;
  frame: Buffer;
  payloadAt: number;
}

function viewOf(slab: Buffer, at: number, length: number): FrameView {
  const view = new FrameView();
  view.bytes = slab;
  view.vnetHeaderBytes = VNET;
  view.start = at + VNET;
  view.end = view.start + length;
  view.payload = view.start + HEADER_BYTES;
  view.payloadBytes = length - HEADER_BYTES;
  return view;
}

function bytesOf(store: HoldStore, frame: number): Buffer {
  const start = store.start(frame) - store.vnetHeaderBytes(frame);
  return Buffer.from(store.buffer(frame).subarray(start, start + store.storedBytes(frame)));
}

describe('frames held where they were received', () => {
  const batch = fc.record({
    slab: fc.nat(2),
    side: fc.constantFrom(Side.PRIMARY, Side.SECONDARY),
    lengths: fc.array(fc.integer({ min: 60, max: 3000 }), { maxLength: 4 }),
    /** Which held frames go, and of which a front part goes. */
    gone: fc.array(fc.nat(30), { maxLength: 6 }),
    cut: fc.nat(30),
  });

  it('keep their bytes when the slab is overwritten, whatever has gone meanwhile', () => {
    fc.assert(
      fc.property(fc.array(batch, { maxLength: 30 }), fc.nat(255), (batches, salt) => {
        const store = new HoldStore(LIMITS);
        const slabs = Array.from({ length: 3 }, () => Buffer.alloc(SLAB_BYTES) as FrameBytes);
        const model = new Map<number, Expected>();
        for (const [turn, { slab: which, side, lengths, gone, cut }] of batches.entries()) {
          const slab = slabs[which]!;
          store.bring(slab);
          expect(store.keeps(slab)).toBe(false);
          slab.fill(salt + turn);
          store.borrow(slab);
          let at = 0;
          for (const [index, length] of lengths.entries()) {
            if (at + VNET + length > SLAB_BYTES) break;
            slab.fill(salt + turn * 7 + index, at, at + VNET + length);
            const frame = store.add(viewOf(slab, at, length), side, 0, turn);
            if (frame === NONE) break;
            const expected = Buffer.from(slab.subarray(at, at + VNET + length));
            model.set(frame, { side, frame: expected, payloadAt: VNET + HEADER_BYTES });
            if (length >= 1024) expect(store.buffer(frame)).toBe(slab);
            at += VNET + length;
          }
          store.borrow(null);
          for (const pick of gone) {
            const frame = [...model.keys()][pick];
            if (frame === undefined) continue;
            store.remove(frame);
            model.delete(frame);
          }
          const shortened = [...model.keys()][cut];
          const known = shortened === undefined ? undefined : model.get(shortened);
          if (shortened !== undefined && known !== undefined && known.frame.length > 200) {
            const headers = Buffer.alloc(known.payloadAt, 0xee);
            store.dropFront(shortened, 100, headers);
            known.frame = Buffer.concat([headers, known.frame.subarray(known.payloadAt + 100)]);
          }
          for (const [frame, { side: of, frame: bytes, payloadAt }] of model) {
            expect(bytesOf(store, frame).equals(bytes)).toBe(true);
            expect(store.payloadAt(frame) - store.start(frame) + VNET).toBe(payloadAt);
            expect(store.side[frame]).toBe(of);
          }
        }
        for (const slab of slabs) store.bring(slab);
        for (const slab of slabs) slab.fill(0);
        for (const [frame, { frame: bytes }] of model) expect(bytesOf(store, frame).equals(bytes)).toBe(true);
        for (const frame of model.keys()) store.remove(frame);
        expect([store.totalFrames, store.totalBytes]).toEqual([0, 0]);
        expect(slabs.some((slab) => store.keeps(slab))).toBe(false);
      }),
    );
  });

  it('are copied at once when they are not of the batch at hand, or short', () => {
    const store = new HoldStore(LIMITS);
    const slab = Buffer.alloc(SLAB_BYTES, 1) as FrameBytes;
    const other = Buffer.alloc(SLAB_BYTES, 2);
    store.borrow(slab);
    expect(store.buffer(store.add(viewOf(slab, 0, 1023), Side.PRIMARY, 0, 0))).not.toBe(slab);
    expect(store.buffer(store.add(viewOf(other, 0, 2000), Side.PRIMARY, 0, 0))).not.toBe(other);
    expect(store.buffer(store.addSolitary(viewOf(slab, 0, 2000), Side.PRIMARY, 0, 0))).not.toBe(slab);
    expect(store.keeps(slab)).toBe(false);
    const frame = store.add(viewOf(slab, 0, 2000), Side.PRIMARY, 0, 0);
    expect(store.keeps(slab)).toBe(true);
    store.remove(frame);
    expect(store.keeps(slab)).toBe(false);
  });
});
