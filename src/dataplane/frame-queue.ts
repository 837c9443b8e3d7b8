import type { VnetHeaderBytes } from '../link/link.js';

const CHUNK_BYTES = 256 * 1024;
/** Room before each frame for its vnet header. */
const HEADROOM_BYTES = 10;

export interface FrameQueueLimits {
  readonly framesMax: number;
  readonly bytesMax: number;
}

/** A frame with its vnet header, if any, in front. */
export interface SavedFrame {
  readonly bytes: Uint8Array;
  readonly vnetHeaderBytes: VnetHeaderBytes;
}

export type FrameVisitor = (
  bytes: Buffer,
  offset: number,
  length: number,
  vnetHeaderBytes: VnetHeaderBytes,
) => void;

/**
 * A bounded first-in first-out store of whole frames, for the moments when frames must wait: client frames at a
 * closed gate, the secondary's frames between its restart and LOADED. At a limit `push` refuses the newest
 * frame and says so; what is already queued is never lost. Chunks are kept for the next use.
 */
export class FrameQueue {
  readonly #limits: FrameQueueLimits;
  #chunks: Buffer[] = [];
  #chunkIndex = 0;
  #used = 0;
  /** Per frame: chunk, offset, length with the vnet flag in the sign bit. */
  #entries = new Int32Array(3 * 256);
  frames = 0;
  bytes = 0;

  constructor(limits: FrameQueueLimits) {
    this.#limits = limits;
  }

  /** Copies the frame with its vnet header. False when a limit is reached. */
  push(source: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    if (this.frames >= this.#limits.framesMax || this.bytes + length > this.#limits.bytesMax) return false;
    const needed = HEADROOM_BYTES + length;
    if (this.#chunks.length === 0) this.#chunks.push(Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, needed)));
    if (this.#used + needed > this.#chunks[this.#chunkIndex]!.length) {
      this.#chunkIndex++;
      this.#used = 0;
      const next = this.#chunks[this.#chunkIndex];
      if (next === undefined || next.length < needed) {
        this.#chunks.splice(this.#chunkIndex, 0, Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, needed)));
      }
    }
    const at = this.#used + HEADROOM_BYTES;
    source.copy(
      this.#chunks[this.#chunkIndex]!,
      at - vnetHeaderBytes,
      offset - vnetHeaderBytes,
      offset + length,
    );
    this.#used = at + length;
    const entry = 3 * this.frames;
    if (entry === this.#entries.length) {
      const larger = new Int32Array(2 * this.#entries.length);
      larger.set(this.#entries);
      this.#entries = larger;
    }
    this.#entries[entry] = this.#chunkIndex;
    this.#entries[entry + 1] = at;
    this.#entries[entry + 2] = vnetHeaderBytes === 0 ? length : -length;
    this.frames++;
    this.bytes += length;
    return true;
  }

  /**
   * Hands every frame out in order and empties the queue. Frames pushed meanwhile must not go to this queue:
   * the caller opens the gate first.
   */
  drainTo(visit: FrameVisitor): number {
    const count = this.frames;
    for (let index = 0; index < count; index++) {
      const entry = 3 * index;
      const signed = this.#entries[entry + 2]!;
      visit(
        this.#chunks[this.#entries[entry]!]!,
        this.#entries[entry + 1]!,
        Math.abs(signed),
        signed < 0 ? HEADROOM_BYTES : 0,
      );
    }
    this.clear();
    return count;
  }

  /** Copies of all, in order. */
  save(): SavedFrame[] {
    const saved: SavedFrame[] = [];
    for (let index = 0; index < this.frames; index++) {
      const [chunk, at, signed] = this.#entries.subarray(3 * index, 3 * index + 3) as unknown as [
        number,
        number,
        number,
      ];
      const vnetHeaderBytes = signed < 0 ? HEADROOM_BYTES : 0;
      const bytes = this.#chunks[chunk]!.subarray(at - vnetHeaderBytes, at + Math.abs(signed));
      saved.push({ bytes: Uint8Array.from(bytes), vnetHeaderBytes });
    }
    return saved;
  }

  load(saved: readonly SavedFrame[]): void {
    for (const { bytes, vnetHeaderBytes } of saved) {
      const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.push(source, vnetHeaderBytes, bytes.length - vnetHeaderBytes, vnetHeaderBytes);
    }
  }

  clear(): void {
    this.frames = 0;
    this.bytes = 0;
    this.#chunkIndex = 0;
    this.#used = 0;
    if (this.#chunks.length > 16) this.#chunks.length = 16;
  }
}
