/**
 * Channels over unix and TCP sockets, for the migration channel: gigabytes that must not pass through the heap, between
 * words of four bytes that must not wait.
 */
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { acknowledgeAtOnce, adoptStream, type StreamPort } from '../../native/index.js';
import type { ChannelHandler, DuplexChannel, Transport } from './channel.js';
import { socketTransportOf } from './socket-channel.js';

/** One read; a Linux unix socket holds less by default, a second-level cache as much. */
const READ_BYTES_MAX = 256 * 1024;

/** Reads in a row before others get their turn: while one is passed on, the next has often come. */
const READS_MAX = 8;
/** Less in one read: words, or a peer that has no more for now. */
const BULK_BYTES_MIN = 16 * 1024;

/** What a read that is not lent goes to first: its bytes are copied in the size that came. */
const scratch = Buffer.allocUnsafeSlow(READ_BYTES_MAX);

class StreamChannel implements DuplexChannel {
  readonly sendsAtOnce = true;
  readonly #port: StreamPort;
  /** The kernel delays TCP's acknowledgements; a unix socket has none. */
  #acknowledges: boolean;
  #handler: ChannelHandler | undefined;
  /** What is lent to the handler, once it borrows. */
  #lent: Buffer | undefined;
  #queue: Uint8Array[] = [];
  #paused = false;
  #reading = false;
  #gotEnd = false;
  #isEnding = false;
  #sentEnd = false;
  #closed = false;
  #error: Error | undefined;

  constructor(port: StreamPort) {
    this.#port = port;
    this.#acknowledges = acknowledge(port.fd);
  }

  attach(handler: ChannelHandler): void {
    this.#handler = handler;
    if (this.#closed) queueMicrotask(() => handler.closed(this.#error));
    else this.#read();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#closed || this.#isEnding || chunk.length === 0) return true;
    if (this.#queue.length > 0) {
      this.#queue.push(chunk);
      return false;
    }
    const sent = this.#send(chunk);
    if (sent === chunk.length || this.#closed) return true;
    this.#queue.push(chunk.subarray(sent));
    this.#port.wantWritable(this.#onWritable);
    return false;
  }

  end(): void {
    if (this.#closed || this.#isEnding) return;
    this.#isEnding = true;
    if (this.#queue.length === 0) this.#sendEnd();
  }

  pause(): void {
    this.#paused = true;
    this.#stopReading();
  }

  resume(): void {
    this.#paused = false;
    this.#read();
  }

  destroy(): void {
    this.#close();
  }

  get descriptor(): number {
    const isBusy = this.#queue.length > 0 || this.#gotEnd || this.#isEnding;
    return this.#closed || isBusy ? -1 : this.#port.fd;
  }

  #read(): void {
    if (this.#reading || this.#paused || this.#closed || this.#gotEnd || this.#handler === undefined) return;
    this.#reading = true;
    this.#port.start(this.#onReadable);
  }

  #stopReading(): void {
    if (!this.#reading || this.#closed) return;
    this.#reading = false;
    this.#port.stop();
    if (this.#queue.length > 0) this.#port.wantWritable(this.#onWritable);
  }

  readonly #onReadable = (): void => {
    for (let reads = 0; reads < READS_MAX && this.#reading; reads++) {
      if (this.#readOnce() < BULK_BYTES_MIN) return;
    }
  };

  /** Bytes that came. */
  #readOnce(): number {
    const handler = this.#handler!;
    const borrows = handler.borrows?.() === true;
    if (borrows) this.#lent ??= Buffer.allocUnsafeSlow(READ_BYTES_MAX);
    const buffer = borrows ? this.#lent! : scratch;
    let count: number;
    try {
      count = this.#port.read(buffer, 0, READ_BYTES_MAX);
    } catch (error) {
      this.#close(error as Error);
      return 0;
    }
    if (count < 0) return 0;
    if (count === 0) {
      this.#stopReading();
      this.#gotEnd = true;
      handler.ended();
      if (this.#sentEnd) this.#close();
      return 0;
    }
    // QEMU leaves Nagle's algorithm on: its next small word waits until this one is acknowledged. The kernel leaves
    // the quick mode by itself, so this is after every read.
    if (this.#acknowledges) this.#acknowledges = acknowledge(this.#port.fd);
    const chunk = buffer.subarray(0, count);
    handler.data(borrows ? chunk : Buffer.from(chunk));
    return count;
  }

  /** Bytes the kernel has taken; fewer than asked for: it takes no more now. */
  #send(chunk: Uint8Array): number {
    try {
      return this.#port.write(chunk, 0, chunk.length);
    } catch (error) {
      this.#close(error as Error);
      return 0;
    }
  }

  readonly #onWritable = (): void => {
    for (let chunk = this.#queue[0]; chunk !== undefined; chunk = this.#queue[0]) {
      const sent = this.#send(chunk);
      if (this.#closed) return;
      if (sent < chunk.length) {
        this.#queue[0] = chunk.subarray(sent);
        this.#port.wantWritable(this.#onWritable);
        return;
      }
      this.#queue.shift();
    }
    if (this.#isEnding) this.#sendEnd();
    else this.#handler?.drained();
  };

  #sendEnd(): void {
    this.#sentEnd = true;
    try {
      this.#port.finish();
    } catch (error) {
      this.#close(error as Error);
      return;
    }
    if (this.#gotEnd) this.#close();
  }

  #close(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reading = false;
    this.#error = error;
    this.#queue = [];
    this.#lent = undefined;
    this.#port.close();
    queueMicrotask(() => this.#handler?.closed(error));
  }
}

/** False: this is no TCP connection, or not any more, which its own reads and writes tell. */
function acknowledge(fd: number): boolean {
  try {
    acknowledgeAtOnce(fd);
    return true;
  } catch {
    return false;
  }
}

/** Node has no public way to a socket's descriptor. */
function takeOver(socket: Socket): DuplexChannel {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
  if (fd < 0) throw Object.assign(new Error('the connection has no descriptor any more'), { code: 'EBADF' });
  const channel = new StreamChannel(adoptStream(fd));
  socket.destroy(); // its descriptor; ours is a copy, so the connection stays
  return channel;
}

function adopt(fd: number): DuplexChannel {
  const channel = new StreamChannel(adoptStream(fd));
  closeSync(fd);
  return channel;
}

export const streamTransport: Transport = { ...socketTransportOf(takeOver), adopt };
