/**
 * One connection of the primary, joined to one of the proxy's own to the secondary. A migration has one or,
 * with multifd, several; the relay decides what they mean together.
 */

import type { Direction } from '../protocol/sync-point.js';
import type { ChannelState, ProtocolViolation } from '../protocol/word-parser.js';
import { PrimaryWords, SecondaryWords } from '../protocol/word-parser.js';
import type { DuplexChannel } from '../system/channel.js';
import type { Timer } from '../system/clock.js';
import { Pump, type PumpEvents, type WordItem } from './pump.js';

export type Side = 'primary' | 'secondary';

export interface ConnectionEvents {
  /** The secondary has sent bytes. False: it may not, on this connection. Called before they are forwarded. */
  secondarySpoke(connection: RelayedConnection): boolean;
  hold(direction: Direction, item: WordItem): Promise<void> | undefined;
  forwarded(direction: Direction, item: WordItem): void;
  /** See PumpEvents. */
  wordLimit(action: () => void): Timer;
  violated(violation: ProtocolViolation): void;
  refused(error: unknown): void;
  /** This side ended or broke; everything it had sent has been forwarded. Once per side. */
  sideLost(connection: RelayedConnection, side: Side, reason: string): void;
  /** Both sockets are closed. */
  closed(connection: RelayedConnection): void;
}

export class RelayedConnection {
  readonly #primary: DuplexChannel;
  readonly #secondary: DuplexChannel;
  readonly #events: ConnectionEvents;
  readonly #toSecondary: Pump;
  readonly #toPrimary: Pump;
  readonly #open = new Set<Side>(['primary', 'secondary']);
  readonly #lost = new Set<Side>();
  #isControl = false;

  constructor(primary: DuplexChannel, secondary: DuplexChannel, events: ConnectionEvents) {
    this.#primary = primary;
    this.#secondary = secondary;
    this.#events = events;
    this.#toSecondary = new Pump(primary, secondary, this.#pumpEvents('primary-to-secondary', 'primary'));
    this.#toPrimary = new Pump(secondary, primary, this.#pumpEvents('secondary-to-primary', 'secondary'));
  }

  get primaryBytes(): number {
    return this.#toSecondary.bytes;
  }

  get secondaryBytes(): number {
    return this.#toPrimary.bytes;
  }

  get isOpen(): boolean {
    return this.#open.size > 0;
  }

  /** One side at least is gone. */
  get isLost(): boolean {
    return this.#lost.size > 0;
  }

  start(): void {
    this.#attach('secondary', this.#secondary, this.#toPrimary, this.#toSecondary);
    this.#attach('primary', this.#primary, this.#toSecondary, this.#toPrimary);
  }

  /** This is the connection the words travel on. */
  makeControl(state: ChannelState): void {
    this.#isControl = true;
    this.#toSecondary.parseWith(new PrimaryWords(state));
    this.#toPrimary.parseWith(new SecondaryWords(state));
  }

  /** What `side` has sent so far, or undefined while a word of it is held and more may wait unread. */
  bytesOf(side: Side): number | undefined {
    const pump = side === 'primary' ? this.#toSecondary : this.#toPrimary;
    return pump.isHolding ? undefined : pump.bytes;
  }

  /** -1 for a side that cannot be handed to a successor now. */
  get descriptors(): { readonly primary: number; readonly secondary: number } {
    return { primary: this.#primary.descriptor ?? -1, secondary: this.#secondary.descriptor ?? -1 };
  }

  /** Reads nothing more, or goes on reading; a side whose word is held is not read anyway. */
  setReading(isReading: boolean): void {
    for (const pump of [this.#toSecondary, this.#toPrimary]) pump.setReading(isReading);
  }

  /** Says what an earlier process held back. */
  sayToPrimary(bytes: Buffer): void {
    this.#primary.write(bytes);
  }

  /** Takes `side` as ended, as if it had closed its socket. */
  takeAsEnded(side: Side): void {
    (side === 'primary' ? this.#toSecondary : this.#toPrimary).sourceEnded();
  }

  /** Sends what is queued, then closes; nothing more is forwarded. */
  end(): void {
    this.#toSecondary.stop();
    this.#toPrimary.stop();
    this.#primary.end();
    this.#secondary.end();
    // A paused source would never tell that it ended.
    this.#primary.resume();
    this.#secondary.resume();
  }

  destroy(side?: Side): void {
    if (side !== 'secondary') this.#primary.destroy();
    if (side !== 'primary') this.#secondary.destroy();
  }

  #attach(side: Side, channel: DuplexChannel, outgoing: Pump, incoming: Pump): void {
    channel.attach({
      data: (chunk) => {
        if (side === 'secondary' && !this.#isControl && !this.#events.secondarySpoke(this)) return;
        outgoing.data(chunk);
      },
      borrows: () => outgoing.borrows,
      ended: () => outgoing.sourceEnded(),
      drained: () => incoming.sinkDrained(),
      closed: (error) => {
        this.#open.delete(side);
        incoming.sinkClosed();
        outgoing.sourceEnded();
        if (error !== undefined) this.#lose(side, error.message);
        if (this.#open.size === 0) this.#events.closed(this);
      },
    });
  }

  #pumpEvents(direction: Direction, source: Side): PumpEvents {
    const events = this.#events;
    return {
      hold: (item) => events.hold(direction, item),
      forwarded: (item) => events.forwarded(direction, item),
      wordLimit: (action) => events.wordLimit(action),
      violated: (violation) => events.violated(violation),
      refused: (error) => events.refused(error),
      finished: (inMidWord) => this.#lose(source, inMidWord ? 'closed in mid-word' : 'closed by the peer'),
    };
  }

  #lose(side: Side, reason: string): void {
    if (this.#lost.has(side)) return;
    this.#lost.add(side);
    this.#events.sideLost(this, side, reason);
  }
}
