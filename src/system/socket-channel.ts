/** Channels over unix and TCP sockets. */
import { chmod, chown, lstat, unlink } from 'node:fs/promises';
import { createServer, connect as netConnect, type Server, Socket } from 'node:net';
import { acknowledgeAtOnce } from '../../native/index.js';
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
    socket.setNoDelay(true); // a checkpoint is a ping-pong of 4-byte words: Nagle would cost 40 ms each
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
    const fd = tcpDescriptor(socket);
    socket.on('data', (chunk: Buffer) => {
      // QEMU leaves Nagle's algorithm on: its next small word waits until this one is acknowledged.
      if (fd !== undefined) acknowledge(socket, fd);
      handler.data(chunk);
    });
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

  get descriptor(): number {
    const socket = this.#socket;
    const isBusy = socket.readableLength > 0 || socket.writableLength > 0 || socket.readableEnded;
    return this.#closed || isBusy ? -1 : descriptorOf(socket);
  }
}

/** Node has no public way to it. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
}

/** The descriptor of a TCP socket; undefined for a unix one. */
function tcpDescriptor(socket: Socket): number | undefined {
  const fd = socket.remotePort === undefined ? -1 : descriptorOf(socket);
  return fd >= 0 ? fd : undefined;
}

/** The kernel leaves the quick mode by itself, so after every read. Only speed is lost when it cannot be had. */
function acknowledge(socket: Socket, fd: number): void {
  if (socket.destroyed) return;
  try {
    acknowledgeAtOnce(fd);
  } catch {
    // the connection is broken, which its own events tell
  }
}

function socketOptions(address: Address): { path: string } | { host: string; port: number } {
  return 'unix' in address ? { path: address.unix } : { host: address.tcp, port: address.port };
}

function connectSocket(address: Address, signal?: AbortSignal): Promise<DuplexChannel> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const socket = netConnect({ ...socketOptions(address), allowHalfOpen: true });
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
      resolve(new SocketChannel(socket));
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
  accept: (channel: DuplexChannel) => void,
  options: ListenOptions = {},
): Promise<ChannelServer> {
  const gid = options.group === undefined ? undefined : groupId(options.group);
  if ('unix' in address) await removeStaleSocketFile(address.unix);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
    accept(new SocketChannel(socket)),
  );
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

function adoptSocket(fd: number): DuplexChannel {
  return new SocketChannel(new Socket({ fd, allowHalfOpen: true, readable: true, writable: true }));
}

export const socketTransport: Transport = {
  connect: connectSocket,
  listen: listenSocket,
  adopt: adoptSocket,
};
