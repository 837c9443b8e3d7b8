import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SendQueue } from '../../../src/link/send-queue.js';

function push(queue: SendQueue, frame: Buffer): boolean {
  const at = queue.reserve(frame.length);
  if (at < 0) return false;
  queue.slab.fill(0xee, at - queue.prefixBytes, at);
  frame.copy(queue.slab, at);
  return true;
}

function contents(queue: SendQueue): string[] {
  const frames: string[] = [];
  for (let index = queue.head; index < queue.head + queue.count; index++) {
    const at = queue.offsets[index]!;
    frames.push(queue.slab.toString('hex', at - queue.prefixBytes, at + queue.lengths[index]!));
  }
  return frames;
}

describe('send queue', () => {
  it('behaves like a bounded list of frames, back to back in memory', () => {
    const command = fc.oneof(
      { weight: 6, arbitrary: fc.record({ push: fc.integer({ min: 0, max: 3000 }) }) },
      { weight: 2, arbitrary: fc.record({ drop: fc.integer({ min: 0, max: 20 }) }) },
      { weight: 1, arbitrary: fc.record({ truncate: fc.integer({ min: 0, max: 20 }) }) },
    );
    fc.assert(
      fc.property(
        fc.array(command, { maxLength: 300 }),
        fc.constantFrom(0, 4, 10),
        fc.integer({ min: 1, max: 40 }),
        (commands, prefixBytes, framesMax) => {
          const bytesMax = 9000;
          const queue = new SendQueue({ prefixBytes, bytesMax, framesMax });
          let model: Buffer[] = [];
          const modelBytes = () => model.reduce((sum, frame) => sum + frame.length + prefixBytes, 0);
          for (const [turn, step] of commands.entries()) {
            if ('push' in step) {
              const frame = Buffer.alloc(step.push, turn);
              const fits = model.length < framesMax && modelBytes() + frame.length + prefixBytes <= bytesMax;
              expect(push(queue, frame)).toBe(fits);
              if (fits) model.push(frame);
            } else if ('drop' in step) {
              const frames = Math.min(step.drop, model.length);
              queue.dropFront(frames);
              model = model.slice(frames);
            } else {
              queue.truncate(step.truncate);
              model = model.slice(0, step.truncate);
            }
            expect(queue.count).toBe(model.length);
            expect(queue.bytes).toBe(modelBytes());
          }
          const prefix = 'ee'.repeat(prefixBytes);
          expect(contents(queue)).toEqual(model.map((frame) => prefix + frame.toString('hex')));
          const whole = queue.slab.toString('hex', queue.startOffset, queue.startOffset + queue.bytes);
          expect(whole).toBe(contents(queue).join(''));
        },
      ),
      { numRuns: 150 },
    );
  });
});
