/**
 * Memory for held frames: chunks of 1 MiB, each cut into blocks of one size. A chunk that has become empty can serve
 * another size, so the bound on chunks bounds the memory whatever the mix of frames over time.
 */
import { readS32, writeU32 } from '../wire/bytes.js';
import { allocateFrameBytes, type FrameBytes } from '../wire/frame-memory.js';

const CHUNK_BYTES = 1 << 20;
/** Blocks begin at multiples of this many bytes, 1 << UNIT_SHIFT; a chunk has 1 << CHUNK_SHIFT of them. */
const UNIT_SHIFT = 6;
const CHUNK_SHIFT = 20 - UNIT_SHIFT;
/** A vnet header, an Ethernet frame with two tags and 1500 bytes fit the third; a GSO frame fits the last. */
const BLOCK_BYTES = [256, 640, 1600, 4096, 16_384, 69_632] as const;

/** Largest frame, vnet header included, that can be held. */
export const BLOCK_BYTES_MAX = 69_632;

/** The size class that `bytes` fit into, or -1. */
function sizeClass(bytes: number): number {
  for (let index = 0; index < BLOCK_BYTES.length; index += 1) if (bytes <= BLOCK_BYTES[index]!) return index;
  return -1;
}

/** Blocks are told by an address: where they begin, in units, chunk after chunk. -1 means there is no room. */
export class Arena {
  readonly #chunks: (FrameBytes | undefined)[] = [];
  readonly #chunksMax: number;
  readonly #classOf: Int32Array;
  readonly #usedBlocks: Int32Array;
  /** First free block of the chunk as offset + 1; the link to the next lies in the block itself. */
  readonly #freeHead: Int32Array;
  /** Bytes of the chunk that were ever cut into blocks. */
  readonly #cutBytes: Int32Array;
  /** Chunks of one class that have a free block, doubly linked by chunk number + 1. */
  readonly #roomyHead = new Int32Array(BLOCK_BYTES.length);
  readonly #roomyNext: Int32Array;
  readonly #roomyPrev: Int32Array;
  readonly #emptyChunks: number[] = [];

  constructor(bytesMax: number) {
    // every class may keep one chunk that is partly used
    this.#chunksMax = Math.ceil(bytesMax / CHUNK_BYTES) + BLOCK_BYTES.length;
    const columns = (): Int32Array => new Int32Array(this.#chunksMax);
    this.#classOf = columns();
    this.#usedBlocks = columns();
    this.#freeHead = columns();
    this.#cutBytes = columns();
    this.#roomyNext = columns();
    this.#roomyPrev = columns();
  }

  /** Bytes taken from the system. */
  get reservedBytes(): number {
    return this.#chunks.length * CHUNK_BYTES;
  }

  buffer(address: number): FrameBytes {
    return this.#chunks[address >>> CHUNK_SHIFT]!;
  }

  offset(address: number): number {
    return (address << UNIT_SHIFT) & (CHUNK_BYTES - 1);
  }

  allocate(bytes: number): number {
    const index = sizeClass(bytes);
    if (index === -1) return -1;
    let chunk = this.#roomyHead[index]! - 1;
    if (chunk === -1) {
      chunk = this.#freshChunk(index);
      if (chunk === -1) return -1;
      this.#linkRoomy(chunk, index);
    }
    const size = BLOCK_BYTES[index]!;
    let offset = this.#freeHead[chunk]! - 1;
    if (offset === -1) {
      offset = this.#cutBytes[chunk]!;
      this.#cutBytes[chunk] = offset + size;
    } else {
      this.#freeHead[chunk] = readS32(this.#chunks[chunk]!, offset);
    }
    this.#usedBlocks[chunk] = this.#usedBlocks[chunk]! + 1;
    if (this.#freeHead[chunk] === 0 && this.#cutBytes[chunk]! + size > CHUNK_BYTES)
      this.#unlinkRoomy(chunk, index);
    return (chunk << CHUNK_SHIFT) + (offset >>> UNIT_SHIFT);
  }

  free(address: number): void {
    const chunk = address >>> CHUNK_SHIFT;
    const offset = this.offset(address);
    const index = this.#classOf[chunk]!;
    const wasFull = this.#freeHead[chunk] === 0 && this.#cutBytes[chunk]! + BLOCK_BYTES[index]! > CHUNK_BYTES;
    writeU32(this.#chunks[chunk]!, offset, this.#freeHead[chunk]!);
    this.#freeHead[chunk] = offset + 1;
    this.#usedBlocks[chunk] = this.#usedBlocks[chunk]! - 1;
    if (wasFull) this.#linkRoomy(chunk, index);
    const onlyRoomy = this.#roomyHead[index] === chunk + 1 && this.#roomyNext[chunk] === 0;
    if (this.#usedBlocks[chunk] === 0 && !onlyRoomy) {
      this.#unlinkRoomy(chunk, index);
      this.#emptyChunks.push(chunk);
    }
  }

  #freshChunk(index: number): number {
    let chunk = this.#emptyChunks.pop() ?? -1;
    if (chunk === -1) {
      if (this.#chunks.length >= this.#chunksMax) return -1;
      chunk = this.#chunks.length;
      this.#chunks.push(allocateFrameBytes(CHUNK_BYTES));
    }
    this.#classOf[chunk] = index;
    this.#freeHead[chunk] = 0;
    this.#cutBytes[chunk] = 0;
    this.#usedBlocks[chunk] = 0;
    return chunk;
  }

  #linkRoomy(chunk: number, index: number): void {
    const head = this.#roomyHead[index]!;
    this.#roomyNext[chunk] = head;
    this.#roomyPrev[chunk] = 0;
    if (head !== 0) this.#roomyPrev[head - 1] = chunk + 1;
    this.#roomyHead[index] = chunk + 1;
  }

  #unlinkRoomy(chunk: number, index: number): void {
    const next = this.#roomyNext[chunk]!;
    const previous = this.#roomyPrev[chunk]!;
    if (previous === 0) this.#roomyHead[index] = next;
    else this.#roomyNext[previous - 1] = next;
    if (next !== 0) this.#roomyPrev[next - 1] = previous;
  }
}
