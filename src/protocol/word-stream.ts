/** One end of a migration channel to be driven: words in their order, state in between, every wait limited. */
import { ColoError } from '../errors.js';
import type { DuplexChannel } from '../system/channel.js';
import type { Clock } from '../system/clock.js';
import type { Dialect } from './dialect.js';
import { Endpoint } from './endpoint.js';
import { compareState, STATE_CHUNK_BYTES, stateChunk } from './state-pattern.js';
import type { Role } from './state-tables.js';
import type { SyncPoint } from './sync-point.js';
import { violationError } from './word-parser.js';

/** What has arrived and was not taken yet; beyond it the peer waits. */
const PENDING_BYTES_MAX = 4 * 1024 * 1024;

export class WordStream {
  readonly #channel: DuplexChannel;
  readonly #endpoint: Endpoint;
  readonly #clock: Clock;
  readonly #waitMsMax: number;
  #wake: () => void = () => undefined;
  #full = false;
  #paused = false;
  #lost: ColoError | undefined;

  /** Every wait for the peer ends after `waitMsMax` with COLO_ERR_PHASE_LIMIT. */
  constructor(channel: DuplexChannel, role: Role, dialect: Dialect, clock: Clock, waitMsMax: number) {
    this.#channel = channel;
    this.#endpoint = new Endpoint(role, dialect);
    this.#clock = clock;
    this.#waitMsMax = waitMsMax;
    channel.attach({
      data: (chunk) => {
        this.#endpoint.push(chunk);
        this.#balance();
        this.#wake();
      },
      ended: () => this.#lose('the peer has closed the channel'),
      drained: () => {
        this.#full = false;
        this.#wake();
      },
      closed: (error) => this.#lose(error?.message ?? 'the channel was closed'),
    });
  }

  async say(word: SyncPoint, value?: bigint): Promise<void> {
    await this.#write(this.#endpoint.encode(word, value));
  }

  /** The peer's next word. Rejects with COLO_ERR_PROTOCOL_WORD for one out of order, COLO_ERR_CHANNEL_LOST, or in time. */
  async hear(): Promise<{ readonly word: SyncPoint; readonly value?: bigint }> {
    const got = await this.#until(() => this.#endpoint.nextWord(), 'a word');
    if (got.kind === 'word') return got;
    throw violationError(got);
  }

  async expect(word: SyncPoint): Promise<bigint | undefined> {
    const got = await this.hear();
    if (got.word === word) return got.value;
    throw new ColoError('COLO_ERR_PROTOCOL_WORD', `got ${got.word}, expected ${word}`);
  }

  async sendBytes(bytes: Uint8Array): Promise<void> {
    await this.#write(bytes);
  }

  async receiveBytes(count: number): Promise<Buffer> {
    return this.#until(() => this.#endpoint.takeBytes(count), `${count} bytes`);
  }

  /** `bytes` of made-up state, never held whole. */
  async sendState(bytes: number): Promise<void> {
    for (let at = 0; at < bytes; at += STATE_CHUNK_BYTES) {
      await this.#write(stateChunk(at, Math.min(STATE_CHUNK_BYTES, bytes - at)));
    }
  }

  /** Takes exactly `bytes` of it and compares each; COLO_ERR_CHANNEL_LOST when one is wrong. */
  async receiveState(bytes: number): Promise<void> {
    for (let at = 0; at < bytes; ) {
      const left = bytes - at;
      const some = await this.#until(() => this.#endpoint.takeSome(left), `${left} bytes of state`);
      const wrong = compareState(some, at);
      if (wrong >= 0)
        throw new ColoError('COLO_ERR_CHANNEL_LOST', `byte ${at + wrong} of the state is wrong`);
      at += some.length;
    }
  }

  close(): void {
    this.#channel.end();
  }

  destroy(): void {
    this.#channel.destroy();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    await this.#until(() => (this.#full ? undefined : true), 'room to send');
    this.#full = !this.#channel.write(bytes);
  }

  async #until<T>(attempt: () => T | undefined, what: string): Promise<T> {
    let isOver = false;
    const limit = this.#clock.after(this.#waitMsMax, () => {
      isOver = true;
      this.#wake();
    });
    try {
      for (;;) {
        const value = attempt();
        this.#balance();
        if (value !== undefined) return value;
        if (this.#lost !== undefined) throw this.#lost;
        if (isOver) {
          throw new ColoError('COLO_ERR_PHASE_LIMIT', `waited ${this.#waitMsMax} ms for ${what}`);
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      limit.cancel();
    }
  }

  #balance(): void {
    const wait = this.#endpoint.pendingBytes > PENDING_BYTES_MAX;
    if (wait === this.#paused) return;
    this.#paused = wait;
    if (wait) this.#channel.pause();
    else this.#channel.resume();
  }

  #lose(reason: string): void {
    this.#lost ??= new ColoError('COLO_ERR_CHANNEL_LOST', reason);
    this.#full = false;
    this.#wake();
  }
}
