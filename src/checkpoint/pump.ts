/**
 * One direction of one relayed connection: from a channel to its partner, with back-pressure and nothing
 * buffered whole. Once a parser is set, words are shown to `hold` and wait for it; later bytes never overtake a
 * held word. The other direction is another pump and does not notice.
 */
import type {
  PrimaryWords,
  ProtocolItem,
  ProtocolViolation,
  SecondaryWords,
} from '../protocol/word-parser.js';
import type { DuplexChannel } from '../system/channel.js';
import type { Timer } from '../system/clock.js';

export type WordItem = Extract<ProtocolItem, { kind: 'word' }>;

export interface PumpEvents {
  /** A word is about to be forwarded; it waits for the promise. A rejection ends the pump. */
  hold(item: WordItem): Promise<void> | undefined;
  /** The word has been written to the sink. */
  forwarded(item: WordItem): void;
  /** A word has begun: when `action` is called it should have been complete. */
  wordLimit(action: () => void): Timer;
  violated(violation: ProtocolViolation): void;
  /** `hold` rejected. */
  refused(error: unknown): void;
  /** The source has ended and everything it sent was forwarded (but for the part of a word); the sink was told. */
  finished(inMidWord: boolean): void;
}

export class Pump {
  readonly #source: DuplexChannel;
  readonly #sink: DuplexChannel;
  readonly #events: PumpEvents;
  #parser: PrimaryWords | SecondaryWords | undefined;
  #holding = false;
  #sinkFull = false;
  #paused = false;
  #sourceEnded = false;
  #sinkGone = false;
  #stopped = false;
  #mayRead = true;
  /** While a part of a word has come. */
  #wordTimer: Timer | undefined;
  /** Bytes that arrived from the source. */
  bytes = 0;

  constructor(source: DuplexChannel, sink: DuplexChannel, events: PumpEvents) {
    this.#source = source;
    this.#sink = sink;
    this.#events = events;
  }

  /** A word waits to be forwarded; what the source sent after it has not been read. */
  get isHolding(): boolean {
    return this.#holding;
  }

  /** From now on this direction is parsed; before, its bytes pass as they are. */
  parseWith(parser: PrimaryWords | SecondaryWords): void {
    this.#parser = parser;
  }

  /** What comes now is opaque and leaves as it is, at once: it may lie in the source's own buffer. */
  get borrows(): boolean {
    const parser = this.#parser;
    const isOpaque = parser === undefined || (parser.isOpaque && parser.pendingBytes === 0);
    return isOpaque && !this.#holding && this.#sink.sendsAtOnce === true;
  }

  data(chunk: Buffer): void {
    if (this.#stopped) return;
    this.bytes += chunk.length;
    if (this.#parser === undefined) this.#write(chunk);
    else {
      this.#parser.push(chunk);
      this.#run();
    }
    this.#watchWord();
    this.#balance();
  }

  sourceEnded(): void {
    this.#sourceEnded = true;
    this.#watchWord();
    if (!this.#holding) this.#run();
  }

  sinkDrained(): void {
    this.#sinkFull = false;
    this.#balance();
  }

  /** Nobody reads any more, but the words still matter: they are shown as before and written nowhere. */
  sinkClosed(): void {
    this.#sinkGone = true;
    this.#sinkFull = false;
    this.#balance();
  }

  stop(): void {
    this.#stopped = true;
    this.#watchWord();
  }

  setReading(isReading: boolean): void {
    this.#mayRead = isReading;
    this.#balance();
  }

  #run(): void {
    const parser = this.#parser;
    while (parser !== undefined && !this.#holding && !this.#stopped) {
      const item = parser.next();
      if (item === undefined) break;
      if (item.kind === 'opaque') this.#write(item.bytes);
      else if (item.kind === 'word') this.#word(item);
      else {
        this.#stopped = true;
        this.#events.violated(item);
      }
    }
    if (this.#sourceEnded && !this.#holding && !this.#stopped) {
      this.#stopped = true;
      if (!this.#sinkGone) this.#sink.end();
      this.#events.finished((parser?.pendingBytes ?? 0) > 0);
    }
  }

  /** VMs say a word in one write: a part of one that stays a part is another dialect, or no word. */
  #watchWord(): void {
    const parser = this.#parser;
    const inMidWord = parser !== undefined && !parser.isOpaque && parser.pendingBytes > 0;
    const waits = inMidWord && !this.#holding && !this.#stopped && !this.#sourceEnded;
    if (!waits) {
      this.#wordTimer?.cancel();
      this.#wordTimer = undefined;
      return;
    }
    this.#wordTimer ??= this.#events.wordLimit(() => {
      this.#stopped = true;
      this.#events.violated(parser.unfinished());
    });
  }

  #word(item: WordItem): void {
    const held = this.#events.hold(item);
    if (held === undefined) {
      this.#forward(item);
      return;
    }
    this.#holding = true;
    held.then(
      () => {
        this.#holding = false;
        if (this.#stopped) return;
        this.#forward(item);
        this.#run();
        this.#watchWord();
        this.#balance();
      },
      (error: unknown) => {
        if (this.#stopped) return;
        this.#stopped = true;
        this.#events.refused(error);
      },
    );
  }

  #forward(item: WordItem): void {
    this.#write(item.bytes);
    this.#events.forwarded(item);
  }

  #write(bytes: Buffer): void {
    if (!this.#sinkGone && !this.#sink.write(bytes)) this.#sinkFull = true;
  }

  #balance(): void {
    const wait = this.#holding || this.#sinkFull || !this.#mayRead;
    if (wait === this.#paused) return;
    this.#paused = wait;
    if (wait) this.#source.pause();
    else this.#source.resume();
  }
}
