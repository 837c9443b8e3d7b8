/** What the relay of the migration channel is given, and what it tells. */
import type { ColoError } from '../errors.js';
import type { DialectName } from '../protocol/dialect.js';
import type { DialectChoice } from '../protocol/dialects.js';
import type { Direction, SyncPoint } from '../protocol/sync-point.js';
import type { Address, ListenOptions, Transport } from '../system/channel.js';
import type { Clock } from '../system/clock.js';

/**
 * `opened`: the primary has connected, the initial copy begins. `colo`: READY has been forwarded.
 * `primary-lost`: the primary's side is gone while the secondary may hold or be loading its whole state; the
 * secondary's side stays open until LOADED, its own close, or `orphanMsMax`. `closed`: over; the next may begin.
 */
export type ChannelEvent = 'opened' | 'colo' | 'primary-lost' | 'closed';

export interface RelayLimits {
  /** To reach the secondary's incoming address. */
  readonly connectMsMax: number;
  /** From a connection's beginning to its first bytes, which show that it is a migration. */
  readonly startMsMax: number;
  /** Connections of one migration; QEMU's multifd-channels goes to 255, and the control channel. */
  readonly connectionsMax: number;
  /** From a word's first byte to its last. */
  readonly wordMsMax: number;
  /** From the primary's loss in mid-checkpoint to the secondary's LOADED. */
  readonly orphanMsMax: number;
  /** What is queued gets this long to be sent when a channel ends. */
  readonly closeMsMax: number;
  /** A VM that left COLO has sent its last word when nothing came for this long. */
  readonly leaveMs: number;
}

export const DEFAULT_RELAY_LIMITS: RelayLimits = {
  connectMsMax: 2000,
  startMsMax: 5000,
  connectionsMax: 256,
  wordMsMax: 2000,
  orphanMsMax: 5000,
  closeMsMax: 500,
  leaveMs: 20,
};

export interface RelayOptions {
  readonly listen: Address;
  /** Where the secondary of the next migration waits. */
  readonly connect: Address | (() => Address);
  readonly clock: Clock;
  readonly dialect: DialectChoice;
  /** Awaited before the word is forwarded; a rejection closes the channel and is told as a violation. */
  readonly onWord: (direction: Direction, word: SyncPoint, value?: bigint) => Promise<void> | void;
  readonly onChannel: (event: ChannelEvent, detail: string) => void;
  /** `auto` has become a dialect. */
  readonly onDialect?: (name: DialectName) => void;
  /** A channel is closed right after, or a connection that is no migration was turned away. */
  readonly onViolation: (error: ColoError) => void;
  readonly limits?: Partial<RelayLimits>;
  readonly transport?: Transport;
  readonly socket?: ListenOptions;
}

/** A migration under COLO whose LOADED is held, as a successor process takes it up. */
export interface RelayInheritance {
  readonly dialect: DialectName;
  readonly connections: readonly { readonly primary: number; readonly secondary: number }[];
  /** Index of the connection that carries the words. */
  readonly control: number;
}

/** Plain numbers, read at scrape time. */
export interface RelayCounters {
  readonly primaryBytes: number;
  readonly secondaryBytes: number;
  readonly words: number;
  readonly violations: number;
  /** Connections turned away: a second migration, or too many of one. */
  readonly refused: number;
}
