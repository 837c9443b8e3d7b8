/**
 * What is remembered of every flow: one typed array a field, indexed by the flow's slot (about 260 bytes a flow).
 * The comparator writes it, translation reads it. Sequence positions are 32-bit words, compared modulo 2^32.
 *
 * Spaces: every position named Primary, and `released`, `clientAck` and the like, is in the primary VM's own sequence
 * space; every position named Secondary is raw, in the secondary's. The client's space differs from the primary's only
 * after a failover, by the client table.
 */
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
} as const;

/** A window scale nobody has told: the flow was picked up in mid-stream. */
export const SCALE_UNKNOWN = 255;

/** SACK blocks of the secondary's newest segment that are kept; RFC 2018 allows four. */
export const SACK_BLOCKS_KEPT = 3;

export class FlowState {
  readonly flags: Int32Array;
  readonly ipProtocol: Uint8Array;
  readonly touchedAtMs: Float64Array;
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
  readonly windowPrimary: Uint16Array;
  readonly windowSecondary: Uint16Array;
  readonly scalePrimary: Uint8Array;
  readonly scaleSecondary: Uint8Array;
  readonly mssSecondary: Int32Array;
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

  readonly #filledMinusOne: readonly Int32Array[];
  readonly #filledZero: readonly (Int32Array | Uint8Array | Uint16Array | Float64Array)[];

  constructor(flowsMax: number) {
    const words = (): Int32Array => new Int32Array(flowsMax);
    this.flags = words();
    this.ipProtocol = new Uint8Array(flowsMax);
    this.touchedAtMs = new Float64Array(flowsMax);
    this.rule = words();
    this.seqDelta = words();
    this.tsDelta = words();
    this.clientSeqDelta = words();
    this.clientTsDelta = words();
    this.tsShown = words();
    this.isnPrimary = words();
    this.isnSecondary = words();
    this.endPrimary = words();
    this.endSecondary = words();
    this.finPrimary = words();
    this.finSecondary = words();
    this.urgentSecondary = words();
    this.ackPrimary = words();
    this.ackSecondary = words();
    this.edgePrimary = words();
    this.edgeSecondary = words();
    this.windowPrimary = new Uint16Array(flowsMax);
    this.windowSecondary = new Uint16Array(flowsMax);
    this.scalePrimary = new Uint8Array(flowsMax);
    this.scaleSecondary = new Uint8Array(flowsMax);
    this.mssSecondary = words();
    this.tsSynPrimary = words();
    this.tsSynSecondary = words();
    this.ackShown = words();
    this.edgeShown = words();
    this.sackSecondary = new Int32Array(flowsMax * SACK_BLOCKS_KEPT * 2);
    this.released = words();
    this.looseFrom = words();
    this.looseTo = words();
    this.clientAck = words();
    this.baseSeq = words();
    this.headCursor = words();
    this.primaryFirst = words();
    this.primaryLast = words();
    this.secondaryFirst = words();
    this.secondaryLast = words();
    this.ackFrameSecondary = words();
    this.owedFrame = words();
    this.heldBytes = words();
    this.recordFirst = words();
    this.recordLast = words();
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
    this.#filledZero = [
      this.flags,
      this.rule,
      this.seqDelta,
      this.tsDelta,
      this.clientSeqDelta,
      this.clientTsDelta,
      this.heldBytes,
    ];
  }

  /** Makes `slot` a flow of which nothing is known. Fields that a flag guards need no clearing. */
  reset(slot: number, ipProtocol: number, nowMs: number): void {
    for (const column of this.#filledZero) column[slot] = 0;
    for (const column of this.#filledMinusOne) column[slot] = -1;
    this.ipProtocol[slot] = ipProtocol;
    this.touchedAtMs[slot] = nowMs;
    this.scalePrimary[slot] = SCALE_UNKNOWN;
    this.scaleSecondary[slot] = SCALE_UNKNOWN;
    this.sackSecondary.fill(0, slot * SACK_BLOCKS_KEPT * 2, (slot + 1) * SACK_BLOCKS_KEPT * 2);
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
