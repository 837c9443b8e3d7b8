/**
 * Kernel fact about unix stream sockets (net/unix/af_unix.c, unix_ioctl SIOCOUTQ): the sender's count is memory,
 * not bytes, does not move while the peer reads parts of a write, and is 0 exactly when the peer has read
 * everything.
 *
 * Product rule that rests on it: a stream link knows that QEMU has taken all it was fed (T8) by SIOCOUTQ == 0 and
 * by nothing else; it counts untaken frames itself.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { adoptStream, type StreamPort } from '../../native/index.js';

function adopt(socket: net.Socket): StreamPort {
  const port = adoptStream((socket as unknown as { _handle: { fd: number } })._handle.fd);
  socket.destroy();
  onTestFinished(() => port.close());
  return port;
}

async function unixPair(): Promise<[StreamPort, StreamPort]> {
  const folder = mkdtempSync(join(tmpdir(), 'colo-outq-'));
  const server = net.createServer({ pauseOnConnect: true }).listen(join(folder, 's'));
  onTestFinished(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
  const connected = net.connect(join(folder, 's'));
  connected.pause();
  await new Promise((resolve) => connected.once('connect', resolve));
  return [adopt(connected), adopt(await accepted)];
}

it('kernel: SIOCOUTQ of a unix stream counts memory and is 0 exactly when everything has been read', async () => {
  const [sender, reader] = await unixPair();
  const bytes = Buffer.alloc(1000);
  expect(sender.unsentBytes()).toBe(0);
  sender.write(bytes, 0, 1000);
  const charged = sender.unsentBytes();
  expect(charged).toBeGreaterThan(1000);
  expect(reader.unreadBytes()).toBe(1000);
  expect(reader.read(bytes, 0, 400)).toBe(400);
  expect(sender.unsentBytes()).toBe(charged);
  expect(reader.read(bytes, 0, 599)).toBe(599);
  expect(sender.unsentBytes()).toBe(charged);
  expect(reader.read(bytes, 0, 1)).toBe(1);
  expect(sender.unsentBytes()).toBe(0);
  for (let i = 0; i < 20; i++) sender.write(bytes, 0, 1000 - i);
  for (let left = reader.unreadBytes(); left > 0; left = reader.unreadBytes()) {
    expect(sender.unsentBytes()).toBeGreaterThan(0);
    reader.read(bytes, 0, 777);
  }
  expect(sender.unsentBytes()).toBe(0);
});
