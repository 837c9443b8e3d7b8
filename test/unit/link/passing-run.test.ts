/** Frames that pass from one stream to another leave as they came, whatever happens to those beside them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLink } from '../../../src/link/factory.js';
import type { FrameBatch, Link } from '../../../src/link/link.js';
import { PassingRun } from '../../../src/link/passing-run.js';
import { ReceiveBatch } from '../../../src/link/receive-batch.js';
import { Collector, until } from './collect.js';

let directory: string;
const closers: (() => unknown)[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'colo-passing-'));
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  rmSync(directory, { recursive: true });
});

/** What becomes of a frame received: it passes, is thrown away, loses its last byte, or another goes before it. */
const fates = ['pass', 'drop', 'shorten', 'insert', 'flush'] as const;
const fate = fc.oneof(
  { weight: 12, arbitrary: fc.constant('pass' as const) },
  { weight: 2, arbitrary: fc.constantFrom(...fates) },
);
const plan = fc.record({
  lengths: fc.array(
    fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 14, max: 1514 }) },
      fc.integer({ min: 14, max: 65_000 }),
    ),
    { minLength: 1, maxLength: 300 },
  ),
  fates: fc.array(fate, { minLength: 1, maxLength: 40 }),
  /** Bytes written to the first link in one go, and read from the second before it rests. */
  written: fc.array(fc.integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 5 }),
  read: fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 5 }),
  flushesEvery: fc.integer({ min: 1, max: 3 }),
});
type Plan = typeof plan extends fc.Arbitrary<infer T> ? T : never;

const framed = (frame: Buffer): Buffer => {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(frame.length);
  return Buffer.concat([word, frame]);
};

/** Forwards by the plan and notes what must arrive. */
class Forwarder extends Collector {
  readonly expected: Buffer[] = [];
  refused = 0;
  received = 0;
  #batches = 0;

  readonly out: Link;
  readonly plan: Plan;

  constructor(out: Link, plan: Plan) {
    super();
    this.out = out;
    this.plan = plan;
  }

  override receive({ slab, offsets, lengths, count }: FrameBatch): void {
    for (let index = 0; index < count; index++) {
      const offset = offsets[index]!;
      const what = this.plan.fates[this.received++ % this.plan.fates.length]!;
      const length = lengths[index]! - (what === 'shorten' ? 1 : 0);
      if (what === 'flush') this.out.flush();
      if (what === 'insert') this.#send(Buffer.alloc(20, index), 0, 20);
      if (what !== 'drop') this.#send(slab, offset, length);
    }
    if (this.#batches++ % this.plan.flushesEvery === 0) this.out.flush();
  }

  #send(bytes: Buffer, offset: number, length: number): void {
    if (this.out.send(bytes, offset, length, 0))
      this.expected.push(framed(bytes.subarray(offset, offset + length)));
    else this.refused++;
  }
}

/** @param sendQueueBytesMax 0: nothing is read before all has been sent, and little has room until then. */
async function play(plan: Plan, name: string, sendQueueBytesMax = 64 << 20): Promise<Forwarder> {
  const isSlow = sendQueueBytesMax === 0;
  const path = (end: string) => join(directory, `${name}.${end}`);
  const sockets: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(path('out'), resolve));
  const out = createLink(`chardev:unix:${path('out')}`, {
    sendQueueBytesMax: isSlow ? 1 << 20 : sendQueueBytesMax,
  });
  const atOut = new Collector();
  await out.open(atOut);
  await until(() => sockets.length === 1, 'the peer');
  const inside = createLink(`chardev:unix:${path('in')},server`, { batchFramesMax: 64 });
  const forwarder = new Forwarder(out, plan);
  await inside.open(forwarder);
  const feeder = connect(path('in'));
  closers.push(() => {
    feeder.destroy();
    for (const socket of sockets) socket.destroy();
    server.close();
    return Promise.all([out.close(), inside.close()]);
  });
  const frames = plan.lengths.map((length, index) => Buffer.alloc(length, `${index}.`));
  const all = Buffer.concat(frames.map(framed));
  const arrived: Buffer[] = [];
  let rest = 0;
  const listen = () =>
    sockets[0]!.on('data', (chunk: Buffer) => {
      arrived.push(chunk);
      rest += chunk.length;
      if (rest < plan.read[arrived.length % plan.read.length]!) return;
      rest = 0;
      sockets[0]!.pause();
      setImmediate(() => sockets[0]!.resume());
    });
  if (!isSlow) listen();
  for (let at = 0, index = 0; at < all.length; index++) {
    const bytes = plan.written[index % plan.written.length]!;
    await new Promise((resolve) => feeder.write(all.subarray(at, at + bytes), resolve));
    at += bytes;
  }
  await until(() => forwarder.received === frames.length, 'all frames');
  out.flush();
  if (isSlow) listen();
  sockets[0]!.resume();
  const expected = Buffer.concat(forwarder.expected);
  await until(
    () => arrived.reduce((sum, chunk) => sum + chunk.length, 0) >= expected.length,
    'what must come',
  );
  expect(Buffer.concat(arrived).equals(expected)).toBe(true);
  expect(out.untaken()).toBe(0);
  expect(out.counters.sendDrops).toBe(forwarder.refused);
  expect(out.counters.framesSent).toBe(forwarder.expected.length);
  expect(out.counters.bytesSent).toBe(expected.length - 4 * forwarder.expected.length);
  return forwarder;
}

describe('a run of frames that pass', () => {
  it('arrives in order and unchanged, however the kernel takes it and whatever goes between', async () => {
    let number = 0;
    await fc.assert(
      fc.asyncProperty(plan, async (plan) => {
        expect((await play(plan, String(number++))).refused).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('is bounded as what is queued, and who sends is told', async () => {
    const lengths = Array.from({ length: 4000 }, (_, index) => 1000 + (index % 500));
    const plan: Plan = { lengths, fates: ['pass'], written: [100_000], read: [300_000], flushesEvery: 1 };
    expect((await play(plan, 'slow', 0)).refused).toBeGreaterThan(1000);
  });

  it('knows which of its frames have been written', () => {
    const slab = new ReceiveBatch(1000, 4, 0).slab;
    for (const at of [0, 14, 28]) slab.writeUInt32BE(10, at);
    const run = new PassingRun(() => {});
    expect(run.begins(slab, 4, 10)).toBe(true);
    expect([18, 32].map((offset) => run.goesOn(slab, offset, 10))).toEqual([true, true]);
    expect([run.written(13), run.start]).toEqual([0, 0]);
    expect([run.written(14), run.start]).toEqual([1, 14]);
    expect([run.written(28), run.bytes, run.frames]).toEqual([2, 0, 0]);
    expect(slab.beforeOverwriting!.size).toBe(0);
  });
});
