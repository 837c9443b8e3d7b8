/** Busy polling: the event loop looks for events without sleeping, and misses none of any kind. */
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { setBusyPoll } from '../../../native/index.js';
import { cleanUpStreams, readable, streamPair } from './stream-pair.js';

const BUSY_US = 5_000_000;
const WATCHED_MS = 60;
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

afterEach(() => {
  setBusyPoll(0);
  cleanUpStreams();
});

/** Share of the time that the loop did not sleep, after a port had something to be read. */
async function wakefulness(busyUs: number): Promise<number> {
  const [near, far] = await streamPair('unix');
  setBusyPoll(busyUs);
  far.write(Buffer.from('x'), 0, 1);
  await readable(near);
  const before = performance.eventLoopUtilization();
  await rest(WATCHED_MS);
  return performance.eventLoopUtilization(before).utilization;
}

describe('busy polling', () => {
  it('keeps the loop awake for that long after something came', async () => {
    expect(await wakefulness(BUSY_US)).toBeGreaterThan(0.8);
  });

  it('lets it sleep afterwards, and always without it', async () => {
    expect(await wakefulness(1000)).toBeLessThan(0.7);
    expect(await wakefulness(0)).toBeLessThan(0.7);
  });

  it('ends its looking at events of any kind', async () => {
    const [near, far] = await streamPair('unix');
    setBusyPoll(BUSY_US);
    far.write(Buffer.from('x'), 0, 1);
    await readable(near);
    const begin = performance.now();
    const server = net.createServer((socket) => socket.end());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1').resume();
    await new Promise((resolve) => client.once('close', resolve));
    server.close();
    expect(performance.now() - begin).toBeLessThan(BUSY_US / 1000 / 2);
  });
});
