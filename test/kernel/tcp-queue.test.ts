/**
 * Kernel fact about TCP (net/ipv4/tcp.c, tcp_ioctl SIOCOUTQ): the sender's count is of bytes not acknowledged. The peer's
 * kernel acknowledges what its program has not read.
 *
 * Product rule that rests on it: over TCP 0 means that nothing is on the wire any more, not that the VM has taken it. A
 * checkpoint is exact over a unix stream and over a TAP; over TCP what the peer's kernel still holds is given to
 * the VM after it runs again (T8).
 */
import net from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { adoptStream, type StreamPort } from '../../native/index.js';

function adopt(socket: net.Socket): StreamPort {
  const port = adoptStream((socket as unknown as { _handle: { fd: number } })._handle.fd);
  socket.destroy();
  onTestFinished(() => port.close());
  return port;
}

async function tcpPair(): Promise<[StreamPort, StreamPort]> {
  const server = net.createServer({ pauseOnConnect: true });
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
  const connected = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  connected.pause();
  await new Promise((resolve) => connected.once('connect', resolve));
  return [adopt(connected), adopt(await accepted)];
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

it('kernel: SIOCOUTQ of a TCP connection goes to 0 with the acknowledgement, though nothing has been read', async () => {
  const [sender, reader] = await tcpPair();
  const bytes = Buffer.alloc(1000);
  expect(sender.write(bytes, 0, 1000)).toBe(1000);
  await until(() => sender.unsentBytes() === 0);
  expect(reader.unreadBytes()).toBe(1000);
});

it('kernel: it counts bytes once the peer has no room, and falls as the peer reads', async () => {
  const [sender, reader] = await tcpPair();
  const bytes = Buffer.alloc(256 * 1024);
  let written = 0;
  for (let took = -1; took !== 0; written += Math.max(took, 0)) {
    took = sender.write(bytes, 0, bytes.length);
    if (took === 0) {
      // What was on its way may have made room.
      await new Promise((resolve) => setTimeout(resolve, 50));
      took = sender.write(bytes, 0, bytes.length);
    }
  }
  const waiting = sender.unsentBytes();
  expect(waiting).toBeGreaterThan(0);
  expect(waiting + reader.unreadBytes()).toBe(written);
  let read = 0;
  while (read < written) {
    const got = reader.read(bytes, 0, bytes.length);
    if (got > 0) read += got;
    else await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await until(() => sender.unsentBytes() === 0);
});
