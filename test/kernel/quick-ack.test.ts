/** Two small words in a row from a peer with Nagle's algorithm: the second waits for our acknowledgement of the first. */
import { type AddressInfo, createServer, connect as netConnect, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { streamTransport } from '../../src/system/stream-channel.js';

const ROUNDS = 12;

/** Answers each byte with two separate one-byte writes; Nagle stays on, as in QEMU. */
function slowTalker(): Promise<{ port: number; close: () => void }> {
  const server = createServer({ noDelay: false }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', () => {
      socket.write('a');
      setImmediate(() => socket.write('b'));
    });
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () =>
      resolve({ port: (server.address() as AddressInfo).port, close: () => server.close() }),
    );
  });
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

/** Milliseconds from asking to having both bytes, for each round; `ask` and `onBytes` are the connection. */
async function rounds(ask: () => void, onBytes: (got: (count: number) => void) => void): Promise<number> {
  let count = 0;
  let wake = (): void => undefined;
  onBytes((more) => {
    count += more;
    if (count >= 2) wake();
  });
  const tookMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    count = 0;
    const fromMs = performance.now();
    const both = new Promise<void>((resolve) => {
      wake = resolve;
    });
    ask();
    await both;
    tookMs.push(performance.now() - fromMs);
  }
  return median(tookMs);
}

it('a channel acknowledges at once, a plain socket after the delay', async () => {
  const talker = await slowTalker();
  const plain: Socket = netConnect({ port: talker.port, host: '127.0.0.1', noDelay: true });
  const plainMs = await rounds(
    () => plain.write('x'),
    (got) => plain.on('data', (chunk) => got(chunk.length)),
  );
  plain.destroy();

  const channel = await streamTransport.connect({ tcp: '127.0.0.1', port: talker.port });
  const channelMs = await rounds(
    () => channel.write(Buffer.from('x')),
    (got) =>
      channel.attach({
        data: (chunk) => got(chunk.length),
        ended: () => undefined,
        drained: () => undefined,
        closed: () => undefined,
      }),
  );
  channel.destroy();
  talker.close();
  // seen: about 40 ms and under 1 ms
  expect(channelMs).toBeLessThan(plainMs / 2);
});
