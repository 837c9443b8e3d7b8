/**
 * What is remembered of every flow: a row of words, read by a typed array a field, indexed by the flow's slot (248 bytes).
 * The comparator writes it, translation reads it. Sequence positions are 32-bit words, compared modulo 2^32.
 *
 * Spaces: every position named Primary, and `released`, `clientAck` and the like, is in the primary VM's own sequence
 * space; every position named Secondary is raw, in the secondary's. The client's space differs from the primary's only
 * after a failover, by the client table.
 */
import { FLOW_KEY_WORDS } from '../wire/flow-key.js';
import { RowTable } from './row-table.js';

export const FlowFlag = {
  /** The initial sequence number of that side's SYN is known. */
  SYN_PRIMARY: 1 << 0,
  SYN_SECONDARY: 1 << 1,
  /** Both SYNs were put together: seqDelta and tsDelta stand. */
  PAIRED: 1 << 2,
  /** That side has emitted something; its highest positions stand. */
  SEEN_PRIMARY: 1 << 3,
  SEEN_SECONDARY: 1 << 4,
  /** That side has emitted an acknowledgement: its ack and right edge stand. */
  ACKED_PRIMARY: 1 << 5,
  ACKED_SECONDARY: 1 << 6,
  FIN_PRIMARY: 1 << 7,
  FIN_SECONDARY: 1 << 8,
  /** `ackShown`, `edgeShown`: the client was shown an acknowledgement. */
  ACK_SHOWN: 1 << 9,
  TIMESTAMP_SHOWN: 1 << 10,
  /** `clientAck` stands. */
  CLIENT_ACKED: 1 << 11,
  CLIENT_FIN: 1 << 12,
  /** `released`, `baseSeq` stand. */
  BASED: 1 << 13,
  /** `looseFrom`, `looseTo` stand. */
  LOOSE: 1 << 14,
  /** The two sides contradict each other: nothing of the flow leaves before a commit. */
  BLOCKED: 1 << 15,
  /** A divergence of this flow was reported in this epoch. */
  REPORTED: 1 << 16,
  /** Segments carry TCP MD5 or AO: never rewritten. */
  SIGNED: 1 << 17,
  /** The client table is in use: the flow lived through a failover. */
  CLIENT_TRANSLATED: 1 << 18,
  RESET: 1 << 19,
  /** SYN options of the secondary, to be held against the primary's. */
  SACK_SECONDARY: 1 << 20,
  TIMESTAMP_SYN_PRIMARY: 1 << 21,
  TIMESTAMP_SYN_SECONDARY: 1 << 22,
  /** The client's SYN was seen and it offered window scaling. */
  CLIENT_SYN: 1 << 23,
  CLIENT_SCALES: 1 << 24,
  /** Bytes are being verified: `headCursor` stands for the primary's oldest held frame. */
  HEAD_BEGUN: 1 << 25,
  /** Who spoke first, where a rule asks for it. */
  GUEST_OPENED: 1 << 26,
  CLIENT_OPENED: 1 << 27,
  /** `urgentSecondary` stands. */
  URGENT_SECONDARY: 1 << 28,
  /** The slot is a flow's. */
  LIVE: 1 << 29,
} as const;

/** Where a window scale (at most 14, RFC 7323 2.3) and an MSS of 16 bits or none lie in `synOptions`. */
const SCALE_MASK = 0x7f;
const SCALE_SECONDARY_SHIFT = 7;
const MSS_SHIFT = 14;

/** A window scale nobody has told: the flow was picked up in mid-stream. */
export const SCALE_UNKNOWN = SCALE_MASK;

/** SACK blocks of the secondary's newest segment that are kept; RFC 2018 allows four. */
export const SACK_BLOCKS_KEPT = 3;

/** Slots are multiples of this: the words of a flow's row. */
export const SLOT_WORDS = 60;

export class FlowState {
  readonly flags: Int32Array;
  /** Which rule decides: its index + 2, 1 for none, 0 while nobody has looked. */
  readonly rule: Int32Array;

  /** The pair table: primary minus secondary, identity after every LOADED. */
  readonly seqDelta: Int32Array;
  readonly tsDelta: Int32Array;
  /** The client table: client minus primary, zero until a failover (DESIGN section 2). */
  readonly clientSeqDelta: Int32Array;
  readonly clientTsDelta: Int32Array;
  /** Highest TSval shown to the client, in the client's space (T10). */
  readonly tsShown: Int32Array;

  readonly isnPrimary: Int32Array;
  readonly isnSecondary: Int32Array;
  /** One past the highest position emitted. */
  readonly endPrimary: Int32Array;
  readonly endSecondary: Int32Array;
  readonly finPrimary: Int32Array;
  readonly finSecondary: Int32Array;
  /** The furthest position its urgent pointers have told: seq + pointer (RFC 9293 3.8.5). */
  readonly urgentSecondary: Int32Array;

  /** Highest cumulative ack emitted (A_p, A_s) and right window edge (E_p, E_s), in the client's own space. */
  readonly ackPrimary: Int32Array;
  readonly ackSecondary: Int32Array;
  readonly edgePrimary: Int32Array;
  readonly edgeSecondary: Int32Array;
  /** The newest window field as sent, unscaled. */
  readonly windowPrimary: Int32Array;
  readonly windowSecondary: Int32Array;
  /** What SYNs told, in one word: the primary's window scale, the secondary's, the secondary's MSS plus 1. */
  readonly synOptions: Int32Array;
  readonly tsSynPrimary: Int32Array;
  readonly tsSynSecondary: Int32Array;
  /** Ack and right edge that the client was shown. */
  readonly ackShown: Int32Array;
  readonly edgeShown: Int32Array;
  /** SACK_BLOCKS_KEPT pairs of edges a flow; an empty block has equal edges. */
  readonly sackSecondary: Int32Array;

  /** Everything below was released (R); [looseFrom, looseTo) was too, beyond a hole. */
  readonly released: Int32Array;
  readonly looseFrom: Int32Array;
  readonly looseTo: Int32Array;
  /** What the client has acknowledged of the guest's stream, in the primary's space. */
  readonly clientAck: Int32Array;
  /** First data position seen: offsets told to people count from here. */
  readonly baseSeq: Int32Array;
  /** How far the primary's oldest held frame has been verified. */
  readonly headCursor: Int32Array;

  /** Frames in the hold store, -1 for none: the primary's in emission order, the secondary's by position. */
  readonly primaryFirst: Int32Array;
  readonly primaryLast: Int32Array;
  readonly secondaryFirst: Int32Array;
  readonly secondaryLast: Int32Array;
  /** The secondary's newest pure acknowledgement that no client has seen. */
  readonly ackFrameSecondary: Int32Array;
  /** An acknowledgement the primary has shown us but, lowered, not yet the client. */
  readonly owedFrame: Int32Array;
  readonly heldBytes: Int32Array;
  /** Entries of the released record, -1 for none. */
  readonly recordFirst: Int32Array;
  readonly recordLast: Int32Array;

  /** Segments that needed rewriting and could not be: signed (T11). */
  signedUntouched = 0;
  /** First fragments that needed rewriting and do not hold the whole TCP header. */
  fragmentsUntouched = 0;

  /** The flow's key, FLOW_KEY_WORDS words as wire/flow-key.ts lays them out, and its hash; the flow table's. */
  readonly key: Int32Array;
  readonly hash: Int32Array;

  readonly #rows: RowTable;
  readonly #touchedAtMs: Float64Array;
  readonly #filledMinusOne: readonly Int32Array[];

  constructor(flowsMax: number) {
    const rows = new RowTable(flowsMax, SLOT_WORDS);
    this.#rows = rows;
    // what every frame needs comes first, and together
    this.flags = rows.column();
    this.rule = rows.column();
    this.#touchedAtMs = rows.doubles();
    this.key = rows.column(FLOW_KEY_WORDS);
    this.heldBytes = rows.column();
    this.primaryFirst = rows.column();
    this.primaryLast = rows.column();
    this.secondaryFirst = rows.column();
    this.secondaryLast = rows.column();
    this.ackFrameSecondary = rows.column();
    this.owedFrame = rows.column();
    this.recordFirst = rows.column();
    this.recordLast = rows.column();
    this.seqDelta = rows.column();
    this.released = rows.column();
    this.headCursor = rows.column();
    this.endPrimary = rows.column();
    this.endSecondary = rows.column();
    this.ackPrimary = rows.column();
    this.ackSecondary = rows.column();
    this.edgePrimary = rows.column();
    this.edgeSecondary = rows.column();
    this.windowPrimary = rows.column();
    this.windowSecondary = rows.column();
    this.synOptions = rows.column();
    this.ackShown = rows.column();
    this.edgeShown = rows.column();
    this.tsShown = rows.column();
    this.clientAck = rows.column();
    this.clientSeqDelta = rows.column();
    this.clientTsDelta = rows.column();
    this.tsDelta = rows.column();
    this.sackSecondary = rows.column(SACK_BLOCKS_KEPT * 2);
    this.looseFrom = rows.column();
    this.looseTo = rows.column();
    this.baseSeq = rows.column();
    this.isnPrimary = rows.column();
    this.isnSecondary = rows.column();
    this.finPrimary = rows.column();
    this.finSecondary = rows.column();
    this.urgentSecondary = rows.column();
    this.tsSynPrimary = rows.column();
    this.tsSynSecondary = rows.column();
    this.hash = rows.column();
    this.#filledMinusOne = [
      this.primaryFirst,
      this.primaryLast,
      this.secondaryFirst,
      this.secondaryLast,
      this.ackFrameSecondary,
      this.owedFrame,
      this.recordFirst,
      this.recordLast,
    ];
  }

  /** Makes `slot` a flow of which nothing is known but its key. */
  reset(slot: number, key: Int32Array, hash: number, nowMs: number): void {
    const { words } = this.#rows;
    for (let word = slot; word < slot + SLOT_WORDS; word += 1) words[word] = 0;
    for (let word = 0; word < FLOW_KEY_WORDS; word += 1) this.key[slot + word] = key[word]!;
    this.hash[slot] = hash;
    for (const column of this.#filledMinusOne) column[slot] = -1;
    this.flags[slot] = FlowFlag.LIVE;
    this.touch(slot, nowMs);
    this.setScalePrimary(slot, SCALE_UNKNOWN);
    this.setScaleSecondary(slot, SCALE_UNKNOWN);
  }

  scalePrimary(slot: number): number {
    return this.synOptions[slot]! & SCALE_MASK;
  }

  setScalePrimary(slot: number, scale: number): void {
    this.synOptions[slot] = (this.synOptions[slot]! & ~SCALE_MASK) | scale;
  }

  scaleSecondary(slot: number): number {
    return (this.synOptions[slot]! >>> SCALE_SECONDARY_SHIFT) & SCALE_MASK;
  }

  setScaleSecondary(slot: number, scale: number): void {
    const others = this.synOptions[slot]! & ~(SCALE_MASK << SCALE_SECONDARY_SHIFT);
    this.synOptions[slot] = others | (scale << SCALE_SECONDARY_SHIFT);
  }

  /** -1: the SYN told none. */
  mssSecondary(slot: number): number {
    return (this.synOptions[slot]! >>> MSS_SHIFT) - 1;
  }

  setMssSecondary(slot: number, mss: number): void {
    const others = this.synOptions[slot]! & ((1 << MSS_SHIFT) - 1);
    this.synOptions[slot] = others | ((mss + 1) << MSS_SHIFT);
  }

  touchedAtMs(slot: number): number {
    return this.#touchedAtMs[slot >> 1]!;
  }

  touch(slot: number, nowMs: number): void {
    this.#touchedAtMs[slot >> 1] = nowMs;
  }

  has(slot: number, flag: number): boolean {
    return (this.flags[slot]! & flag) !== 0;
  }

  set(slot: number, flag: number): void {
    this.flags[slot] = this.flags[slot]! | flag;
  }

  clear(slot: number, flag: number): void {
    this.flags[slot] = this.flags[slot]! & ~flag;
  }

  /** Is any frame of the flow in the hold store? */
  holds(slot: number): boolean {
    return (
      this.primaryFirst[slot] !== -1 ||
      this.secondaryFirst[slot] !== -1 ||
      this.ackFrameSecondary[slot] !== -1 ||
      this.owedFrame[slot] !== -1
    );
  }
}
