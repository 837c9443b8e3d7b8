import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameQueue } from '../../../src/dataplane/frame-queue.js';

interface Frame {
  bytes: Uint8Array;
  hasVnetHeader: boolean;
}

function drain(queue: FrameQueue): { bytes: Buffer; header: Buffer }[] {
  const out: { bytes: Buffer; header: Buffer }[] = [];
  queue.drainTo((bytes, offset, length, vnet) => {
    out.push({
      bytes: Buffer.from(bytes.subarray(offset, offset + length)),
      header: Buffer.from(bytes.subarray(offset - vnet, offset)),
    });
  });
  return out;
}

describe('FrameQueue', () => {
  it('gives every frame back whole, with its vnet header, in order, use after use', () => {
    const frame = fc.record({
      bytes: fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 100 }),
        fc.integer({ min: 1, max: 70_000 }).map((length) => new Uint8Array(length).fill(length & 0xff)),
      ),
      hasVnetHeader: fc.boolean(),
    });
    const queue = new FrameQueue({ framesMax: 10_000, bytesMax: 1 << 30 });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 40 }), (frames: Frame[]) => {
        for (const [index, { bytes, hasVnetHeader }] of frames.entries()) {
          const source = Buffer.concat([Buffer.alloc(10, index), bytes]);
          expect(queue.push(source, 10, bytes.length, hasVnetHeader ? 10 : 0)).toBe(true);
          source.fill(0xee); // the queue must have copied
        }
        const out = drain(queue);
        expect(out.length).toBe(frames.length);
        for (const [index, { bytes, hasVnetHeader }] of frames.entries()) {
          expect(out[index]!.bytes.equals(bytes)).toBe(true);
          expect(out[index]!.header.equals(Buffer.alloc(hasVnetHeader ? 10 : 0, index))).toBe(true);
        }
        expect(queue.frames).toBe(0);
        expect(queue.bytes).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('refuses the newest frame at a limit and keeps what it has', () => {
    const queue = new FrameQueue({ framesMax: 2, bytesMax: 1000 });
    const bytes = Buffer.from('0123456789');
    expect(queue.push(bytes, 0, 10, 0)).toBe(true);
    expect(queue.push(Buffer.alloc(991), 0, 991, 0)).toBe(false);
    expect(queue.push(bytes, 0, 10, 0)).toBe(true);
    expect(queue.push(bytes, 0, 1, 0)).toBe(false);
    expect(drain(queue).map((frame) => frame.bytes.toString())).toEqual(['0123456789', '0123456789']);
  });
});
