/**
 * Every frame that waits: the primary's held ones and the secondary's kept ones. A frame is told by where its row begins;
 * each is in one list of its side in emission order, and in one list of its flow. Nothing is allocated per frame.
 */
import { RowTable } from '../flow/row-table.js';
import type { VnetHeaderBytes } from '../link/link.js';
import { copyBytes, type FrameBytes } from '../wire/frame-memory.js';
import type { FrameView } from '../wire/frame-view.js';
import { Arena, BLOCK_BYTES_MAX } from './arena.js';

export const Side = { PRIMARY: 0, SECONDARY: 1 } as const;
export type Side = (typeof Side)[keyof typeof Side];

/** No frame. */
export const NONE = -1;

export const FrameMark = {
  /** Datagrams: the other side has the same; the primary's may leave when it is its turn. */
  MATCHED: 1,
  /** Not in any list: it stands in a column of its flow. */
  SOLITARY: 2,
  /** TCP of the primary: data with a header that is read by where the payload lies (tcp-short-way.ts); with timestamps. */
  PLAIN: 4,
  STAMPED: 8,
} as const;

/** Frames are multiples of this: the words of a frame's row. */
const FRAME_WORDS = 20;

/** A shorter frame is copied at once: that costs less than looking at it later where nothing else is looked at. */
const LENT_BYTES_MIN = 1024;

export interface HoldLimits {
  readonly heldFramesMax: number;
  readonly heldBytesMax: number;
}

export class HoldStore {
  /** Frames and bytes (vnet headers included) by side. */
  readonly frames = new Int32Array(2);
  readonly bytes = new Float64Array(2);

  readonly flow: Int32Array;
  readonly side: Int32Array;
  readonly marks: Int32Array;
  /** TCP of the secondary: raw position, payload bytes, flags; datagrams: bytes that are compared, in `payloadBytes`. */
  readonly seq: Int32Array;
  readonly ack: Int32Array;
  readonly payloadBytes: Int32Array;
  readonly tcpFlags: Int32Array;
  /** Fragments: the piece of the same datagram that came before. */
  readonly piece: Int32Array;
  /** Neighbours in the flow's list. */
  readonly previous: Int32Array;
  readonly next: Int32Array;

  readonly #limits: HoldLimits;
  readonly #arena: Arena;
  readonly #atMs: Float64Array;
  readonly #address: Int32Array;
  readonly #start: Int32Array;
  readonly #length: Int32Array;
  readonly #vnetHeaderBytes: Int32Array;
  readonly #payloadAt: Int32Array;
  /** Index in #lenders of the slab it still lies in; NONE: it was copied. */
  readonly #lender: Int32Array;
  readonly #older: Int32Array;
  /** Of a free one: the next free one. */
  readonly #newer: Int32Array;
  readonly #oldest = new Int32Array(2).fill(NONE);
  readonly #newest = new Int32Array(2).fill(NONE);
  /** Slabs that frames lie in, and how many; the one of the batch at hand. */
  readonly #lenders: (FrameBytes | null)[] = [];
  readonly #lent: number[] = [];
  #borrowing: FrameBytes | null = null;
  #borrowingIndex = NONE;
  /** The side's oldest frame that was not copied. */
  readonly #firstLent = new Int32Array(2).fill(NONE);
  #free = NONE;
  /** Where rows begin that were never used, and where the last one ends. */
  #fresh = 0;
  readonly #end: number;

  constructor(limits: HoldLimits) {
    this.#limits = limits;
    this.#arena = new Arena(limits.heldBytesMax);
    const rows = new RowTable(limits.heldFramesMax, FRAME_WORDS);
    this.#end = limits.heldFramesMax * FRAME_WORDS;
    this.#atMs = rows.doubles();
    this.flow = rows.column();
    this.side = rows.column();
    this.marks = rows.column();
    this.seq = rows.column();
    this.ack = rows.column();
    this.payloadBytes = rows.column();
    this.tcpFlags = rows.column();
    this.previous = rows.column();
    this.next = rows.column();
    this.#address = rows.column();
    this.#start = rows.column();
    this.#length = rows.column();
    this.#vnetHeaderBytes = rows.column();
    this.#payloadAt = rows.column();
    this.#lender = rows.column();
    this.#older = rows.column();
    this.#newer = rows.column();
    this.piece = rows.column();
  }

  get totalFrames(): number {
    return this.frames[0]! + this.frames[1]!;
  }

  get totalBytes(): number {
    return this.bytes[0]! + this.bytes[1]!;
  }

  /** Frames that are added from now on lie in the slab, if they do, until `bring` is called for it; null: are copied. */
  borrow(slab: FrameBytes | null): void {
    this.#borrowing = slab;
    this.#borrowingIndex = slab === null ? NONE : this.#lenders.indexOf(slab);
  }

  /** Does any frame lie in the slab? */
  keeps(slab: FrameBytes): boolean {
    const lender = this.#lenders.indexOf(slab);
    return lender !== -1 && this.#lent[lender]! > 0;
  }

  /** Copies what lies in the slab: room was set aside when it was added. */
  bring(slab: FrameBytes): void {
    const lender = this.#lenders.indexOf(slab);
    if (lender === -1) return;
    for (const side of [Side.PRIMARY, Side.SECONDARY]) {
      let first = NONE;
      for (let frame = this.#firstLent[side]!; frame !== NONE; frame = this.#newer[frame]!) {
        if (this.#lender[frame] === lender) this.#copy(frame, slab);
        else if (first === NONE && this.#lender[frame] !== NONE) first = frame;
      }
      this.#firstLent[side] = first;
    }
    this.#lenders[lender] = null;
    if (this.#borrowing === slab) this.borrow(null);
  }

  #copy(frame: number, slab: FrameBytes): void {
    const from = this.#start[frame]! - this.#vnetHeaderBytes[frame]!;
    const address = this.#address[frame]!;
    const target = this.#arena.offset(address);
    copyBytes(slab, from, this.#arena.buffer(address), target, this.storedBytes(frame));
    this.#start[frame] = this.#start[frame]! + target - from;
    this.#payloadAt[frame] = this.#payloadAt[frame]! + target - from;
    this.#return(frame);
  }

  /** The frame lies in no slab any more. */
  #return(frame: number): void {
    const lender = this.#lender[frame]!;
    this.#lent[lender] = this.#lent[lender]! - 1;
    this.#lender[frame] = NONE;
  }

  /**
   * Puts the frame, its vnet header included, at the end of its side's emission order; NONE when a limit is reached.
   * It lies in the slab at hand, or is copied. The caller links it into its flow's list.
   */
  add(view: FrameView, side: Side, flow: number, nowMs: number): number {
    const isLent = view.bytes === this.#borrowing && view.end - view.start >= LENT_BYTES_MIN;
    const frame = this.#put(view, side, flow, nowMs, isLent);
    if (frame === NONE) return NONE;
    if (isLent && this.#firstLent[side] === NONE) this.#firstLent[side] = frame;
    this.marks[frame] = 0;
    const newest = this.#newest[side]!;
    this.#older[frame] = newest;
    this.#newer[frame] = NONE;
    if (newest === NONE) this.#oldest[side] = frame;
    else this.#newer[newest] = frame;
    this.#newest[side] = frame;
    return frame;
  }

  /** Copies the frame without a place in the emission order. */
  addSolitary(view: FrameView, side: Side, flow: number, nowMs: number): number {
    return this.#put(view, side, flow, nowMs, false);
  }

  #put(view: FrameView, side: Side, flow: number, nowMs: number, isLent: boolean): number {
    const bytes = view.end - view.start + view.vnetHeaderBytes;
    if (bytes > BLOCK_BYTES_MAX || this.totalBytes + bytes > this.#limits.heldBytesMax) return NONE;
    const frame = this.#freshFrame();
    if (frame === NONE) return NONE;
    const address = this.#arena.allocate(bytes);
    if (address === -1) {
      this.#giveBack(frame);
      return NONE;
    }
    const from = view.start - view.vnetHeaderBytes;
    let target = from;
    if (isLent) {
      this.#lend(frame);
    } else {
      target = this.#arena.offset(address);
      copyBytes(view.bytes, from, this.#arena.buffer(address), target, bytes);
      this.#lender[frame] = NONE;
    }
    this.#address[frame] = address;
    this.#start[frame] = target + view.vnetHeaderBytes;
    this.#length[frame] = view.end - view.start;
    this.#vnetHeaderBytes[frame] = view.vnetHeaderBytes;
    this.#payloadAt[frame] = target + view.payload - from;
    this.flow[frame] = flow;
    this.side[frame] = side;
    this.marks[frame] = FrameMark.SOLITARY;
    this.#atMs[frame >> 1] = nowMs;
    this.seq[frame] = view.seq;
    this.ack[frame] = view.ack;
    this.payloadBytes[frame] = view.payloadBytes;
    this.tcpFlags[frame] = view.tcpFlags & 0xff;
    this.previous[frame] = NONE;
    this.next[frame] = NONE;
    this.frames[side] = this.frames[side]! + 1;
    this.bytes[side] = this.bytes[side]! + bytes;
    return frame;
  }

  /** Datagrams: which bytes of the frame in `view` are compared, and a word that must be equal too. */
  describe(frame: number, view: FrameView, at: number, bytes: number, tag: number): void {
    this.#payloadAt[frame] = this.start(frame) + at - view.start;
    this.payloadBytes[frame] = bytes;
    this.seq[frame] = tag;
  }

  /** The frame is from now on what follows its first `bytes` bytes of payload, with `headers` before it, as long as its own. */
  dropFront(frame: number, bytes: number, headers: Buffer): void {
    this.#start[frame] = this.#start[frame]! + bytes;
    this.#length[frame] = this.#length[frame]! - bytes;
    this.#payloadAt[frame] = this.#payloadAt[frame]! + bytes;
    this.seq[frame] = this.seq[frame]! + bytes;
    this.payloadBytes[frame] = this.payloadBytes[frame]! - bytes;
    const side = this.side[frame]!;
    this.bytes[side] = this.bytes[side]! - bytes;
    this.buffer(frame).set(headers, this.start(frame) - this.#vnetHeaderBytes[frame]!);
  }

  /** Forgets the frame. The caller has taken it out of its flow's list. */
  remove(frame: number): void {
    const side = this.side[frame]!;
    if ((this.marks[frame]! & FrameMark.SOLITARY) === 0) {
      const older = this.#older[frame]!;
      const newer = this.#newer[frame]!;
      if (this.#firstLent[side] === frame) this.#firstLent[side] = newer;
      if (older === NONE) this.#oldest[side] = newer;
      else this.#newer[older] = newer;
      if (newer === NONE) this.#newest[side] = older;
      else this.#older[newer] = older;
    }
    this.frames[side] = this.frames[side]! - 1;
    this.bytes[side] = this.bytes[side]! - this.storedBytes(frame);
    if (this.#lender[frame] !== NONE) this.#return(frame);
    this.#arena.free(this.#address[frame]!);
    this.#giveBack(frame);
  }

  /** When it came. */
  atMs(frame: number): number {
    return this.#atMs[frame >> 1]!;
  }

  /** The side's frame that was emitted first, and the one emitted after `frame`; NONE at the end. */
  oldest(side: Side): number {
    return this.#oldest[side]!;
  }

  newer(frame: number): number {
    return this.#newer[frame]!;
  }

  /** The buffer that holds the frame, where it starts in it (after any vnet header), and its length. */
  buffer(frame: number): FrameBytes {
    const lender = this.#lender[frame]!;
    return lender === NONE ? this.#arena.buffer(this.#address[frame]!) : this.#lenders[lender]!;
  }

  start(frame: number): number {
    return this.#start[frame]!;
  }

  length(frame: number): number {
    return this.#length[frame]!;
  }

  vnetHeaderBytes(frame: number): VnetHeaderBytes {
    return this.#vnetHeaderBytes[frame] === 0 ? 0 : 10;
  }

  /** Where the payload starts in `buffer(frame)`. */
  payloadAt(frame: number): number {
    return this.#payloadAt[frame]!;
  }

  storedBytes(frame: number): number {
    return this.#length[frame]! + this.#vnetHeaderBytes[frame]!;
  }

  #lend(frame: number): void {
    if (this.#borrowingIndex === NONE) {
      const empty = this.#lenders.findIndex((_, lender) => (this.#lent[lender] ?? 0) === 0);
      this.#borrowingIndex = empty === -1 ? this.#lenders.length : empty;
      this.#lenders[this.#borrowingIndex] = this.#borrowing;
      this.#lent[this.#borrowingIndex] = 0;
    }
    this.#lender[frame] = this.#borrowingIndex;
    this.#lent[this.#borrowingIndex] = this.#lent[this.#borrowingIndex]! + 1;
  }

  #giveBack(frame: number): void {
    this.#newer[frame] = this.#free;
    this.#free = frame;
  }

  #freshFrame(): number {
    const frame = this.#free;
    if (frame !== NONE) {
      this.#free = this.#newer[frame]!;
      return frame;
    }
    if (this.#fresh >= this.#end) return NONE;
    this.#fresh += FRAME_WORDS;
    return this.#fresh - FRAME_WORDS;
  }
}
