import { chmodSync, chownSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { asColoError, ColoError } from '../errors.js';
import { Backoff, type BackoffOptions } from './backoff.js';
import type { StreamAddress } from './url.js';

/** What a stream link wants to know from the side that makes its connections. */
export interface EndpointEvents {
  /** A peer is there. The socket is paused, nothing was read from it. False refuses the peer. */
  connected(socket: Socket): boolean;
  /** No connection could be made, or the address could not be listened on; it is tried again. */
  failed(error: ColoError): void;
}

/** Makes connections, one at a time. `start` rejects for what waiting cannot mend. */
export interface StreamEndpoint {
  /** @param isConnected a connection is there already */
  start(events: EndpointEvents, isConnected?: boolean): Promise<void>;
  /** The connection handed over last is gone; `proven` when it had carried a frame. */
  connectionEnded(proven: boolean): void;
  close(): Promise<void>;
}

export interface ConnectOptions extends BackoffOptions {
  /** A connection attempt that takes longer is given up and made anew. */
  readonly connectMsMax: number;
}

/** Connects, and connects again. */
export class ConnectingEndpoint implements StreamEndpoint {
  readonly #address: StreamAddress;
  readonly #options: ConnectOptions;
  readonly #backoff: Backoff;
  #events!: EndpointEvents;
  #attempt: Socket | undefined;
  #closed = false;

  constructor(address: StreamAddress, options: ConnectOptions) {
    this.#address = address;
    this.#options = options;
    this.#backoff = new Backoff(options);
  }

  start(events: EndpointEvents, isConnected = false): Promise<void> {
    this.#events = events;
    if (isConnected) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#connect((error) => {
        if (!error || !isPermanent(error)) return resolve();
        this.#backoff.cancel();
        reject(error);
      });
    });
  }

  #connect(attempted?: (error?: ColoError) => void): void {
    const address = this.#address;
    const socket =
      address.family === 'unix'
        ? connect({ path: address.path })
        : connect({ host: address.host, port: address.port, noDelay: true });
    socket.pause();
    this.#attempt = socket;
    const limit = this.#options.clock.after(this.#options.connectMsMax, () => {
      socket.destroy(new Error(`no answer within ${this.#options.connectMsMax} ms`));
    });
    socket.once('close', () => limit.cancel());
    socket.once('connect', () => {
      this.#attempt = undefined;
      if (this.#closed || !this.#events.connected(socket)) socket.destroy();
      attempted?.();
    });
    socket.on('error', (cause) => {
      if (this.#closed || this.#attempt !== socket) return;
      this.#attempt = undefined;
      const error = asColoError(cause, 'COLO_ERR_LINK_OPEN', 'cannot connect');
      this.#backoff.schedule(() => this.#connect());
      this.#events.failed(error);
      attempted?.(error);
    });
  }

  connectionEnded(proven: boolean): void {
    if (this.#closed || this.#events === undefined) return; // `start` is to come
    if (proven) this.#backoff.reset();
    this.#backoff.schedule(() => this.#connect());
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#backoff.cancel();
    this.#attempt?.destroy();
  }
}

export interface ListenOptions extends BackoffOptions {
  /** Access mode and group of a unix socket made by us. */
  readonly socketMode?: number;
  readonly socketGroup?: number;
}

/** Listens for one peer at a time: while one is served, others are refused at once. */
export class ListeningEndpoint implements StreamEndpoint {
  readonly #address: StreamAddress;
  readonly #options: ListenOptions;
  readonly #backoff: Backoff;
  #events!: EndpointEvents;
  #server: Server | undefined;
  #closed = false;

  constructor(address: StreamAddress, options: ListenOptions) {
    this.#address = address;
    this.#options = options;
    this.#backoff = new Backoff(options);
  }

  async start(events: EndpointEvents): Promise<void> {
    this.#events = events;
    const error = await this.#listen();
    if (!error || !isPermanent(error)) return;
    this.#backoff.cancel();
    throw error;
  }

  async #listen(): Promise<ColoError | undefined> {
    try {
      if (this.#address.family === 'unix') await prepareSocketPath(this.#address.path);
      if (this.#closed) return undefined;
      await this.#bind();
      this.#backoff.reset();
      return undefined;
    } catch (cause) {
      const error = asColoError(cause, 'COLO_ERR_LINK_OPEN', 'cannot listen');
      if (!this.#closed) {
        this.#backoff.schedule(() => void this.#listen());
        this.#events.failed(error);
      }
      return error;
    }
  }

  #bind(): Promise<void> {
    const address = this.#address;
    const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      socket.on('error', () => socket.destroy());
      if (this.#closed || !this.#events.connected(socket)) socket.destroy();
    });
    server.maxConnections = 16;
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.on('error', reject);
      server.listen(
        address.family === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
        () => {
          try {
            this.#setAccess();
            resolve();
          } catch (error) {
            server.close();
            reject(error);
          }
        },
      );
    });
  }

  #setAccess(): void {
    if (this.#address.family !== 'unix') return;
    const { path } = this.#address;
    const { socketGroup, socketMode } = this.#options;
    if (socketGroup !== undefined) chownSync(path, -1, socketGroup);
    if (socketMode !== undefined) chmodSync(path, socketMode);
  }

  /** The server goes on listening: nothing to do. */
  connectionEnded(): void {}

  /** Node unlinks the socket file when its server closes. */
  close(): Promise<void> {
    this.#closed = true;
    this.#backoff.cancel();
    const server = this.#server;
    return new Promise((resolve) => {
      if (server?.listening) server.close(() => resolve());
      else resolve();
    });
  }
}

/** Unlinks a socket file that nobody listens on. Throws COLO_ERR_LINK_OPEN when somebody does, or it is no socket. */
async function prepareSocketPath(path: string): Promise<void> {
  // Said here because Node reports a missing directory as EACCES, which is not worth waiting for.
  if (!existsSync(dirname(path))) {
    throw new ColoError('COLO_ERR_LINK_OPEN', `the directory ${dirname(path)} does not exist`);
  }
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (!status) return;
  if (!status.isSocket()) {
    throw new ColoError(
      'COLO_ERR_LINK_OPEN',
      `${path} exists and is not a socket: choose another path or remove it`,
      {
        cause: { code: 'ENOTSOCK' },
      },
    );
  }
  if (await somebodyListens(path)) {
    throw new ColoError('COLO_ERR_LINK_OPEN', `another process already listens on ${path}`);
  }
  unlinkSync(path);
}

function somebodyListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}

const PERMANENT_CODES = new Set(['EACCES', 'EPERM', 'ENOTSOCK', 'ENAMETOOLONG']);

/** Errors that waiting cannot mend: no privilege, or a name that can never be a socket. */
function isPermanent(error: ColoError): boolean {
  const cause = error.cause as { code?: string } | undefined;
  return PERMANENT_CODES.has(cause?.code ?? '');
}
