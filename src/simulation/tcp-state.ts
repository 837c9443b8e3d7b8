import type { ByteQueue } from './byte-queue.js';
import { newByteQueue } from './byte-queue.js';

/** RFC 9293 section 3.3.2; LISTEN is not a connection here but an entry of the stack's listening ports. */
export type TcpPhase =
  | 'syn-sent'
  | 'syn-received'
  | 'established'
  | 'fin-wait-1'
  | 'fin-wait-2'
  | 'close-wait'
  | 'closing'
  | 'last-ack'
  | 'time-wait'
  | 'closed';

export const NEVER = Number.POSITIVE_INFINITY;

/** A range of sequence space, `to` exclusive. */
export interface SeqRange {
  from: number;
  to: number;
}

export interface TcpAddress {
  readonly ipVersion: 4 | 6;
  readonly local: Uint8Array;
  readonly localPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
}

/**
 * Everything one connection is, as plain data: a checkpoint copies it, a failover goes on from the copy.
 * Sequence numbers are unsigned 32-bit, times are the guest's own milliseconds.
 */
export interface TcpConnection extends TcpAddress {
  readonly id: number;
  /** The local port whose service answers; -1 for a connection this host opened. */
  readonly servicePort: number;
  phase: TcpPhase;

  // Sending (RFC 9293 3.3.1). `sndNxt` goes back to `sndUna` at a time-out, `sndMax` never does.
  iss: number;
  sndUna: number;
  sndNxt: number;
  sndMax: number;
  sndWindow: number;
  sndWl1: number;
  sndWl2: number;
  /** Data from `sndUna` on, sent or not. */
  readonly out: ByteQueue;
  finQueued: boolean;
  /** Largest payload, options already taken off. */
  mss: number;
  sndScale: number;
  /** Congestion control (RFC 5681) and loss recovery (RFC 6582, RFC 6675 in its simplest form). */
  cwnd: number;
  ssthresh: number;
  dupAcks: number;
  recovering: boolean;
  recover: number;
  resendNxt: number;
  sacked: SeqRange[];
  /** Round-trip estimate (RFC 6298). */
  srttMs: number;
  rttvarMs: number;
  rtoMs: number;
  timeouts: number;
  timedSeq: number;
  timedAtMs: number;

  // Receiving.
  irs: number;
  rcvNxt: number;
  /** Right edge of the window the peer has been told. */
  rcvEdge: number;
  rcvScale: number;
  readonly rcvBufferBytes: number;
  /** In order and not read by the service yet. */
  readonly unread: ByteQueue;
  /** Out of order, sorted by `seq`, not overlapping. */
  readonly early: { seq: number; bytes: Uint8Array }[];
  /** Position of the peer's FIN, -1 until one came. */
  finSeq: number;
  peerClosed: boolean;

  // Options both sides agreed to in their SYNs.
  timestamps: boolean;
  sackPermitted: boolean;
  tsRecent: number;
  synTimestamp: number;

  // Deadlines; NEVER when not armed.
  resendAtMs: number;
  ackAtMs: number;
  closeAtMs: number;
  wakeAtMs: number;
  /** Segments received and not acknowledged yet. */
  ackOwed: number;
  /** An ACK must leave with this round's output. */
  ackNow: boolean;

  /** The service's or client's own plain data. */
  app: unknown;
}

/** What a stack does, and how it wishes to behave. All of it may differ between hosts. */
export interface TcpOptions {
  readonly mssV4: number;
  readonly mssV6: number;
  readonly windowScale: number;
  readonly timestamps: boolean;
  readonly sack: boolean;
  readonly receiveBufferBytes: number;
  readonly sendBufferBytesMax: number;
  /** 0: every segment is acknowledged at once. Else every second one, or after this time. */
  readonly delayedAckMs: number;
  readonly rtoMsMin: number;
  readonly rtoMsMax: number;
  readonly rtoMsInitial: number;
  readonly timeoutsMax: number;
  readonly timeWaitMs: number;
  /** Probability that a segment of new data is cut shorter than it might be: two VMs never cut alike. */
  readonly segmentJitter: number;
  /** Probability that a connection's numbers, or the machine's timestamps, wrap around soon. */
  readonly wrapSoon: number;
}

export const DEFAULT_TCP_OPTIONS: TcpOptions = {
  mssV4: 1460,
  mssV6: 1440,
  windowScale: 7,
  timestamps: true,
  sack: true,
  receiveBufferBytes: 128 * 1024,
  sendBufferBytesMax: 128 * 1024,
  delayedAckMs: 0,
  rtoMsMin: 200,
  rtoMsMax: 8000,
  rtoMsInitial: 1000,
  timeoutsMax: 12,
  timeWaitMs: 1000,
  segmentJitter: 0,
  wrapSoon: 0,
};

export function newTcpConnection(
  id: number,
  address: TcpAddress,
  servicePort: number,
  iss: number,
  options: TcpOptions,
): TcpConnection {
  const mss = address.ipVersion === 4 ? options.mssV4 : options.mssV6;
  return {
    ...address,
    id,
    servicePort,
    phase: 'closed',
    iss,
    sndUna: iss,
    sndNxt: iss,
    sndMax: iss,
    sndWindow: 0,
    sndWl1: 0,
    sndWl2: 0,
    out: newByteQueue(),
    finQueued: false,
    mss,
    sndScale: 0,
    cwnd: 10 * mss,
    ssthresh: 0x4000_0000,
    dupAcks: 0,
    recovering: false,
    recover: iss,
    resendNxt: iss,
    sacked: [],
    srttMs: 0,
    rttvarMs: 0,
    rtoMs: options.rtoMsInitial,
    timeouts: 0,
    timedSeq: iss,
    timedAtMs: -1,
    irs: 0,
    rcvNxt: 0,
    rcvEdge: 0,
    rcvScale: 0,
    rcvBufferBytes: options.receiveBufferBytes,
    unread: newByteQueue(),
    early: [],
    finSeq: -1,
    peerClosed: false,
    timestamps: options.timestamps,
    sackPermitted: options.sack,
    tsRecent: 0,
    synTimestamp: 0,
    resendAtMs: NEVER,
    ackAtMs: NEVER,
    closeAtMs: NEVER,
    wakeAtMs: NEVER,
    ackOwed: 0,
    ackNow: false,
    app: null,
  };
}

/** When the connection next needs the clock. */
export function tcpDeadlineMs(connection: TcpConnection): number {
  return Math.min(connection.resendAtMs, connection.ackAtMs, connection.closeAtMs, connection.wakeAtMs);
}

/** Why a connection ended, for the service or client that used it. */
export type CloseReason = 'finished' | 'reset' | 'timed-out' | 'refused';

/** One segment to send; the stack adds addresses, ports and checksums. */
export interface TcpSegment {
  seq: number;
  ack: number;
  flags: number;
  /** As it stands in the header: already scaled. */
  window: number;
  payload: Uint8Array;
  /** Options; absent ones undefined. */
  mss?: number;
  windowScale?: number;
  sackPermitted?: boolean;
  timestamps?: { value: number; echo: number };
  sack?: SeqRange[];
}

/** What a connection needs from the stack that holds it. */
export interface TcpHost {
  readonly options: TcpOptions;
  nowMs(): number;
  /** The timestamp clock (RFC 7323), one tick a millisecond. */
  timestamp(): number;
  random(): number;
  send(connection: TcpConnection, segment: TcpSegment): void;
  connected(connection: TcpConnection): void;
  readable(connection: TcpConnection): void;
  writable(connection: TcpConnection): void;
  peerClosed(connection: TcpConnection): void;
  closed(connection: TcpConnection, reason: CloseReason): void;
}
