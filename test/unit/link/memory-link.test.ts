import { describe, expect, it } from 'vitest';
import type { FrameBatch } from '../../../src/link/link.js';
import { memoryLinkPair } from '../../../src/link/memory-link.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { Collector, sendFrame } from './collect.js';

async function openPair(options: Parameters<typeof memoryLinkPair>[0] = {}) {
  const [a, b] = memoryLinkPair(options);
  const atA = new Collector();
  const atB = new Collector();
  await a.open(atA);
  await b.open(atB);
  return { a, b, atA, atB };
}

describe('memory link', () => {
  it('delivers a flushed batch at once, in order, both ways', async () => {
    const { a, b, atA, atB } = await openPair();
    sendFrame(a, 'one');
    sendFrame(a, 'two');
    expect(atB.texts).toEqual([]);
    a.flush();
    expect(atB.texts).toEqual(['one', 'two']);
    expect(atB.batches).toBe(1);
    sendFrame(b, 'back');
    b.flush();
    expect(atA.texts).toEqual(['back']);
    expect(a.counters).toMatchObject({ framesSent: 2, bytesSent: 6, framesReceived: 1, bytesReceived: 4 });
  });

  it('is up when both ends are open, waiting when the other is not', async () => {
    const [a, b] = memoryLinkPair();
    const atA = new Collector();
    await a.open(atA);
    expect(a.state).toBe('waiting');
    expect(sendFrame(a, 'x')).toBe(false);
    expect(a.counters.sendDrops).toBe(1);
    await b.open(new Collector());
    expect(atA.states).toEqual(['waiting', 'up']);
    await b.close();
    expect(atA.states).toEqual(['waiting', 'up', 'waiting']);
    await b.open(new Collector());
    expect([a.state, b.state]).toEqual(['up', 'up']);
  });

  it('leaves frames untaken when the peer does not read, until it reads again or drains', async () => {
    const { a, b, atB } = await openPair();
    b.setReading(false);
    sendFrame(a, '1');
    a.flush();
    sendFrame(a, '2');
    expect(a.untaken()).toBe(2);
    expect(a.discardQueued()).toBe(1);
    expect(a.untaken()).toBe(1);
    expect(b.drain()).toBe(1);
    expect(a.untaken()).toBe(0);
    sendFrame(a, '3');
    a.flush();
    expect(atB.texts).toEqual(['1']);
    b.setReading(true);
    expect(atB.texts).toEqual(['1', '3']);
  });

  it('takes the passed clock to deliver with a delay, and drain brings forward what is on its way', async () => {
    const clock = new ManualClock();
    const { a, b, atB } = await openPair({ clock, delayMs: 5 });
    sendFrame(a, 'early');
    a.flush();
    clock.advance(4);
    sendFrame(a, 'late');
    a.flush();
    expect(atB.texts).toEqual([]);
    clock.advance(1);
    expect(atB.texts).toEqual(['early']);
    expect(a.untaken()).toBe(1);
    expect(b.drain()).toBe(1);
    expect(atB.texts).toEqual(['early', 'late']);
    sendFrame(a, 'next');
    a.flush();
    clock.advance(4); // the timer of 'late' must not bring 'next'
    expect(atB.texts).toEqual(['early', 'late']);
    clock.advance(1);
    expect(atB.texts).toEqual(['early', 'late', 'next']);
  });

  it('delivers an answer sent from within a delivery after it, not inside it', async () => {
    const { a, b, atA } = await openPair();
    let depth = 0;
    const echo = {
      receive(batch: FrameBatch) {
        expect(depth++).toBe(0);
        const text = batch.slab.toString('latin1', batch.offsets[0], batch.offsets[0]! + batch.lengths[0]!);
        sendFrame(b, `re ${text}`);
        b.flush();
        depth--;
      },
      stateChanged() {},
    };
    await b.close();
    await b.open(echo);
    const pingPong = { left: 3 };
    await a.close();
    await a.open({
      receive(batch) {
        atA.receive(batch);
        if (pingPong.left-- > 0) {
          sendFrame(a, 'again');
          a.flush();
        }
      },
      stateChanged() {},
    });
    sendFrame(a, 'first');
    a.flush();
    expect(atA.texts).toEqual(['re first', 're again', 're again', 're again']);
  });

  it('counts what does not fit as dropped', async () => {
    const { a, b, atB } = await openPair({ queueBytesMax: 100 });
    b.setReading(false);
    const sent = Array.from({ length: 30 }, () => {
      const taken = sendFrame(a, 'x'.repeat(20));
      a.flush();
      return taken;
    });
    expect(sent.every(Boolean)).toBe(true);
    expect(a.counters.framesSent).toBe(5);
    expect(a.counters.sendDrops).toBe(25);
    b.setReading(true);
    expect(atB.frames.length).toBe(5);
    expect(sendFrame(a, 'x'.repeat(1523))).toBe(false);
  });
});
