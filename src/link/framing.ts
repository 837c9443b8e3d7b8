import { ColoError } from '../errors.js';
import { readU32 } from '../wire/bytes.js';
import { copyBytes } from '../wire/frame-memory.js';
import type { VnetHeaderBytes } from './link.js';
import { ReceiveBatch } from './receive-batch.js';

/**
 * The framing of QEMU's `-netdev stream` and of its socket netdev: a big-endian 32-bit length, then that many
 * bytes of Ethernet frame, without vnet header (QEMU net/stream.c, net_stream_receive; net/net.c, net_fill_rstate).
 */
export const FRAME_LENGTH_BYTES = 4;
/** NET_BUFSIZE of QEMU (include/net/net.h): a longer frame ends the connection there too. */
export const STREAM_FRAME_BYTES_MAX = 4096 + 65536;

/** Writes a frame's length word directly before `offset`. */
export function writeFrameLength(slab: Buffer, offset: number, length: number): void {
  slab[offset - 4] = length >>> 24;
  slab[offset - 3] = length >>> 16;
  slab[offset - 2] = length >>> 8;
  slab[offset - 1] = length;
}

/**
 * Finds frames in a byte stream that arrives in any chunks. Bytes are read straight into `slab` at `fill`;
 * `nextBatch` names the whole frames among them without moving a byte; only a partial frame at the end is
 * moved to the front, perhaps of another slab, before the next read.
 *
 *   deframer.makeRoom();
 *   const read = port.read(deframer.slab, deframer.fill, deframer.room);
 *   deframer.filled(read);
 *   while (deframer.nextBatch() > 0) handler.receive(deframer.batch);
 */
export class Deframer {
  readonly batch: ReceiveBatch;
  readonly #headroomBytes: number;
  #start: number;
  #fill: number;

  /** @param headroomBytes kept free before the first byte read. */
  constructor(
    slabBytes: number,
    batchFramesMax: number,
    vnetHeaderBytes: VnetHeaderBytes = 0,
    headroomBytes = 0,
  ) {
    const bytes = Math.max(slabBytes, headroomBytes + 2 * FRAME_LENGTH_BYTES + STREAM_FRAME_BYTES_MAX);
    this.batch = new ReceiveBatch(bytes, batchFramesMax, vnetHeaderBytes);
    this.#headroomBytes = headroomBytes;
    this.#start = headroomBytes;
    this.#fill = headroomBytes;
  }

  get slab(): Buffer {
    return this.batch.slab;
  }

  /** Where the next bytes are to be written. */
  get fill(): number {
    return this.#fill;
  }

  /** How many bytes may be written there: never 0 after `makeRoom`. */
  get room(): number {
    return this.batch.slab.length - this.#fill;
  }

  /** Bytes of a frame that is not yet whole. */
  get partialBytes(): number {
    return this.#fill - this.#start;
  }

  /** Those bytes; valid until the next read. */
  get partial(): Buffer {
    return this.batch.slab.subarray(this.#start, this.#fill);
  }

  filled(bytes: number): void {
    this.#fill += bytes;
  }

  /** Forgets everything: a new connection begins. */
  reset(): void {
    this.batch.renewSlab();
    this.#start = this.#headroomBytes;
    this.#fill = this.#headroomBytes;
  }

  /** Moves a partial frame to the front. Called once `nextBatch` has returned 0. */
  makeRoom(): void {
    const front = this.#headroomBytes;
    if (this.#start === front) return;
    const { slab } = this.batch;
    this.batch.renewSlab();
    copyBytes(slab, this.#start, this.batch.slab, front, this.#fill - this.#start);
    this.#fill -= this.#start - front;
    this.#start = front;
  }

  /**
   * Fills `batch` with the next whole frames and returns their number. Throws COLO_ERR_LINK_FRAMING at a
   * length of 0 or above STREAM_FRAME_BYTES_MAX, once the frames before it have been returned.
   */
  nextBatch(): number {
    const { slab, offsets, lengths } = this.batch;
    const framesMax = offsets.length;
    let count = 0;
    let bytes = 0;
    let position = this.#start;
    while (count < framesMax && this.#fill - position >= FRAME_LENGTH_BYTES) {
      const length = readU32(slab, position);
      if (length === 0 || length > STREAM_FRAME_BYTES_MAX) {
        if (count > 0) break;
        throw impossibleLength(length);
      }
      const end = position + FRAME_LENGTH_BYTES + length;
      if (end > this.#fill) break;
      offsets[count] = position + FRAME_LENGTH_BYTES;
      lengths[count] = length;
      count++;
      bytes += length;
      position = end;
    }
    return this.found(count, bytes, position);
  }

  /** What a framing has found: the batch's frames, and where the next one begins. */
  protected found(count: number, bytes: number, position: number): number {
    this.#start = position;
    this.batch.count = count;
    this.batch.bytes = bytes;
    return count;
  }

  /** Where the first byte lies that belongs to no frame yet. */
  protected get start(): number {
    return this.#start;
  }
}

export function impossibleLength(length: number): ColoError {
  return new ColoError(
    'COLO_ERR_LINK_FRAMING',
    `impossible frame length ${length} (1 to ${STREAM_FRAME_BYTES_MAX}): the peer does not speak QEMU's stream framing`,
  );
}
