/**
 * Channels over unix and TCP sockets, for words and lines: what a monitor says. Needs no addon. For bulk see
 * stream-channel.ts.
 */
import { chmod, chown, lstat, unlink } from 'node:fs/promises';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { groupId } from './accounts.js';
import type {
  Address,
  ChannelHandler,
  ChannelServer,
  DuplexChannel,
  ListenOptions,
  Transport,
} from './channel.js';

class SocketChannel implements DuplexChannel {
  readonly #socket: Socket;
  #handler: ChannelHandler | undefined;
  #error: Error | undefined;
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.pause();
    socket.on('error', (error) => {
      this.#error = error;
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#handler?.closed(this.#error);
    });
  }

  attach(handler: ChannelHandler): void {
    this.#handler = handler;
    const socket = this.#socket;
    if (this.#closed) {
      queueMicrotask(() => handler.closed(this.#error));
      return;
    }
    socket.on('data', (chunk: Buffer) => handler.data(chunk));
    socket.on('end', () => handler.ended());
    socket.on('drain', () => handler.drained());
    socket.resume();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#closed || this.#socket.destroyed || this.#socket.writableEnded) return true;
    return this.#socket.write(chunk);
  }

  end(): void {
    if (!this.#socket.destroyed) this.#socket.end();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

function socketOptions(address: Address): { path: string } | { host: string; port: number } {
  return 'unix' in address ? { path: address.unix } : { host: address.tcp, port: address.port };
}

function connectSocket(address: Address, wrap: Wrap, signal?: AbortSignal): Promise<DuplexChannel> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const socket = netConnect({ ...socketOptions(address), allowHalfOpen: true });
    socket.pause();
    const aborted = (): void => {
      socket.destroy();
      reject(signal!.reason);
    };
    const failed = (error: Error): void => {
      signal?.removeEventListener('abort', aborted);
      reject(error);
    };
    signal?.addEventListener('abort', aborted, { once: true });
    socket.once('error', failed);
    socket.once('connect', () => {
      signal?.removeEventListener('abort', aborted);
      socket.off('error', failed);
      try {
        resolve(wrap(socket));
      } catch (error) {
        socket.destroy();
        reject(error);
      }
    });
  });
}

/** True when somebody accepts connections at this unix socket file. */
function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = netConnect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

/** Only a socket file is ever removed: a path that names anything else is left for `listen` to refuse. */
async function removeStaleSocketFile(path: string): Promise<void> {
  const stat = await lstat(path).catch(() => undefined);
  if (!stat?.isSocket() || (await someoneListens(path))) return;
  await unlink(path).catch(() => undefined);
}

function opened(server: Server, address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketOptions(address), () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function listenSocket(
  address: Address,
  wrap: Wrap,
  accept: (channel: DuplexChannel) => void,
  options: ListenOptions = {},
): Promise<ChannelServer> {
  const gid = options.group === undefined ? undefined : groupId(options.group);
  if ('unix' in address) await removeStaleSocketFile(address.unix);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    try {
      accept(wrap(socket));
    } catch {
      socket.destroy(); // it broke before it was looked at, or descriptors are used up
    }
  });
  await opened(server, address);
  // A failed accept (descriptors used up) concerns one connection; the server goes on.
  server.on('error', () => undefined);
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      // The callback waits for accepted sockets as well, which live on: the listener is gone at once.
      server.close();
      resolve();
    });
  try {
    if ('unix' in address) {
      if (gid !== undefined) await chown(address.unix, -1, gid);
      if (options.mode !== undefined) await chmod(address.unix, options.mode);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const bound = server.address();
  const port = bound !== null && typeof bound === 'object' ? bound.port : 0;
  return { address: 'unix' in address ? address : { tcp: address.tcp, port }, close };
}

/** Makes a channel of a connected socket that is paused and of which nothing has been read. */
export type Wrap = (socket: Socket) => DuplexChannel;

export function socketTransportOf(wrap: Wrap): Transport {
  return {
    connect: (address, signal) => connectSocket(address, wrap, signal),
    listen: (address, accept, options) => listenSocket(address, wrap, accept, options),
  };
}

export const socketTransport: Transport = socketTransportOf((socket) => new SocketChannel(socket));
