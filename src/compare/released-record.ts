/**
 * The bytes of TCP streams that were lately released, so that a retransmission can be held against what the client was
 * shown (RFC 9293 3.8.1; trap T12). A ring: the oldest bytes of all flows give way to the newest.
 */
import type { FlowState } from '../flow/flow-state.js';
import { RowTable } from '../flow/row-table.js';
import { allocateFrameBytes, copyBytes, differenceOf, type FrameBytes } from '../wire/frame-memory.js';

const NONE = -1;
/** One entry for so many bytes of the ring. */
const BYTES_PER_ENTRY = 256;
const ENTRY_WORDS = 6;

export class ReleasedRecord {
  readonly #state: FlowState;
  readonly #ring: FrameBytes;
  readonly #flow: Int32Array;
  readonly #seq: Int32Array;
  readonly #length: Int32Array;
  readonly #at: Int32Array;
  /** The flow's next entry. */
  readonly #next: Int32Array;
  /** Entries are told by where their rows begin. #count of them are in use, from #oldest on, in the order of the ring. */
  readonly #entries: number;
  #oldest = 0;
  #fresh = 0;
  #count = 0;
  #writeAt = 0;

  constructor(state: FlowState, bytesMax: number) {
    this.#state = state;
    this.#ring = allocateFrameBytes(bytesMax);
    this.#entries = Math.max(16, Math.ceil(bytesMax / BYTES_PER_ENTRY));
    const rows = new RowTable(this.#entries, ENTRY_WORDS);
    this.#flow = rows.column();
    this.#seq = rows.column();
    this.#length = rows.column();
    this.#at = rows.column();
    this.#next = rows.column();
  }

  append(flow: number, seq: number, bytes: FrameBytes, at: number, length: number): void {
    if (length <= 0 || length > this.#ring.length) return;
    this.#dropForgotten();
    if (this.#writeAt + length > this.#ring.length) {
      // no entry wraps: what is left at the end of the ring is given up with the entries that lie there
      this.#makeRoom(this.#writeAt, this.#ring.length);
      this.#writeAt = 0;
    }
    this.#makeRoom(this.#writeAt, this.#writeAt + length);
    if (this.#count === this.#entries) this.#dropOldest();
    const entry = this.#fresh;
    this.#fresh = this.#after(entry);
    copyBytes(bytes, at, this.#ring, this.#writeAt, length);
    this.#flow[entry] = flow;
    this.#seq[entry] = seq;
    this.#length[entry] = length;
    this.#at[entry] = this.#writeAt;
    this.#next[entry] = NONE;
    this.#count += 1;
    this.#writeAt += length;
    const last = this.#state.recordLast[flow]!;
    if (last === NONE) this.#state.recordFirst[flow] = entry;
    else this.#next[last] = entry;
    this.#state.recordLast[flow] = entry;
  }

  /**
   * Compares `length` bytes that claim position `seq`. Returns how many of them, from the first on, are on record and
   * the same; 0 when position `seq` is not on record; -(n + 1) when byte n is the first that differs.
   */
  check(flow: number, seq: number, bytes: FrameBytes, at: number, length: number): number {
    for (let entry = this.#state.recordFirst[flow]!; entry !== NONE; entry = this.#next[entry]!) {
      const skip = (seq - this.#seq[entry]!) | 0;
      if (skip < 0 || skip >= this.#length[entry]!) continue;
      const common = Math.min(length, this.#length[entry]! - skip);
      const from = this.#at[entry]! + skip;
      const same = differenceOf(bytes, at, this.#ring, from, common);
      return same === -1 ? common : -(same + 1);
    }
    return 0;
  }

  /** Up to `limit` bytes on record from position `seq` on. For people. */
  excerpt(flow: number, seq: number, limit: number): Uint8Array {
    for (let entry = this.#state.recordFirst[flow]!; entry !== NONE; entry = this.#next[entry]!) {
      const skip = (seq - this.#seq[entry]!) | 0;
      if (skip < 0 || skip >= this.#length[entry]!) continue;
      const from = this.#at[entry]! + skip;
      return Uint8Array.from(this.#ring.subarray(from, from + Math.min(limit, this.#length[entry]! - skip)));
    }
    return new Uint8Array(0);
  }

  /** The client has everything below `clientAck`. */
  trim(flow: number, clientAck: number): void {
    let entry = this.#state.recordFirst[flow]!;
    while (entry !== NONE && ((this.#seq[entry]! + this.#length[entry]! - clientAck) | 0) <= 0) {
      this.#flow[entry] = NONE;
      entry = this.#next[entry]!;
    }
    this.#state.recordFirst[flow] = entry;
    if (entry === NONE) this.#state.recordLast[flow] = NONE;
  }

  /** Forgets a flow. */
  forget(flow: number): void {
    for (let entry = this.#state.recordFirst[flow]!; entry !== NONE; entry = this.#next[entry]!) {
      this.#flow[entry] = NONE;
    }
    this.#state.recordFirst[flow] = NONE;
    this.#state.recordLast[flow] = NONE;
  }

  /** Where clients acknowledge soon, the ring is the same few bytes again and again, and they are in the caches. */
  #dropForgotten(): void {
    while (this.#count > 0 && this.#flow[this.#oldest] === NONE) this.#dropOldest();
    if (this.#count === 0) this.#writeAt = 0;
  }

  /** Drops the oldest entries until none lies in [from, to). They are in the order of the ring, starting at `from` or later. */
  #makeRoom(from: number, to: number): void {
    while (this.#count > 0) {
      const at = this.#at[this.#oldest]!;
      if (at < from || at >= to) return;
      this.#dropOldest();
    }
  }

  #dropOldest(): void {
    const entry = this.#oldest;
    const flow = this.#flow[entry]!;
    if (flow !== NONE) {
      // a flow's entries lie in ring order, so this is its first
      this.#state.recordFirst[flow] = this.#next[entry]!;
      if (this.#next[entry] === NONE) this.#state.recordLast[flow] = NONE;
    }
    this.#oldest = this.#after(entry);
    this.#count -= 1;
  }

  #after(entry: number): number {
    return entry + ENTRY_WORDS === this.#entries * ENTRY_WORDS ? 0 : entry + ENTRY_WORDS;
  }
}
