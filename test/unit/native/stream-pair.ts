/** Connected streams as ports, and what was opened for them. */
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adoptStream, type StreamPort } from '../../../native/index.js';

type Address = { path: string } | { port: number; host: string };
const cleanUp: (() => void)[] = [];
export function cleanUpStreams(): void {
  for (const action of cleanUp.splice(0).reverse()) action();
}

export async function serve(kind: 'unix' | 'tcp'): Promise<{ server: net.Server; address: Address }> {
  const server = net.createServer({ pauseOnConnect: true });
  const folder = mkdtempSync(join(tmpdir(), 'colo-stream-'));
  const path = join(folder, 's');
  await new Promise<void>((resolve) => {
    if (kind === 'unix') server.listen(path, resolve);
    else server.listen(0, '127.0.0.1', resolve);
  });
  cleanUp.push(() => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    server,
    address:
      kind === 'unix' ? { path } : { host: '127.0.0.1', port: (server.address() as net.AddressInfo).port },
  };
}

/** As the links do: take a copy of the descriptor, then let Node forget its own. */
export function adopt(socket: net.Socket): StreamPort {
  socket.on('error', () => {});
  const port = adoptStream((socket as unknown as { _handle: { fd: number } })._handle.fd);
  socket.destroy();
  cleanUp.push(() => port.close());
  return port;
}

export async function streamPair(kind: 'unix' | 'tcp'): Promise<[StreamPort, StreamPort]> {
  const { server, address } = await serve(kind);
  const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
  const connected = net.connect(address as net.NetConnectOpts);
  connected.pause();
  await new Promise((resolve) => connected.once('connect', resolve));
  return [adopt(connected), adopt(await accepted)];
}

export const readable = (port: StreamPort) =>
  new Promise<void>((resolve) => {
    port.start(() => {
      port.stop();
      resolve();
    });
  });
