import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChardevDeframer, ChardevStage } from '../../../src/link/chardev-framing.js';
import { SendQueue } from '../../../src/link/send-queue.js';

const WIRE_HEADERS = [0, 10, 12, 20];

function message(frame: Buffer, header?: Buffer): Buffer {
  const words = Buffer.alloc(header === undefined ? 4 : 8);
  words.writeUInt32BE(frame.length + (header?.length ?? 0), 0);
  if (header !== undefined) words.writeUInt32BE(header.length, 4);
  return Buffer.concat([words, header ?? Buffer.alloc(0), frame]);
}

interface Seen {
  frame: Buffer;
  header: Buffer;
}

/** Feeds the bytes in pieces of the given sizes, round and round. */
function feed(deframer: ChardevDeframer, bytes: Buffer, pieces: readonly number[]): Seen[] {
  const seen: Seen[] = [];
  let at = 0;
  for (let turn = 0; at < bytes.length; turn++) {
    deframer.makeRoom();
    const count = Math.min(pieces[turn % pieces.length]!, deframer.room, bytes.length - at);
    bytes.copy(deframer.slab, deframer.fill, at, at + count);
    deframer.filled(count);
    at += count;
    while (deframer.nextBatch() > 0) {
      const { slab, offsets, lengths, vnetHeaderBytes } = deframer.batch;
      for (let index = 0; index < deframer.batch.count; index++) {
        const offset = offsets[index]!;
        seen.push({
          header: Buffer.from(slab.subarray(offset - vnetHeaderBytes, offset)),
          frame: Buffer.from(slab.subarray(offset, offset + lengths[index]!)),
        });
      }
    }
  }
  return seen;
}

const frames = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { minLength: 1, maxLength: 40 });
const pieces = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 5 });

describe('chardev framing', () => {
  it('without vnet header: frames arrive whatever the pieces', () => {
    fc.assert(
      fc.property(frames, pieces, (list, sizes) => {
        const bytes = Buffer.concat(list.map((frame) => message(Buffer.from(frame))));
        const seen = feed(new ChardevDeframer(4096, 8), bytes, sizes);
        expect(seen.map(({ frame }) => frame)).toEqual(list.map((frame) => Buffer.from(frame)));
      }),
    );
  });

  it('with vnet headers of any length QEMU has: the first ten bytes lie before the frame', () => {
    const withHeaders = fc.array(
      fc.tuple(fc.constantFrom(...WIRE_HEADERS), fc.uint8Array({ minLength: 1 })),
      {
        minLength: 1,
        maxLength: 40,
      },
    );
    fc.assert(
      fc.property(withHeaders, pieces, (list, sizes) => {
        const wire = { bytes: 10 };
        const header = (bytes: number) => Buffer.from(Array.from({ length: bytes }, (_, index) => index + 1));
        const bytes = Buffer.concat(list.map(([size, frame]) => message(Buffer.from(frame), header(size))));
        const seen = feed(new ChardevDeframer(4096, 8, wire), bytes, sizes);
        expect(seen).toEqual(
          list.map(([size, frame]) => ({
            frame: Buffer.from(frame),
            header: size === 0 ? Buffer.alloc(10) : header(10),
          })),
        );
        expect(wire.bytes).toBe(list.at(-1)![0]);
      }),
    );
  });

  it('a frame of no bytes is passed over', () => {
    const bytes = Buffer.concat([message(Buffer.alloc(0)), message(Buffer.from('abc'))]);
    expect(feed(new ChardevDeframer(4096, 8), bytes, [100]).map(({ frame }) => frame.toString())).toEqual([
      'abc',
    ]);
    const headers = Buffer.concat([
      message(Buffer.alloc(0), Buffer.alloc(12)),
      message(Buffer.from('abc'), Buffer.alloc(12)),
    ]);
    expect(feed(new ChardevDeframer(4096, 8, { bytes: 0 }), headers, [100]).length).toBe(1);
  });

  it.each([
    ['4 GiB', Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 10]), /length 4294967295/],
    ['one byte too long', Buffer.from([0, 1, 0x10, 1, 0, 0, 0, 10]), /length 69633/],
    ['a header longer than any', Buffer.from([0, 0, 0, 60, 0, 0, 0, 21]), /vnet header of 21/],
    [
      'a header longer than the frame',
      Buffer.from([0, 0, 0, 11, 0, 0, 0, 12]),
      /vnet header of 12 bytes in 11/,
    ],
    [
      'a frame where the second word should be',
      Buffer.from([0, 0, 0, 60, 0x52, 0x54, 0, 1]),
      /vnet_hdr_support/,
    ],
  ])('refuses %s, after the frames before it', (_what, words, message_) => {
    const deframer = new ChardevDeframer(4096, 8, { bytes: 0 });
    const good = message(Buffer.from('good'), Buffer.alloc(10));
    deframer.makeRoom();
    Buffer.concat([good, words]).copy(deframer.slab, deframer.fill);
    deframer.filled(good.length + words.length);
    expect(deframer.nextBatch()).toBe(1);
    expect(() => deframer.nextBatch()).toThrow(message_);
  });

  it('what is queued is what a deframer reads', () => {
    fc.assert(
      fc.property(frames, fc.constantFrom(...WIRE_HEADERS), (list, size) => {
        const queue = new SendQueue({ prefixBytes: 8, bytesMax: 1 << 20, framesMax: 1000 });
        const stage = new ChardevStage(queue, { bytes: size });
        for (const frame of list) {
          const bytes = Buffer.concat([Buffer.alloc(10, 7), frame]);
          expect(stage.queue(bytes, 10, frame.length, 10)).toBe(true);
        }
        const wire = queue.slab.subarray(queue.startOffset, queue.startOffset + queue.bytes);
        const seen = feed(new ChardevDeframer(4096, 8, { bytes: 1 }), wire, [333]);
        expect(seen).toEqual(
          list.map((frame) => ({ frame: Buffer.from(frame), header: Buffer.alloc(10, size === 0 ? 0 : 7) })),
        );
      }),
    );
  });

  it('a frame that the peer could not take is refused', () => {
    const queue = new SendQueue({ prefixBytes: 8, bytesMax: 1 << 20, framesMax: 1000 });
    expect(new ChardevStage(queue, { bytes: 12 }).queue(Buffer.alloc(70_000), 0, 69_632 - 11, 0)).toBe(false);
    expect(queue.count).toBe(0);
  });
});
