/**
 * The first bytes of a connection, looked at before anybody acts on it: a port scanner, a TLS client or a second
 * manager must not use up the secondary, which takes one migration only.
 */
import type { ChannelHandler, DuplexChannel } from '../system/channel.js';

/** QEMU's migration stream and its multifd channels (migration/savevm.h, migration/multifd.c). */
const MAGICS: readonly number[] = [0x5145564d, 0x11223344];
const MAGIC_BYTES = 4;

/** What a connection began with: a stream of QEMU's, something else, or nothing before it closed. */
export type StreamStart = 'migration' | 'closed' | { readonly foreign: string };

/** A channel whose first bytes have been seen and are still delivered to whoever attaches. */
export class StartedChannel implements DuplexChannel {
  readonly #inner: DuplexChannel;
  #handler: ChannelHandler | undefined;
  #seen: Buffer[] = [];
  #ended = false;
  #closed: { readonly error: Error | undefined } | undefined;
  #settle: (start: StreamStart) => void = () => undefined;
  /** Never rejects. */
  readonly start: Promise<StreamStart>;

  constructor(inner: DuplexChannel) {
    this.#inner = inner;
    this.start = new Promise((resolve) => {
      this.#settle = resolve;
    });
    inner.attach({
      data: (chunk) => (this.#handler === undefined ? this.#look(chunk) : this.#handler.data(chunk)),
      borrows: () => this.#handler?.borrows?.() === true,
      ended: () => {
        this.#ended = true;
        this.#settle('closed');
        this.#handler?.ended();
      },
      drained: () => this.#handler?.drained(),
      closed: (error) => {
        this.#closed = { error };
        this.#settle('closed');
        this.#handler?.closed(error);
      },
    });
  }

  attach(handler: ChannelHandler): void {
    queueMicrotask(() => {
      this.#handler = handler;
      const seen = this.#seen;
      this.#seen = [];
      this.#inner.resume();
      for (const chunk of seen) handler.data(chunk);
      if (this.#ended) handler.ended();
      if (this.#closed !== undefined) handler.closed(this.#closed.error);
    });
  }

  get sendsAtOnce(): boolean {
    return this.#inner.sendsAtOnce === true;
  }

  write(chunk: Uint8Array): boolean {
    return this.#inner.write(chunk);
  }

  end(): void {
    this.#inner.end();
  }

  pause(): void {
    this.#inner.pause();
  }

  resume(): void {
    this.#inner.resume();
  }

  destroy(): void {
    this.#inner.destroy();
  }

  get descriptor(): number {
    return this.#inner.descriptor ?? -1;
  }

  #look(chunk: Buffer): void {
    this.#seen.push(chunk);
    const head = Buffer.concat(this.#seen);
    if (head.length < MAGIC_BYTES) return;
    this.#inner.pause();
    const isMigration = MAGICS.includes(head.readUInt32BE(0));
    this.#settle(isMigration ? 'migration' : { foreign: head.toString('hex', 0, MAGIC_BYTES) });
  }
}
