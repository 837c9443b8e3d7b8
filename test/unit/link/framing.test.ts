import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Deframer, STREAM_FRAME_BYTES_MAX } from '../../../src/link/framing.js';

function encode(frames: Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.map((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return Buffer.concat([length, frame]);
    }),
  );
}

/** Feeds `stream` in pieces of the given sizes (again and again) and returns the frames found. */
function decode(stream: Buffer, chunkSizes: number[], deframer: Deframer): Buffer[] {
  const frames: Buffer[] = [];
  let at = 0;
  for (let turn = 0; at < stream.length; turn++) {
    deframer.makeRoom();
    const bytes = Math.min(chunkSizes[turn % chunkSizes.length]!, deframer.room, stream.length - at);
    stream.copy(deframer.slab, deframer.fill, at, at + bytes);
    deframer.filled(bytes);
    at += bytes;
    while (deframer.nextBatch() > 0) {
      const { slab, offsets, lengths, count } = deframer.batch;
      for (let index = 0; index < count; index++) {
        frames.push(Buffer.from(slab.subarray(offsets[index]!, offsets[index]! + lengths[index]!)));
      }
    }
  }
  return frames;
}

describe('stream framing', () => {
  it('finds the same frames however the stream is cut into pieces', () => {
    const frames = fc.array(
      fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc
          .integer({ min: 1, max: STREAM_FRAME_BYTES_MAX })
          .map((length) => new Uint8Array(length).fill(length)),
      ),
      { maxLength: 12 },
    );
    const chunks = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 200_000 })), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(frames, chunks, fc.integer({ min: 1, max: 8 }), (sent, chunkSizes, batchFramesMax) => {
        // Tiny pieces of huge frames only cost time.
        const sizes = sent.some((frame) => frame.length > 5000)
          ? chunkSizes.map((size) => size + 999)
          : chunkSizes;
        const deframer = new Deframer(0, batchFramesMax);
        const found = decode(encode(sent), sizes, deframer);
        expect(found.length).toBe(sent.length);
        for (const [index, frame] of sent.entries()) expect(Buffer.compare(found[index]!, frame)).toBe(0);
        expect(deframer.partialBytes).toBe(0);
      }),
      { numRuns: 150 },
    );
  });

  it.each([0, STREAM_FRAME_BYTES_MAX + 1, 0x7fffffff, 0xffffffff])(
    'refuses a length of %d after the frames before it',
    (length) => {
      const stream = Buffer.concat([encode([Buffer.from('one'), Buffer.from('two')]), Buffer.alloc(4)]);
      stream.writeUInt32BE(length, stream.length - 4);
      const deframer = new Deframer(0, 8);
      stream.copy(deframer.slab, 0);
      deframer.filled(stream.length);
      expect(deframer.nextBatch()).toBe(2);
      expect(() => deframer.nextBatch()).toThrow(expect.objectContaining({ code: 'COLO_ERR_LINK_FRAMING' }));
    },
  );

  it('takes the largest frame QEMU sends and always has room for the next byte', () => {
    const deframer = new Deframer(0, 4);
    const stream = encode([Buffer.alloc(STREAM_FRAME_BYTES_MAX, 7), Buffer.alloc(STREAM_FRAME_BYTES_MAX, 8)]);
    expect(decode(stream, [30_000], deframer).map((frame) => frame[0])).toEqual([7, 8]);
    deframer.makeRoom();
    expect(deframer.room).toBeGreaterThan(0);
  });

  it('forgets a partial frame at a new connection', () => {
    const deframer = new Deframer(0, 4);
    Buffer.from([0, 0, 0, 9, 1]).copy(deframer.slab);
    deframer.filled(5);
    expect(deframer.nextBatch()).toBe(0);
    expect(deframer.partialBytes).toBe(5);
    deframer.reset();
    expect(decode(encode([Buffer.from('new')]), [100], deframer).map(String)).toEqual(['new']);
  });
});
