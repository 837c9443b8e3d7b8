/** The words of comparing: verdicts, reasons, what a divergence tells. */
import type { VnetHeaderBytes } from '../link/link.js';

/** What becomes of one frame of the primary. */
export const Verdict = {
  /** The secondary has produced the same (or nothing new is shown): it may leave now. */
  RELEASE: 0,
  /** Kept until the secondary has produced the same, or a checkpoint covers it. */
  HOLD: 1,
  /** It contradicts the secondary: kept, and a checkpoint is asked for. */
  DIVERGED: 2,
  /** Let go by a written rule or as idempotent link control; counted. */
  WAIVED: 3,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** Why frames left to the client. Index into `releasesByReason`. */
export const RELEASE_REASONS = [
  'matched', // the secondary produced the same
  'nothing-new', // pure ack, window update, keep-alive within what both VMs have shown
  'retransmission', // bytes that were released before, unchanged
  'waived', // link control or a rule
  'committed', // a loaded checkpoint covers it
  'unprotected', // there was no pair when it was sent
  'survivor', // the other VM is gone
] as const;
export type ReleaseReason = (typeof RELEASE_REASONS)[number];

/** Why a checkpoint is asked for. Index into `divergencesByReason`. */
export const DIVERGENCE_REASONS = [
  'payload', // the bytes differ
  'length', // datagrams of different length, FIN at different positions
  'flags', // SYN, FIN or RST that the other side contradicts
  'syn-options', // MSS, window scale, SACK-permitted or timestamps disagree
  'retransmission', // bytes repeated with other content than was released
  'primary-only', // the primary sent what the secondary did not within the hold timer
  'secondary-only', // the reverse
  'unknown', // a kind of traffic that cannot be compared waits for a checkpoint
  'rule', // a rule says that the flow waits for a checkpoint
  'limit', // held frames or bytes reached their limit
] as const;
export type DivergenceReason = (typeof DIVERGENCE_REASONS)[number];

/** One divergence, made only when it happens (never per frame). Addresses are text for people. */
export interface Divergence {
  readonly reason: DivergenceReason;
  /** `tcp 10.0.0.2:80 > 10.0.0.1:40000 vlan 5`: from the guest to the client. */
  readonly flow: string;
  /** Position in the stream counted from the first data byte seen (TCP), byte offset in the datagram, or -1. */
  readonly offset: number;
  /** Up to 32 bytes of each side from that offset on; empty when that side has none. */
  readonly primaryBytes: Uint8Array;
  readonly secondaryBytes: Uint8Array;
  readonly atMs: number;
}

/** A frame that takes part in a divergence, copied for people to look at. */
export interface DivergenceFrame {
  readonly side: 'primary' | 'secondary';
  /** The beginning of the frame as that VM sent it, without vnet header. */
  readonly bytes: Buffer;
  /** Length of the whole frame. */
  readonly wireBytes: number;
  /** When it came, on the clock of `Divergence.atMs`. */
  readonly atMs: number;
  /** Where in `bytes` the compared payload starts, how long it is, and its position as `Divergence.offset` counts. */
  readonly payloadAt: number;
  readonly payloadBytes: number;
  readonly position: number;
}

export interface ComparatorSink {
  /**
   * A frame of the primary may leave to the client now. Bytes are valid only during the call.
   * `flow` is the slot in the flow table, -1 when the frame has none.
   */
  release(
    bytes: Buffer,
    offset: number,
    length: number,
    vnetHeaderBytes: VnetHeaderBytes,
    flow: number,
    reason: ReleaseReason,
    heldMs: number,
  ): void;
  /**
   * A checkpoint is needed. At most one call per flow and epoch. `frames` copies a bounded number of both sides'
   * frames of the flow, oldest first of each side; to be called, if at all, before this returns.
   */
  diverged(divergence: Divergence, frames: () => DivergenceFrame[]): void;
}

/** Every limit of comparing, with its unit. */
export interface CompareLimits {
  /** One-sided output of the primary or the secondary asks for a checkpoint after this long. */
  readonly holdMsMin: number;
  readonly holdMsMax: number;
  /** Datagrams of one flow may arrive in another order within this time before they count as diverged. */
  readonly reorderMsMax: number;
  readonly heldFramesMax: number;
  readonly heldBytesMax: number;
  readonly heldBytesPerFlowMax: number;
  readonly flowsMax: number;
  readonly flowIdleMsMax: number;
  /** Total bytes of released payload kept to verify retransmissions. */
  readonly releasedRecordBytesMax: number;
}

export const DEFAULT_COMPARE_LIMITS: CompareLimits = {
  holdMsMin: 50,
  holdMsMax: 1000,
  reorderMsMax: 20,
  heldFramesMax: 65_536,
  heldBytesMax: 256 * 1024 * 1024,
  heldBytesPerFlowMax: 32 * 1024 * 1024,
  flowsMax: 131_072,
  flowIdleMsMax: 7_200_000,
  releasedRecordBytesMax: 16 * 1024 * 1024,
};
