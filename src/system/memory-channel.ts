/** Channels in memory: the same behaviour as sockets, delivered by the given clock, so a run can be repeated. */
import {
  type Address,
  type ChannelHandler,
  type ChannelServer,
  type DuplexChannel,
  showAddress,
  type Transport,
} from './channel.js';
import type { Clock } from './clock.js';

/** Bytes on the way in one direction before `write` says stop; a Linux unix socket holds about as much. */
const QUEUE_BYTES_MAX = 212_992;

type Delivery = { readonly chunk: Buffer } | 'end';

class MemoryChannel implements DuplexChannel {
  readonly #clock: Clock;
  readonly #latencyMs: number;
  peer!: MemoryChannel;
  #handler: ChannelHandler | undefined;
  #inbox: Delivery[] = [];
  #inboxBytes = 0;
  #paused = false;
  #sentEnd = false;
  #gotEnd = false;
  #destroyed = false;
  #closed = false;
  #peerWaits = false;

  constructor(clock: Clock, latencyMs: number) {
    this.#clock = clock;
    this.#latencyMs = latencyMs;
  }

  attach(handler: ChannelHandler): void {
    this.#handler = handler;
    this.#later(() => (this.#closed ? handler.closed() : this.#deliver()));
  }

  write(chunk: Uint8Array): boolean {
    if (this.#destroyed || this.#sentEnd || chunk.length === 0) return true;
    return this.peer.#accept({ chunk: Buffer.from(chunk) });
  }

  end(): void {
    if (this.#destroyed || this.#sentEnd) return;
    this.#sentEnd = true;
    this.peer.#accept('end');
    if (this.#gotEnd) this.#later(() => this.#close());
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#later(() => this.#deliver());
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    if (!this.#sentEnd) this.peer.#accept('end');
    this.#sentEnd = true;
    this.#inbox = [];
    this.#later(() => this.#close());
  }

  #later(action: () => void): void {
    this.#clock.after(this.#latencyMs, action);
  }

  #accept(delivery: Delivery): boolean {
    if (this.#closed) return true;
    this.#inbox.push(delivery);
    if (delivery !== 'end') this.#inboxBytes += delivery.chunk.length;
    this.#later(() => this.#deliver());
    this.#peerWaits = this.#inboxBytes >= QUEUE_BYTES_MAX;
    return !this.#peerWaits;
  }

  #deliver(): void {
    while (this.#handler !== undefined && !this.#paused && !this.#destroyed && !this.#closed) {
      const delivery = this.#inbox.shift();
      if (delivery === undefined) return;
      if (delivery === 'end') {
        this.#gotEnd = true;
        this.#handler.ended();
        if (this.#sentEnd) this.#close();
        return;
      }
      this.#inboxBytes -= delivery.chunk.length;
      this.#handler.data(delivery.chunk);
      if (this.#peerWaits && this.#inboxBytes < QUEUE_BYTES_MAX) {
        this.#peerWaits = false;
        this.peer.#handler?.drained();
      }
    }
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handler?.closed();
  }
}

/** Two ends joined by the clock. */
export function memoryChannelPair(clock: Clock, latencyMs = 0): [DuplexChannel, DuplexChannel] {
  const left = new MemoryChannel(clock, latencyMs);
  const right = new MemoryChannel(clock, latencyMs);
  left.peer = right;
  right.peer = left;
  return [left, right];
}

function systemError(code: string, text: string): Error {
  return Object.assign(new Error(`${code}: ${text}`), { code });
}

/** A small world of addresses: what listens here can be connected to here, nowhere else. */
export class MemoryTransport implements Transport {
  readonly #clock: Clock;
  readonly #latencyMs: number;
  readonly #servers = new Map<string, (channel: DuplexChannel) => void>();

  constructor(clock: Clock, latencyMs = 0) {
    this.#clock = clock;
    this.#latencyMs = latencyMs;
  }

  connect(address: Address, signal?: AbortSignal): Promise<DuplexChannel> {
    return new Promise((resolve, reject) => {
      this.#clock.after(this.#latencyMs, () => {
        const accept = this.#servers.get(showAddress(address));
        if (signal?.aborted) return reject(signal.reason);
        if (accept === undefined) return reject(systemError('ECONNREFUSED', showAddress(address)));
        const [near, far] = memoryChannelPair(this.#clock, this.#latencyMs);
        accept(far);
        resolve(near);
      });
    });
  }

  listen(address: Address, accept: (channel: DuplexChannel) => void): Promise<ChannelServer> {
    const key = showAddress(address);
    if (this.#servers.has(key)) return Promise.reject(systemError('EADDRINUSE', key));
    this.#servers.set(key, accept);
    const close = (): Promise<void> => {
      this.#servers.delete(key);
      return Promise.resolve();
    };
    return Promise.resolve({ address, close });
  }
}
