/**
 * A primary and a secondary without VMs: the whole protocol in any dialect with any amount of state, for the
 * scripted pair, for tests and for measuring a relay. State is streamed and checked byte by byte.
 */
import { ColoError } from '../errors.js';
import type { DuplexChannel } from '../system/channel.js';
import type { Clock } from '../system/clock.js';
import { type Dialect, says } from './dialect.js';
import { SyncPoint } from './sync-point.js';
import { WordStream } from './word-stream.js';

export interface DriveOptions {
  readonly channel: DuplexChannel;
  readonly dialect: Dialect;
  readonly clock: Clock;
  /** Every wait for the peer. */
  readonly waitMsMax: number;
}

/** How QEMU's stream begins (migration/savevm.h) and how the made-up RAM in it is framed: be64 length, bytes, EOF. */
const MAGIC = Buffer.from('5145564d00000003', 'hex');
const LENGTH_BYTES = 8;
const END_OF_RAM = Buffer.from([0]);
/** What a secondary takes for state: QEMU refuses nothing, and tries to allocate it. */
const STATE_BYTES_MAX = 2 ** 40;

export interface StateSize {
  readonly ramBytes: number;
  readonly deviceBytes: number;
}

export interface CheckpointTimes {
  /** REQUEST to LOADED, and SEND to LOADED, in which a primary's guest stands still. */
  readonly wholeMs: number;
  readonly pauseMs: number;
}

/** The primary: `migrate`, then any number of `checkpoint`, then `shutDownGuest` or `close`. */
export class DrivenPrimary {
  readonly #words: WordStream;
  readonly #dialect: Dialect;
  readonly #clock: Clock;

  constructor({ channel, dialect, clock, waitMsMax }: DriveOptions) {
    this.#words = new WordStream(channel, 'primary', dialect, clock, waitMsMax);
    this.#dialect = dialect;
    this.#clock = clock;
  }

  /** The initial copy; resolves when the secondary is READY. */
  async migrate(initialBytes: number): Promise<void> {
    await this.#words.sendBytes(MAGIC);
    await this.#sendFramed(initialBytes);
    await this.#words.expect(SyncPoint.READY);
  }

  async checkpoint({ ramBytes, deviceBytes }: StateSize): Promise<CheckpointTimes> {
    const words = this.#words;
    const fromMs = this.#clock.now();
    await words.say(SyncPoint.REQUEST);
    await words.expect(SyncPoint.REPLY);
    const stoppedMs = this.#clock.now();
    if (says(this.#dialect, SyncPoint.SIZE)) {
      await words.say(SyncPoint.SEND);
      await this.#sendFramed(ramBytes);
      await words.say(SyncPoint.SIZE, BigInt(deviceBytes));
      await words.sendState(deviceBytes);
    } else {
      await words.say(SyncPoint.SEND, BigInt(ramBytes + deviceBytes));
      await words.sendState(ramBytes + deviceBytes);
    }
    await words.expect(SyncPoint.RECEIVED);
    await words.expect(SyncPoint.LOADED);
    const nowMs = this.#clock.now();
    return { wholeMs: nowMs - fromMs, pauseMs: nowMs - stoppedMs };
  }

  /** Only in dialects that have the word. */
  shutDownGuest(): Promise<void> {
    return this.#words.say(SyncPoint.GUEST_SHUTDOWN);
  }

  close(): void {
    this.#words.close();
  }

  async #sendFramed(bytes: number): Promise<void> {
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeBigUInt64BE(BigInt(bytes));
    await this.#words.sendBytes(length);
    await this.#words.sendState(bytes);
    await this.#words.sendBytes(END_OF_RAM);
  }
}

/** The secondary: `serve` answers until the primary ends. */
export class DrivenSecondary {
  readonly #words: WordStream;
  readonly #dialect: Dialect;
  checkpoints = 0;
  stateBytes = 0;

  constructor({ channel, dialect, clock, waitMsMax }: DriveOptions) {
    this.#words = new WordStream(channel, 'secondary', dialect, clock, waitMsMax);
    this.#dialect = dialect;
  }

  /** Resolves with GUEST_SHUTDOWN; rejects when the channel ends, a word or a byte is wrong, or a wait is too long. */
  async serve(): Promise<void> {
    const words = this.#words;
    const magic = await words.receiveBytes(MAGIC.length);
    if (!magic.equals(MAGIC)) throw new ColoError('COLO_ERR_PROTOCOL_WORD', 'not a migration stream');
    await this.#receiveFramed();
    await words.say(SyncPoint.READY);
    for (;;) {
      const { word } = await words.hear();
      if (word === SyncPoint.GUEST_SHUTDOWN) return;
      await words.say(SyncPoint.REPLY);
      await this.#receiveState(await words.expect(SyncPoint.SEND));
      await words.say(SyncPoint.RECEIVED);
      this.checkpoints++;
      await words.say(SyncPoint.LOADED);
    }
  }

  close(): void {
    this.#words.close();
  }

  async #receiveState(whole: bigint | undefined): Promise<void> {
    if (!says(this.#dialect, SyncPoint.SIZE)) {
      await this.#receive(whole!);
      return;
    }
    await this.#receiveFramed();
    const deviceBytes = await this.#words.expect(SyncPoint.SIZE);
    await this.#receive(deviceBytes!);
  }

  async #receiveFramed(): Promise<void> {
    await this.#receive((await this.#words.receiveBytes(LENGTH_BYTES)).readBigUInt64BE());
    const end = await this.#words.receiveBytes(END_OF_RAM.length);
    if (!end.equals(END_OF_RAM))
      throw new ColoError('COLO_ERR_PROTOCOL_WORD', 'RAM does not end where it should');
  }

  async #receive(bytes: bigint): Promise<void> {
    if (bytes > BigInt(STATE_BYTES_MAX)) {
      throw new ColoError('COLO_ERR_PROTOCOL_WORD', `a state of ${bytes} bytes`);
    }
    await this.#words.receiveState(Number(bytes));
    this.stateBytes += Number(bytes);
  }
}
