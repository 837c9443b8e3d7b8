/**
 * The framing of filter-mirror, filter-redirector and colo-compare on their chardevs (QEMU net/filter-mirror.c,
 * filter_send; net/colo-compare.c, _compare_chr_send; net/net.c, net_fill_rstate): a big-endian 32-bit length and that many
 * bytes of frame. With `vnet_hdr_support` a second word follows the first, the length of the vnet header; the first
 * counts that header too, and the frame comes behind it.
 *
 * A length of 0 is a frame of no bytes to QEMU's reader and passed over here as well.
 */
import { ColoError } from '../errors.js';
import { readU32, writeU32 } from '../wire/bytes.js';
import { copyBytes } from '../wire/frame-memory.js';
import { Deframer, FRAME_LENGTH_BYTES, impossibleLength, STREAM_FRAME_BYTES_MAX } from './framing.js';
import { VNET_HEADER_BYTES, type VnetHeaderBytes } from './link.js';
import type { FrameStage } from './offload.js';
import type { SendQueue } from './send-queue.js';

/** Both words. */
export const CHARDEV_PREFIX_BYTES = 2 * FRAME_LENGTH_BYTES;
/** sizeof(struct virtio_net_hdr_v1_hash): the longest header a guest can choose. */
const WIRE_HEADER_BYTES_MAX = 20;

/** What a peer's frames carried last as vnet header: 0, 10, 12 (num_buffers) or 20 (hash) bytes. */
export interface WireHeader {
  bytes: number;
}

export class ChardevDeframer extends Deframer {
  readonly #wire: WireHeader | undefined;

  /** @param wire with `vnet_hdr_support`: where the length of the newest header is noted. */
  constructor(slabBytes: number, batchFramesMax: number, wire?: WireHeader) {
    super(
      slabBytes,
      batchFramesMax,
      wire === undefined ? 0 : VNET_HEADER_BYTES,
      wire === undefined ? 0 : VNET_HEADER_BYTES - CHARDEV_PREFIX_BYTES,
    );
    this.#wire = wire;
  }

  override nextBatch(): number {
    const { slab, offsets, lengths } = this.batch;
    const framesMax = offsets.length;
    const prefixBytes = this.#wire === undefined ? FRAME_LENGTH_BYTES : CHARDEV_PREFIX_BYTES;
    let count = 0;
    let bytes = 0;
    let position = this.start;
    while (count < framesMax && this.fill - position >= prefixBytes) {
      const length = readU32(slab, position);
      const headerBytes = this.#wire === undefined ? 0 : readU32(slab, position + FRAME_LENGTH_BYTES);
      if (length > STREAM_FRAME_BYTES_MAX || !isHeaderLength(headerBytes, length)) {
        if (count > 0) break;
        throw length > STREAM_FRAME_BYTES_MAX
          ? impossibleLength(length)
          : impossibleHeader(headerBytes, length);
      }
      const end = position + prefixBytes + length;
      if (end > this.fill) break;
      if (length > headerBytes) {
        // the empty header that such a frame gets lies where the frame before it ends
        const isBare = this.#wire !== undefined && headerBytes === 0;
        if (isBare && count > 0) break;
        offsets[count] = position + prefixBytes + headerBytes;
        lengths[count] = length - headerBytes;
        if (this.#wire !== undefined) {
          if (isBare) this.batch.keeper.overwriting?.(slab);
          putHeaderBeforeFrame(slab, position + prefixBytes, headerBytes);
          this.#wire.bytes = headerBytes;
        }
        count++;
        bytes += length - headerBytes;
        if (isBare) {
          position = end;
          break;
        }
      }
      position = end;
    }
    return this.found(count, bytes, position);
  }
}

/**
 * The first ten bytes are the same in every form of the header; the frame wants them directly before it. A netdev
 * without vnet headers announces 0: an empty header takes the place of the words that have been read.
 */
function putHeaderBeforeFrame(slab: Buffer, at: number, headerBytes: number): void {
  const target = at + headerBytes - VNET_HEADER_BYTES;
  if (headerBytes === 0) slab.fill(0, target, at);
  else if (target !== at) slab.copyWithin(target, at, at + VNET_HEADER_BYTES);
}

/** 0, or from virtio_net_hdr to virtio_net_hdr_v1_hash. */
function isHeaderLength(headerBytes: number, length: number): boolean {
  if (headerBytes === 0) return true;
  return headerBytes >= VNET_HEADER_BYTES && headerBytes <= Math.min(length, WIRE_HEADER_BYTES_MAX);
}

function impossibleHeader(headerBytes: number, length: number): ColoError {
  return new ColoError(
    'COLO_ERR_LINK_FRAMING',
    `impossible vnet header of ${headerBytes} bytes in ${length}: does the peer have vnet_hdr_support?`,
  );
}

/** Frames on their way out, with the second word and a header as long as the peer's netdev has. */
export class ChardevStage implements FrameStage {
  readonly #queue: SendQueue;
  readonly #wire: WireHeader;

  constructor(queue: SendQueue, wire: WireHeader) {
    this.#queue = queue;
    this.#wire = wire;
  }

  queue(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    const headerBytes = this.#wire.bytes;
    if (headerBytes + length > STREAM_FRAME_BYTES_MAX) return false;
    const at = this.#queue.reserve(headerBytes + length);
    if (at < 0) return false;
    const { slab } = this.#queue;
    writeU32(slab, at - CHARDEV_PREFIX_BYTES, headerBytes + length);
    writeU32(slab, at - FRAME_LENGTH_BYTES, headerBytes);
    slab.fill(0, at, at + headerBytes);
    if (vnetHeaderBytes !== 0 && headerBytes >= VNET_HEADER_BYTES) {
      copyBytes(bytes, offset - VNET_HEADER_BYTES, slab, at, VNET_HEADER_BYTES);
    }
    copyBytes(bytes, offset, slab, at + headerBytes, length);
    return true;
  }
}
