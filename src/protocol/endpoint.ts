/** One end of the checkpoint protocol, as a VM speaks it: encodes its own words, checks the order of the peer's. */
import { ColoError } from '../errors.js';
import { ByteQueue } from './byte-queue.js';
import { type Dialect, encodeWord } from './dialect.js';
import { type ProtocolState, type Role, senderOf } from './state-tables.js';
import type { SyncPoint } from './sync-point.js';
import { ChannelState, type ProtocolViolation, takeWord } from './word-parser.js';

export class Endpoint {
  readonly role: Role;
  readonly #channel: ChannelState;
  readonly #queue = new ByteQueue();

  constructor(role: Role, dialect: Dialect) {
    this.role = role;
    this.#channel = new ChannelState(dialect, 'endpoint');
  }

  get state(): ProtocolState {
    return this.#channel.state;
  }

  /** Bytes that arrived and were not taken yet. */
  get pendingBytes(): number {
    return this.#queue.length;
  }

  /** The bytes of our next word; throws COLO_ERR_PROTOCOL_WORD when it is not ours or not its turn. */
  encode(word: SyncPoint, value?: bigint): Buffer {
    if (senderOf(word) !== this.role) {
      throw new ColoError('COLO_ERR_PROTOCOL_WORD', `the ${this.role} never sends ${word}`);
    }
    const bytes = encodeWord(this.#channel.dialect, word, value);
    this.#channel.advance(word);
    return bytes;
  }

  push(chunk: Buffer): void {
    this.#queue.push(chunk);
  }

  /** The peer's next word, a violation, or undefined until more arrives. Call it only where a word must stand. */
  nextWord():
    | { readonly kind: 'word'; readonly word: SyncPoint; readonly value?: bigint }
    | ProtocolViolation
    | undefined {
    const channel = this.#channel;
    const direction = this.role === 'primary' ? 'secondary-to-primary' : 'primary-to-secondary';
    const taken = takeWord(channel.dialect, this.#queue);
    if (taken === undefined) return undefined;
    if (typeof taken === 'string') return channel.violation(direction, taken);
    if (senderOf(taken.word) === this.role || !channel.allows(taken.word)) {
      return channel.violation(direction, taken.word);
    }
    channel.advance(taken.word);
    return { kind: 'word', word: taken.word, ...(taken.value === undefined ? {} : { value: taken.value }) };
  }

  /** Exactly `count` bytes of state, or undefined (nothing taken) until they have arrived. */
  takeBytes(count: number): Buffer | undefined {
    return this.#queue.take(count);
  }

  /** Some bytes of state, at most `countMax`, as they came. */
  takeSome(countMax: number): Buffer | undefined {
    return this.#queue.takeSome(countMax);
  }
}
