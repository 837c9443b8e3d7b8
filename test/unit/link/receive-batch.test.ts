/** The slabs of a batch: another one while frames of the first are kept. */
import { expect, it } from 'vitest';
import { ChardevDeframer } from '../../../src/link/chardev-framing.js';
import { Deframer } from '../../../src/link/framing.js';
import { ReceiveBatch } from '../../../src/link/receive-batch.js';
import type { FrameBytes } from '../../../src/wire/frame-memory.js';

/** Keeps what it is told to, and notes what is overwritten. */
function keeperOf(kept: Set<FrameBytes>) {
  const overwritten: FrameBytes[] = [];
  return {
    overwritten,
    keeps: (slab: FrameBytes) => kept.has(slab),
    overwriting: (slab: FrameBytes) => {
      overwritten.push(slab);
      kept.delete(slab);
    },
  };
}

it('takes the same slab again while nobody keeps anything, else two in turn, and says so before', () => {
  const batch = new ReceiveBatch(100, 4, 0);
  const first = batch.slab;
  batch.renewSlab();
  expect(batch.slab).toBe(first);
  const kept = new Set<FrameBytes>([first]);
  const keeper = keeperOf(kept);
  batch.keeper = keeper;
  batch.renewSlab();
  const second = batch.slab;
  expect([second === first, second.length]).toEqual([false, 100]);
  batch.renewSlab();
  expect(batch.slab).toBe(second);
  kept.add(second);
  batch.renewSlab();
  expect(batch.slab).toBe(first);
  expect(keeper.overwritten.at(-1)).toBe(first);
  expect(kept.has(second)).toBe(true);
});

it('the framing goes on in the other slab, with the part of a frame that it has', () => {
  const deframer = new Deframer(0, 8);
  const keeper = keeperOf(new Set([deframer.slab]));
  deframer.batch.keeper = keeper;
  const first = deframer.slab;
  const stream = Buffer.from([0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 2, 9]);
  stream.copy(deframer.slab, deframer.fill);
  deframer.filled(stream.length);
  expect(deframer.nextBatch()).toBe(1);
  const at = deframer.batch.offsets[0]!;
  expect(deframer.nextBatch()).toBe(0);
  deframer.makeRoom();
  expect(deframer.slab).not.toBe(first);
  deframer.slab[deframer.fill] = 8;
  deframer.filled(1);
  expect(deframer.nextBatch()).toBe(1);
  const { offsets, lengths } = deframer.batch;
  expect([...deframer.slab.subarray(offsets[0]!, offsets[0]! + lengths[0]!)]).toEqual([9, 8]);
  expect([...first.subarray(at, at + 3)]).toEqual([1, 2, 3]);
});

it('an empty vnet header is not put over a frame that is kept', () => {
  const wire = { bytes: 10 };
  const deframer = new ChardevDeframer(0, 8, wire);
  const keeper = keeperOf(new Set([deframer.slab]));
  deframer.batch.keeper = keeper;
  const bare = [0, 0, 0, 4, 0, 0, 0, 0, 5, 6, 7, 8];
  Buffer.from([...bare, ...bare]).copy(deframer.slab, deframer.fill);
  deframer.filled(2 * bare.length);
  expect([deframer.nextBatch(), keeper.overwritten.length]).toEqual([1, 1]);
  expect([deframer.nextBatch(), keeper.overwritten.length]).toEqual([1, 2]);
});
