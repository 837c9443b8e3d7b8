/**
 * Fragmented datagrams, put together to compare: the pieces of each VM's datagram are gathered by identification (each
 * VM counts its own, T16), and whole datagrams are compared, however each VM cut them. What leaves are the pieces as
 * they came. Pieces that overlap are refused (RFC 5722, RFC 8900): their datagram waits for a checkpoint, as does one
 * that stays incomplete; a piece repeated byte for byte is no overlap.
 *
 * Bounded: DATAGRAMS_MAX datagrams, PIECES_MAX pieces each, all of them frames in the hold store with its limits; in
 * time by the hold timer, whose checkpoint clears everything.
 */
import { IpProtocol } from '../wire/numbers.js';
import type { HoldStore, Side } from './hold-store.js';
import { NONE } from './hold-store.js';

const DATAGRAMS_MAX = 512;
/** More than a datagram of 64 KiB over the smallest IPv4 link in use (576 bytes) has. */
const PIECES_MAX = 160;
/** What the length fields of IP can say; a piece that reaches beyond is an attack on whoever puts it together. */
const DATAGRAM_BYTES_MAX = 0xffff;
/** Length of the whole is not known before the last piece is here. */
const UNKNOWN = -1;

/** A datagram that waits for its pieces, its like or its turn. */
export interface Datagram {
  readonly flow: number;
  readonly side: Side;
  readonly id: number;
  readonly ipProtocol: number;
  /** Newest piece; the others by HoldStore.piece. */
  last: number;
  pieces: number;
  /** Pieces still in the hold store. */
  left: number;
  /** Without repetitions. */
  bytes: number;
  totalBytes: number;
  /** Where the piece that reaches farthest ends. */
  reach: number;
  refused: boolean;
  /** The other side's, once both are whole and the same. */
  partner: Datagram | null;
}

export class Reassembly {
  readonly #store: HoldStore;
  readonly #datagrams: Datagram[] = [];
  readonly #whole = Buffer.alloc(DATAGRAM_BYTES_MAX);
  readonly #other = Buffer.alloc(DATAGRAM_BYTES_MAX);
  /** By frame of the hold store. */
  readonly #of = new Map<number, Datagram>();

  constructor(store: HoldStore) {
    this.#store = store;
  }

  /**
   * Takes a stored frame as a piece: its payload, at `offset` of the datagram `id`. Returns the datagram when this makes
   * it whole, else null.
   */
  add(frame: number, ipProtocol: number, id: number, offset: number, more: boolean): Datagram | null {
    const { flow, side, payloadBytes } = this.#store;
    const datagram = this.#find(flow[frame]!, side[frame] as Side, id) ?? this.#begin(frame, ipProtocol, id);
    if (datagram === null) return null;
    this.#of.set(frame, datagram);
    this.#store.seq[frame] = offset;
    const length = payloadBytes[frame]!;
    const end = offset + length;
    const isRepeated = this.#place(datagram, frame, offset, end);
    this.#store.piece[frame] = datagram.last;
    datagram.last = frame;
    datagram.pieces += 1;
    datagram.left += 1;
    if (!isRepeated) datagram.bytes += length;
    if (!more && datagram.totalBytes === UNKNOWN) datagram.totalBytes = end;
    datagram.reach = Math.max(datagram.reach, end);
    const isBeyond = datagram.totalBytes !== UNKNOWN && datagram.reach > datagram.totalBytes;
    const hasTwoEnds = !more && end !== datagram.totalBytes;
    const isTooLong = end > DATAGRAM_BYTES_MAX || datagram.pieces > PIECES_MAX;
    if (isBeyond || hasTwoEnds || isTooLong || length === 0) datagram.refused = true;
    return !isRepeated && this.#isWhole(datagram) ? datagram : null;
  }

  /** The other side's oldest whole datagram with the same content, or null. */
  like(datagram: Datagram): Datagram | null {
    this.#gather(datagram, this.#whole);
    for (const other of this.#others(datagram)) {
      if (other.totalBytes !== datagram.totalBytes || other.ipProtocol !== datagram.ipProtocol) continue;
      this.#gather(other, this.#other);
      if (this.#whole.compare(this.#other, 0, other.totalBytes, 0, other.totalBytes) === 0) return other;
    }
    return null;
  }

  /** Whole datagrams of the other side in the same flow that have found no like, oldest first. */
  *#others(datagram: Datagram): Generator<Datagram> {
    for (const other of this.#datagrams) {
      if (other.flow !== datagram.flow || other.side === datagram.side) continue;
      if (other.partner === null && this.#isWhole(other)) yield other;
    }
  }

  /**
   * The first byte in which a whole datagram differs from the other side's oldest unmatched one, and that datagram's
   * newest piece; null while there is none to hold it against.
   */
  difference(datagram: Datagram): { at: number; frame: number; own: Buffer; other: Buffer } | null {
    if (!this.#isWhole(datagram) || datagram.partner !== null) return null;
    const [other] = this.#others(datagram);
    if (other === undefined) return null;
    this.#gather(datagram, this.#whole);
    this.#gather(other, this.#other);
    const length = Math.min(datagram.totalBytes, other.totalBytes);
    let at = 0;
    while (at < length && this.#whole[at] === this.#other[at]) at += 1;
    const own = this.#whole.subarray(at, datagram.totalBytes);
    return { at, frame: other.last, own, other: this.#other.subarray(at, other.totalBytes) };
  }

  datagramOf(frame: number): Datagram | null {
    return this.#of.get(frame) ?? null;
  }

  /** All frames of a datagram, newest first. */
  *frames(datagram: Datagram): Generator<number> {
    for (let frame = datagram.last; frame !== NONE; ) {
      const next = this.#store.piece[frame]!;
      yield frame;
      frame = next;
    }
  }

  /** A piece leaves the hold store: when it was the last, the datagram is forgotten. Returns whether it was. */
  release(frame: number, datagram: Datagram): boolean {
    this.#of.delete(frame);
    datagram.left -= 1;
    if (datagram.left > 0) return false;
    this.#datagrams.splice(this.#datagrams.indexOf(datagram), 1);
    return true;
  }

  forget(datagram: Datagram): void {
    for (const frame of this.frames(datagram)) this.#of.delete(frame);
    this.#datagrams.splice(this.#datagrams.indexOf(datagram), 1);
  }

  /** Frames in the hold store are gone, or no pieces any more. */
  clear(): void {
    this.#datagrams.length = 0;
    this.#of.clear();
  }

  #find(flow: number, side: Side, id: number): Datagram | undefined {
    // whole ones are closed: identifications come round again
    return this.#datagrams.find(
      (one) => one.id === id && one.flow === flow && one.side === side && !this.#isWhole(one),
    );
  }

  #begin(frame: number, ipProtocol: number, id: number): Datagram | null {
    if (this.#datagrams.length >= DATAGRAMS_MAX) return null;
    const datagram: Datagram = {
      flow: this.#store.flow[frame]!,
      side: this.#store.side[frame] as Side,
      id,
      ipProtocol,
      last: NONE,
      pieces: 0,
      left: 0,
      bytes: 0,
      totalBytes: UNKNOWN,
      reach: 0,
      refused: false,
      partner: null,
    };
    this.#datagrams.push(datagram);
    return datagram;
  }

  /** Is [offset, end) there already, byte for byte? Anything else that overlaps refuses the datagram. */
  #place(datagram: Datagram, frame: number, offset: number, end: number): boolean {
    const { seq, payloadBytes } = this.#store;
    if (datagram.refused) return false;
    for (const piece of this.frames(datagram)) {
      const from = seq[piece]!;
      const to = from + payloadBytes[piece]!;
      if (offset >= to || from >= end) continue;
      if (offset === from && end === to && this.#isSame(frame, piece)) return true;
      datagram.refused = true;
      return false;
    }
    return false;
  }

  #isSame(a: number, b: number): boolean {
    const store = this.#store;
    const [from, at] = [store.payloadAt(a), store.payloadAt(b)];
    const length = store.payloadBytes[a]!;
    return store.buffer(a).compare(store.buffer(b), at, at + length, from, from + length) === 0;
  }

  #isWhole(datagram: Datagram): boolean {
    return !datagram.refused && datagram.bytes === datagram.totalBytes;
  }

  /** Puts the pieces together, without the checksum that each VM may leave out (UDP over IPv4, T16). */
  #gather(datagram: Datagram, target: Buffer): void {
    const store = this.#store;
    for (const piece of this.frames(datagram)) {
      const at = store.payloadAt(piece);
      store.buffer(piece).copy(target, store.seq[piece]!, at, at + store.payloadBytes[piece]!);
    }
    if (datagram.ipProtocol === IpProtocol.UDP) target.fill(0, 6, 8);
  }
}
