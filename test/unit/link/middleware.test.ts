import { describe, expect, it } from 'vitest';
import { FaultInjector, type FaultOptions } from '../../../src/link/fault-injector.js';
import { memoryLinkPair } from '../../../src/link/memory-link.js';
import { Tracer } from '../../../src/link/tracer.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { Collector, sendFrame } from './collect.js';

/** A small seeded generator (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function faulty(options: Omit<FaultOptions, 'clock' | 'random'>, seed = 1) {
  const clock = new ManualClock();
  const [inner, peer] = memoryLinkPair({ abilities: { vnetHeader: true, gso: true, frameBytesMax: 1522 } });
  const link = new FaultInjector(inner, { clock, random: seeded(seed), ...options });
  const at = new Collector();
  const atPeer = new Collector();
  await link.open(at);
  await peer.open(atPeer);
  return { clock, link, peer, at, atPeer };
}

const numbers = Array.from({ length: 1000 }, (_, index) => `frame ${index}`);

function sendAll(link: Parameters<typeof sendFrame>[0]): void {
  for (const text of numbers) sendFrame(link, text);
  link.flush();
}

describe('fault injector', () => {
  it('passes everything through unchanged without rates', async () => {
    const { link, peer, at, atPeer } = await faulty({});
    sendAll(link);
    sendAll(peer);
    expect(atPeer.texts).toEqual(numbers);
    expect(at.texts).toEqual(numbers);
  });

  it.each(['sent', 'received'] as const)(
    'loses, doubles and damages frames that are %s, by its counters',
    async (side) => {
      const { link, peer, at, atPeer } = await faulty({
        [side]: { loss: 0.1, duplication: 0.1, corruption: 0.1 },
      });
      sendAll(side === 'sent' ? link : peer);
      const got = (side === 'sent' ? atPeer : at).texts;
      const { lost, duplicated, corrupted } = link.faults;
      for (const count of [lost, duplicated, corrupted]) {
        expect(count).toBeGreaterThan(50);
        expect(count).toBeLessThan(200);
      }
      expect(got.length).toBe(1000 - lost + duplicated);
      const damaged = got.filter((text) => !numbers.includes(text)).length;
      expect(damaged).toBeGreaterThan(corrupted / 2);
      expect(damaged).toBeLessThanOrEqual(corrupted);
    },
  );

  it('does the same again for the same seed, something else for another', async () => {
    const run = async (seed: number): Promise<string> => {
      const { link, clock, atPeer } = await faulty(
        { sent: { loss: 0.2, reordering: 0.2, delayMsMax: 3 } },
        seed,
      );
      sendAll(link);
      clock.advance(10);
      return atPeer.texts.join();
    };
    expect(await run(5)).toBe(await run(5));
    expect(await run(5)).not.toBe(await run(6));
  });

  it('delays by the clock it was given, and reorders', async () => {
    const { link, clock, atPeer } = await faulty({ sent: { delayMsMin: 2, delayMsMax: 2 } });
    sendAll(link);
    expect(atPeer.frames.length).toBe(0);
    expect(link.untaken()).toBe(1000);
    clock.advance(2);
    expect(atPeer.texts).toEqual(numbers);
    const other = await faulty({ received: { reordering: 0.3 } });
    sendAll(other.peer);
    other.clock.advance(5);
    expect(other.at.texts).not.toEqual(numbers);
    expect([...other.at.texts].sort()).toEqual([...numbers].sort());
  });

  it('throws away what is late with what is queued', async () => {
    const { link, clock, atPeer } = await faulty({ sent: { delayMsMin: 2 } });
    sendAll(link);
    expect(link.discardQueued()).toBe(1000);
    expect(link.untaken()).toBe(0);
    clock.advance(5);
    expect(atPeer.frames.length).toBe(0);
  });

  it('hands over what is late when drained, and forgets it when closed', async () => {
    const { link, peer, clock, at } = await faulty({ received: { delayMsMin: 5 } });
    sendAll(peer);
    expect(link.drain()).toBe(1000);
    expect(at.texts).toEqual(numbers);
    sendAll(peer);
    await link.close();
    clock.advance(10);
    expect(at.frames.length).toBe(1000);
  });
});

describe('tracer', () => {
  it('shows every frame of both directions, but none that was refused', async () => {
    const [inner, peer] = memoryLinkPair();
    const seen: string[] = [];
    const link = new Tracer(inner, (direction, bytes, offset, length) => {
      seen.push(`${direction} ${bytes.toString('latin1', offset, offset + length)}`);
    });
    await link.open(new Collector());
    expect(sendFrame(link, 'too early')).toBe(false);
    await peer.open(new Collector());
    sendFrame(link, 'ping');
    link.flush();
    sendFrame(peer, 'pong');
    peer.flush();
    expect(seen).toEqual(['sent ping', 'received pong']);
  });
});
