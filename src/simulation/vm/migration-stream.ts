import { ColoError } from '../../errors.js';
import type { Dialect } from '../../protocol/dialect.js';
import { Endpoint } from '../../protocol/endpoint.js';
import type { Role } from '../../protocol/state-tables.js';
import type { SyncPoint } from '../../protocol/sync-point.js';
import type { DuplexChannel } from '../../system/channel.js';

/** `QEVM` and the version of QEMU's stream (migration/savevm.h), so that a capture looks familiar. */
const MAGIC = Buffer.from('5145564d00000003', 'hex');
const END_OF_SECTION = Buffer.from([0]);
const SECTION_BYTES_MAX = 256 * 1024 * 1024;

/**
 * A VM's end of the migration channel: words by the protocol's own codec, between them sections of opaque
 * bytes. Every wait ends with the channel: it rejects with COLO_ERR_CHANNEL_LOST.
 */
export class MigrationStream {
  readonly #channel: DuplexChannel;
  readonly #endpoint: Endpoint;
  #lost: ColoError | null = null;
  #ended = false;
  #wake: () => void = () => {};
  #writable: (() => void)[] = [];
  #full = false;
  /** Called once, when the channel is gone. */
  onLost: () => void = () => {};

  constructor(channel: DuplexChannel, role: Role, dialect: Dialect) {
    this.#channel = channel;
    this.#endpoint = new Endpoint(role, dialect);
    channel.attach({
      data: (chunk) => {
        this.#endpoint.push(chunk);
        this.#wake();
      },
      // Only reading ends: a secondary that is loading still says LOADED, and QEMU keeps its socket until then.
      ended: () => {
        this.#ended = true;
        this.#wake();
      },
      drained: () => this.#unblock(),
      closed: (error) => this.#lose(error?.message ?? 'the migration channel was closed'),
    });
  }

  close(): void {
    this.#lose('closed by this VM');
  }

  async sendWord(word: SyncPoint, value?: bigint): Promise<void> {
    await this.#write(this.#endpoint.encode(word, value));
  }

  /** Waits for the peer's next word; anything else than `expected` is a violation. */
  async expectWord(expected: SyncPoint): Promise<bigint | undefined> {
    const got = await this.#until(() => this.#endpoint.nextWord());
    if (got.kind === 'word' && got.word === expected) return got.value;
    const what = got.kind === 'word' ? got.word : got.got;
    this.#lose(`expected ${expected}, got ${what}`);
    throw new ColoError('COLO_ERR_PROTOCOL_WORD', `expected ${expected}, got ${what}`);
  }

  async sendHeader(): Promise<void> {
    await this.#write(MAGIC);
  }

  async expectHeader(): Promise<void> {
    const header = await this.#take(MAGIC.length);
    if (!header.equals(MAGIC)) throw new ColoError('COLO_ERR_PROTOCOL_WORD', 'not a migration stream');
  }

  /** be32 length, the bytes, and the zero byte that ends a QEMU stream. */
  async sendSection(bytes: Uint8Array): Promise<void> {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    await this.#write(length);
    await this.#write(bytes);
    await this.#write(END_OF_SECTION);
  }

  async takeSection(): Promise<Buffer> {
    const length = (await this.#take(4)).readUInt32BE();
    if (length > SECTION_BYTES_MAX) {
      throw new ColoError('COLO_ERR_PROTOCOL_WORD', `a section of ${length} bytes`);
    }
    const bytes = await this.#take(length);
    await this.#take(END_OF_SECTION.length);
    return bytes;
  }

  async sendBytes(bytes: Uint8Array): Promise<void> {
    await this.#write(bytes);
  }

  takeBytes(count: bigint): Promise<Buffer> {
    return this.#take(Number(count));
  }

  async #take(count: number): Promise<Buffer> {
    return count === 0 ? Buffer.alloc(0) : this.#until(() => this.#endpoint.takeBytes(count));
  }

  async #until<T>(attempt: () => T | undefined): Promise<T> {
    for (;;) {
      // What came before the end still counts: LOADED may be read from a channel that is already closed.
      const value = attempt();
      if (value !== undefined) return value;
      if (this.#lost !== null) throw this.#lost;
      if (this.#ended) throw new ColoError('COLO_ERR_CHANNEL_LOST', 'the peer sends no more');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    while (this.#full && this.#lost === null)
      await new Promise<void>((resolve) => this.#writable.push(resolve));
    if (this.#lost !== null) throw this.#lost;
    this.#full = !this.#channel.write(bytes);
  }

  #unblock(): void {
    this.#full = false;
    for (const resolve of this.#writable.splice(0)) resolve();
  }

  #lose(reason: string): void {
    if (this.#lost !== null) return;
    this.#lost = new ColoError('COLO_ERR_CHANNEL_LOST', reason);
    this.#channel.destroy();
    this.#wake();
    this.#unblock();
    this.onLost();
  }
}
