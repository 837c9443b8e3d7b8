/**
 * An ordered byte stream both ways (a unix or TCP connection, or one in memory) and what makes them. QMP and
 * the migration relay are written against this, so the simulation runs them without sockets.
 */

/** Where a channel leads or is waited for. Port 0 when listening: any free one. */
export type Address = { readonly unix: string } | { readonly tcp: string; readonly port: number };

/** As QEMU writes it in a migration URI: `unix:/run/x.sock`, `tcp:host:4444`, `tcp:[::1]:4444`. */
export function showAddress(address: Address): string {
  if ('unix' in address) return `unix:${address.unix}`;
  const host = address.tcp.includes(':') ? `[${address.tcp}]` : address.tcp;
  return `tcp:${host}:${address.port}`;
}

/** `unix:PATH` or `tcp:HOST:PORT` (IPv6 in brackets); undefined for anything else. */
export function parseAddress(text: string): Address | undefined {
  if (text.startsWith('unix:') && text.length > 5) return { unix: text.slice(5) };
  const parts = /^tcp:(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (parts === null || Number(parts[3]) > 65_535) return undefined;
  return { tcp: (parts[1] ?? parts[2])!, port: Number(parts[3]) };
}

export interface ChannelHandler {
  /** Bytes arrived; the chunk belongs to the receiver and is never reused, unless `borrows` said true. */
  data(chunk: Buffer): void;
  /**
   * Asked before a read. True: the next chunk may lie in the channel's own buffer. It is only written to a channel that
   * `sendsAtOnce`, and when that says stop, this one is paused until it has drained. Absent: never.
   */
  borrows?(): boolean;
  /** The peer sends no more; it may still read. */
  ended(): void;
  /** After a `write` that returned false: there is room again. */
  drained(): void;
  /** Once, and last. With the system's error when it was not an orderly end. */
  closed(error?: Error): void;
}

export interface DuplexChannel {
  /** Called once. Nothing is lost before it: bytes and the close wait for it. */
  attach(handler: ChannelHandler): void;
  /** Queues bytes (kept by reference, not to be changed). False: stop until `drained`. */
  write(chunk: Uint8Array): boolean;
  /** After a `write` that returned true, or after `drained`, nothing is queued here: the bytes are the kernel's. */
  readonly sendsAtOnce?: boolean;
  /** Sends what is queued, then says that no more will come. */
  end(): void;
  pause(): void;
  resume(): void;
  /** Closes at once; what is queued is thrown away. `closed` follows. */
  destroy(): void;
  /** For a successor process; -1 when there is none, or bytes are on their way through this process. */
  readonly descriptor?: number;
}

export interface ListenOptions {
  /** Permission bits of a unix socket file. */
  readonly mode?: number;
  /** Group of a unix socket file, by name or number. */
  readonly group?: string | number;
}

export interface ChannelServer {
  /** Where it listens, with the port the system chose. */
  readonly address: Address;
  /** Accepts no more; accepted channels live on. A unix socket file is removed. */
  close(): Promise<void>;
}

export interface Transport {
  /** A connection that an earlier process had, by its inherited descriptor. */
  adopt?(descriptor: number): DuplexChannel;
  /** Rejects with the system's error (`code` ECONNREFUSED, ENOENT ...), or ABORT_ERR when `signal` fires first. */
  connect(address: Address, signal?: AbortSignal): Promise<DuplexChannel>;
  /**
   * A unix socket file that nobody listens on is replaced; one in use rejects with EADDRINUSE.
   */
  listen(
    address: Address,
    accept: (channel: DuplexChannel) => void,
    options?: ListenOptions,
  ): Promise<ChannelServer>;
}
