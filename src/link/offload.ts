import { copyBytes } from '../wire/frame-memory.js';
import { FrameView } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { completeChecksum, segmentFrame } from '../wire/segment.js';
import { GsoType, vnetGsoType, vnetNeedsChecksum } from '../wire/vnet-header.js';
import type { SegmentationFeatures } from './ethtool-features.js';
import { writeFrameLength } from './framing.js';
import { type LinkAbilities, VNET_HEADER_BYTES, type VnetHeaderBytes } from './link.js';
import type { SendQueue } from './send-queue.js';

/** Longest frame that is worked on: an IP packet of 65,535 bytes, Ethernet header, two tags. */
const SCRATCH_BYTES = VNET_HEADER_BYTES + 65_535 + 14 + 8;

/** An 802.1Q or 802.1ad tag. */
function isTag(bytes: Buffer, offset: number): boolean {
  const etherType = (bytes[offset]! << 8) | bytes[offset + 1]!;
  return etherType === 0x8100 || etherType === 0x88a8;
}

/** The way into a link's send queue. */
export interface FrameStage {
  /** Queues the frame, whole or in segments; false when it does not fit, is too long or cannot be cut. */
  queue(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean;
}

/**
 * What a frame goes through on its way into a link's send queue: a link that cannot carry a partial checksum or a
 * super-frame gets it completed or cut here (trap T18), and a frame is never longer than the link takes.
 *
 * The queue's prefix says what lies before each frame: a vnet header (10), a stream's length word (4), nothing (0).
 */
export class OffloadStage implements FrameStage {
  /** What the other end takes; may change while the link is open (MTU, a guest's driver). */
  abilities: LinkAbilities;
  /**
   * What the driver behind a link with GSO takes whole. The kernel would cut the rest, but then one frame sent
   * becomes many read, and nobody could tell what its peer has read. Undefined: leave that to the kernel.
   */
  driver: SegmentationFeatures | undefined;
  readonly #queue: SendQueue;
  readonly #view = new FrameView();
  readonly #scratch = Buffer.allocUnsafe(SCRATCH_BYTES);
  #segmentsFit = true;
  readonly #queueSegment = (bytes: Buffer, offset: number, length: number): void => {
    this.#segmentsFit &&= this.#queuePlain(bytes, offset, length);
  };

  constructor(abilities: LinkAbilities, queue: SendQueue) {
    this.abilities = abilities;
    this.#queue = queue;
  }

  /** Queues the frame, whole or in segments; false when it does not fit, is too long or cannot be cut. */
  queue(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    if (vnetHeaderBytes === 0) return this.#queuePlain(bytes, offset, length);
    const header = offset - VNET_HEADER_BYTES;
    if (vnetGsoType(bytes, header) !== GsoType.NONE) {
      return this.#takesWhole(bytes, offset)
        ? this.#queueWithHeader(bytes, offset, length)
        : this.#queueSegments(bytes, offset, length);
    }
    if (length > this.abilities.frameBytesMax) return false;
    if (this.abilities.vnetHeader) return this.#queueWithHeader(bytes, offset, length);
    if (!vnetNeedsChecksum(bytes, header)) return this.#queuePlain(bytes, offset, length);
    return this.#queueCompleted(bytes, offset, length);
  }

  /** Whether `queue` would take the frame as it is, behind its vnet header. */
  passes(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    if (vnetHeaderBytes === 0 || !this.abilities.vnetHeader) return false;
    const isSuperFrame = vnetGsoType(bytes, offset - VNET_HEADER_BYTES) !== GsoType.NONE;
    return isSuperFrame ? this.#takesWhole(bytes, offset) : length <= this.abilities.frameBytesMax;
  }

  #takesWhole(bytes: Buffer, offset: number): boolean {
    if (!this.abilities.gso) return false;
    const { driver } = this;
    if (!driver) return true;
    // With two tags no driver offload applies (include/linux/if_vlan.h, vlan_features_check).
    if (isTag(bytes, offset + 12) && isTag(bytes, offset + 16)) return false;
    const header = offset - VNET_HEADER_BYTES;
    const hasEcn = (bytes[header + 1]! & GsoType.ECN) !== 0;
    switch (vnetGsoType(bytes, header)) {
      case GsoType.TCPV4:
        return driver.tcp4 && (driver.tcpEcn || !hasEcn);
      case GsoType.TCPV6:
        return driver.tcp6 && (driver.tcpEcn || !hasEcn);
      case GsoType.UDP_L4:
        return driver.udp;
      default:
        return false;
    }
  }

  /** A frame that needs nothing, with an empty header where the link has headers. */
  #queuePlain(bytes: Buffer, offset: number, length: number): boolean {
    if (length > this.abilities.frameBytesMax) return false;
    const queue = this.#queue;
    const at = queue.reserve(length);
    if (at < 0) return false;
    const { slab, prefixBytes } = queue;
    if (prefixBytes === 4) writeFrameLength(slab, at, length);
    else if (prefixBytes === VNET_HEADER_BYTES) slab.fill(0, at - prefixBytes, at);
    copyBytes(bytes, offset, slab, at, length);
    return true;
  }

  #queueWithHeader(bytes: Buffer, offset: number, length: number): boolean {
    const at = this.#queue.reserve(length);
    if (at < 0) return false;
    const headed = VNET_HEADER_BYTES + length;
    copyBytes(bytes, offset - VNET_HEADER_BYTES, this.#queue.slab, at - VNET_HEADER_BYTES, headed);
    return true;
  }

  /** In a copy: the caller's frame is not ours to change. */
  #queueCompleted(bytes: Buffer, offset: number, length: number): boolean {
    if (VNET_HEADER_BYTES + length > SCRATCH_BYTES) return false;
    bytes.copy(this.#scratch, 0, offset - VNET_HEADER_BYTES, offset + length);
    parseFrame(this.#scratch, VNET_HEADER_BYTES, length, VNET_HEADER_BYTES, this.#view);
    return completeChecksum(this.#view) && this.#queuePlain(this.#scratch, VNET_HEADER_BYTES, length);
  }

  /** All segments or none: a part of them would only be sent again. */
  #queueSegments(bytes: Buffer, offset: number, length: number): boolean {
    const before = this.#queue.count;
    this.#segmentsFit = true;
    parseFrame(bytes, offset, length, VNET_HEADER_BYTES, this.#view);
    const segments = segmentFrame(this.#view, this.#scratch, this.#queueSegment);
    if (segments > 0 && this.#segmentsFit) return true;
    this.#queue.truncate(before);
    return false;
  }
}
