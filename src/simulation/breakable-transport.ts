import {
  type Address,
  type ChannelServer,
  type DuplexChannel,
  type ListenOptions,
  showAddress,
  type Transport,
} from '../system/channel.js';

/** A transport whose channels can be cut from outside, as a fault does, and that can refuse new ones for a while. */
export class BreakableTransport implements Transport {
  readonly #inner: Transport;
  readonly #channels = new Map<string, DuplexChannel[]>();
  /** Addresses nobody reaches at present. */
  readonly unreachable = new Set<string>();

  constructor(inner: Transport) {
    this.#inner = inner;
  }

  async connect(address: Address, signal?: AbortSignal): Promise<DuplexChannel> {
    const key = showAddress(address);
    if (this.unreachable.has(key)) return new Promise((_resolve, reject) => this.#timeOut(reject, signal));
    const channel = await this.#inner.connect(address, signal);
    const kept = this.#channels.get(key) ?? [];
    kept.push(channel);
    this.#channels.set(key, kept);
    return channel;
  }

  listen(
    address: Address,
    accept: (channel: DuplexChannel) => void,
    options?: ListenOptions,
  ): Promise<ChannelServer> {
    return this.#inner.listen(address, accept, options);
  }

  /** Cuts every channel that was opened to that address. */
  cut(address: Address): void {
    for (const channel of this.#channels.get(showAddress(address))?.splice(0) ?? []) channel.destroy();
  }

  /** A peer behind a cut cable answers nothing, not even a refusal. */
  #timeOut(reject: (reason: unknown) => void, signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) reject(signal.reason);
    else signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  }
}
