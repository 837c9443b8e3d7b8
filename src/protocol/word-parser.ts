/**
 * The two directions of a migration channel, parsed incrementally whatever the chunking. Both parsers of a
 * channel share one `ChannelState`, because what one direction may carry depends on what passed in the other:
 * the primary's RAM is opaque until RECEIVED comes back. They never throw and never hold more than one
 * incomplete word or return-path message beyond what was pushed and not taken.
 */
import { ColoError } from '../errors.js';
import { ByteQueue } from './byte-queue.js';
import { carriesValue, type Dialect, VALUE_BYTES, wordBytes, wordOfCode } from './dialect.js';
import { upstreamDialect } from './dialect-upstream.js';
import type { DialectChoice } from './dialects.js';
import { v8Dialect } from './dialects-early.js';
import {
  expectedWords,
  nextState,
  type Observer,
  type ProtocolState,
  type StateTable,
  stateTable,
} from './state-tables.js';
import type { Direction, SyncPoint } from './sync-point.js';

/** A word out of order or unknown. `got` is a word's name or the bytes in hexadecimal. */
export interface ProtocolViolation {
  readonly kind: 'violation';
  readonly error: 'COLO_ERR_PROTOCOL_WORD';
  readonly direction: Direction;
  readonly got: string;
  readonly expected: readonly SyncPoint[];
  readonly state: ProtocolState;
}

/** `bytes` of a word are what to forward; opaque bytes are to be forwarded as they are. */
export type ProtocolItem =
  | { readonly kind: 'word'; readonly word: SyncPoint; readonly value?: bigint; readonly bytes: Buffer }
  | { readonly kind: 'opaque'; readonly bytes: Buffer }
  | ProtocolViolation;

export function violationError(violation: ProtocolViolation): ColoError {
  const expected = violation.expected.length > 0 ? violation.expected.join(' or ') : 'nothing';
  return new ColoError(
    violation.error,
    `${violation.direction}: got ${violation.got}, expected ${expected} in state ${violation.state}`,
  );
}

/** What has passed on one channel. A word counts when `advance` is called, that is, when it was forwarded. */
export class ChannelState {
  #dialect: Dialect;
  #table: StateTable;
  readonly #observer: Observer;
  #isDecided: boolean;
  state: ProtocolState = 'starting';
  /** `auto` has become a dialect. */
  onDecided: (dialect: Dialect) => void = () => undefined;

  constructor(choice: DialectChoice, observer: Observer = 'relay') {
    this.#isDecided = choice !== 'auto';
    this.#dialect = choice === 'auto' ? upstreamDialect : choice;
    this.#observer = observer;
    this.#table = stateTable(this.#dialect, observer);
  }

  /** Until `auto` is decided: upstream. */
  get dialect(): Dialect {
    return this.#dialect;
  }

  get table(): StateTable {
    return this.#table;
  }

  get isDecided(): boolean {
    return this.#isDecided;
  }

  decide(dialect: Dialect): void {
    if (this.#isDecided) return;
    this.#isDecided = true;
    this.#dialect = dialect;
    this.#table = stateTable(dialect, this.#observer);
    this.onDecided(dialect);
  }

  allows(word: SyncPoint): boolean {
    return nextState(this.table, this.state, word) !== undefined;
  }

  /** Throws for a word the parsers would not have let through. */
  advance(word: SyncPoint): void {
    const next = nextState(this.table, this.state, word);
    if (next === undefined) {
      throw new ColoError('COLO_ERR_PROTOCOL_WORD', `${word} has no place in state ${this.state}`);
    }
    this.state = next;
  }

  violation(direction: Direction, got: string): ProtocolViolation {
    const expected = expectedWords(this.table, this.state, direction);
    return {
      kind: 'violation',
      error: 'COLO_ERR_PROTOCOL_WORD',
      direction,
      got,
      expected,
      state: this.state,
    };
  }
}

/** The next word in `queue`, without regard to order; undefined while it is incomplete; a string names an unknown code. */
export function takeWord(
  dialect: Dialect,
  queue: ByteQueue,
): { word: SyncPoint; value?: bigint; bytes: Buffer } | string | undefined {
  const head = queue.peek(dialect.codeBytes);
  if (head === undefined) return undefined;
  const code = dialect.codeBytes === 4 ? BigInt(head.readUInt32BE(0)) : head.readBigUInt64BE(0);
  const word = wordOfCode(dialect, code);
  if (word === undefined) return `0x${head.toString('hex')}`;
  const bytes = queue.take(wordBytes(dialect, word));
  if (bytes === undefined || !carriesValue(dialect, word)) return bytes && { word, bytes };
  return { word, value: bytes.readBigUInt64BE(dialect.codeBytes), bytes };
}

/** What both directions do: one incomplete thing at a time, and nothing more after a violation. */
abstract class WordParser {
  protected readonly queue = new ByteQueue();
  protected readonly channel: ChannelState;
  readonly #direction: Direction;
  #violation: ProtocolViolation | undefined;

  constructor(channel: ChannelState, direction: Direction) {
    this.channel = channel;
    this.#direction = direction;
  }

  /** Bytes pushed and not yet taken as items. Not 0 at the end of a stream: it ended in mid-word. */
  get pendingBytes(): number {
    return this.queue.length;
  }

  /** No word can come now, whatever the bytes. */
  get isOpaque(): boolean {
    return false;
  }

  push(chunk: Buffer): void {
    this.queue.push(chunk);
  }

  /** The next item, or undefined until more arrives. After a word call `advance` on the channel before the next. */
  next(): ProtocolItem | undefined {
    if (this.#violation !== undefined) return this.#violation;
    const item = this.parse();
    if (item?.kind === 'violation') this.#violation = item;
    return item;
  }

  /** For a peer that has begun a word and does not go on. */
  unfinished(): ProtocolViolation {
    const begun = this.queue.peek(Math.min(this.queue.length, 2 * VALUE_BYTES))!.toString('hex');
    return this.violation(`0x${begun} and no more (another dialect?)`);
  }

  protected abstract parse(): ProtocolItem | undefined;

  protected word(): ProtocolItem | undefined {
    const taken = takeWord(this.channel.dialect, this.queue);
    if (taken === undefined) return undefined;
    if (typeof taken === 'string') return this.violation(taken);
    const expected = expectedWords(this.channel.table, this.channel.state, this.#direction);
    return expected.includes(taken.word) ? { kind: 'word', ...taken } : this.violation(taken.word);
  }

  protected violation(got: string): ProtocolViolation {
    return this.channel.violation(this.#direction, got);
  }
}

/** Return-path messages known to QEMU are below this (migration/migration.h: MIG_RP_MSG_MAX). */
const RETURN_PATH_TYPE_MAX = 31;
/** QEMU refuses a longer payload itself (migration/migration.c: source_return_path_thread). */
const RETURN_PATH_BYTES_MAX = 512;
const RETURN_PATH_HEADER_BYTES = 4;
/** The second half of v8's READY. */
const V8_READY_REST = Buffer.from('00000046', 'hex');

/**
 * Secondary to primary: bare words, before READY also return-path messages. Their type 0 does not exist, so
 * a leading 0 can only begin a word.
 */
export class SecondaryWords extends WordParser {
  constructor(channel: ChannelState) {
    super(channel, 'secondary-to-primary');
  }

  protected override parse(): ProtocolItem | undefined {
    const { channel } = this;
    if (!channel.isDecided && channel.state === 'running') return this.#restOfReady();
    if (channel.state !== 'starting' || !channel.dialect.returnPath) return this.word();
    const header = this.queue.peek(RETURN_PATH_HEADER_BYTES);
    if (header === undefined) return undefined;
    const type = header.readUInt16BE(0);
    if (type === 0) return this.word();
    const payloadBytes = header.readUInt16BE(2);
    if (type > RETURN_PATH_TYPE_MAX || payloadBytes > RETURN_PATH_BYTES_MAX) {
      return this.violation(`return-path message of type ${type} and ${payloadBytes} bytes`);
    }
    const bytes = this.queue.take(RETURN_PATH_HEADER_BYTES + payloadBytes);
    return bytes && { kind: 'opaque', bytes };
  }

  /** `auto`, after four zero bytes: see DialectChoice. */
  #restOfReady(): ProtocolItem | undefined {
    const rest = this.queue.peek(V8_READY_REST.length);
    if (rest === undefined || !rest.equals(V8_READY_REST)) return rest && this.word();
    this.channel.decide(v8Dialect);
    return { kind: 'opaque', bytes: this.queue.take(V8_READY_REST.length)! };
  }
}

/** Primary to secondary: opaque before READY and from SEND to RECEIVED, else bare words. */
export class PrimaryWords extends WordParser {
  constructor(channel: ChannelState) {
    super(channel, 'primary-to-secondary');
  }

  override get isOpaque(): boolean {
    const { state } = this.channel;
    return state === 'starting' || state === 'sending';
  }

  protected override parse(): ProtocolItem | undefined {
    if (this.isOpaque) {
      const bytes = this.queue.takeSome(Number.MAX_SAFE_INTEGER);
      return bytes && { kind: 'opaque', bytes };
    }
    const item = this.queue.length === 0 ? undefined : this.word();
    // A v8 primary says nothing before it has the rest of READY, so an upstream word settles it.
    if (item?.kind === 'word') this.channel.decide(upstreamDialect);
    return item;
  }
}
