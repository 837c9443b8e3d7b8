/**
 * struct virtio_net_hdr as TAP and AF_PACKET speak it (linux/virtio_net.h): 10 bytes, multi-byte fields in the
 * host's order, which is little-endian on every host this runs on.
 *
 * | offset | field | |
 * |---|---|---|
 * | 0 | flags | 1 NEEDS_CSUM, 2 DATA_VALID |
 * | 1 | gso_type | |
 * | 2 | hdr_len | bytes of headers, a hint |
 * | 4 | gso_size | payload bytes of each segment |
 * | 6 | csum_start | from the frame's first byte |
 * | 8 | csum_offset | from csum_start |
 */

const FLAGS = 0;
const GSO_TYPE = 1;
const HEADER_LENGTH = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;

export const VNET_HEADER_LENGTH = 10;

export const VnetFlag = {
  /** The L4 checksum field holds the pseudo-header sum; the rest is still to be added. */
  NEEDS_CSUM: 1,
  /** Some hardware found the checksum right. */
  DATA_VALID: 2,
} as const;

/** gso_type values; ECN is a bit on top of one of them. */
export const GsoType = {
  NONE: 0,
  TCPV4: 1,
  /** UFO: one UDP datagram, to be cut into IP fragments. */
  UDP: 3,
  TCPV6: 4,
  /** USO: many UDP datagrams. */
  UDP_L4: 5,
  ECN: 0x80,
} as const;

export interface VnetFields {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly headerBytes?: number;
  readonly gsoBytes?: number;
  readonly checksumStart?: number;
  readonly checksumOffset?: number;
}

function readHost16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function writeHost16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

/** All take `at`: the first byte of the vnet header (a frame's start minus 10). */
export function vnetNeedsChecksum(bytes: Uint8Array, at: number): boolean {
  return (bytes[at + FLAGS]! & VnetFlag.NEEDS_CSUM) !== 0;
}

/** A GsoType without the ECN bit. */
export function vnetGsoType(bytes: Uint8Array, at: number): number {
  return bytes[at + GSO_TYPE]! & ~GsoType.ECN;
}

export function vnetGsoBytes(bytes: Uint8Array, at: number): number {
  return readHost16(bytes, at + GSO_SIZE);
}

export function vnetChecksumStart(bytes: Uint8Array, at: number): number {
  return readHost16(bytes, at + CSUM_START);
}

export function vnetChecksumOffset(bytes: Uint8Array, at: number): number {
  return readHost16(bytes, at + CSUM_OFFSET);
}

/** After a checksum was completed: takes NEEDS_CSUM and where it pointed out. */
export function vnetDropChecksumRequest(bytes: Uint8Array, at: number): void {
  bytes[at + FLAGS] = bytes[at + FLAGS]! & ~VnetFlag.NEEDS_CSUM;
  writeHost16(bytes, at + CSUM_START, 0);
  writeHost16(bytes, at + CSUM_OFFSET, 0);
}

/**
 * The header of a super-frame is from now on that of a piece of it. What fits one segment is a plain frame. Linux guests
 * count linear payload among the header bytes, of which a TAP refuses more than there are in the frame.
 */
export function vnetToPiece(bytes: Uint8Array, at: number, headerBytes: number, isPlain: boolean): void {
  writeHost16(bytes, at + HEADER_LENGTH, headerBytes);
  if (!isPlain) return;
  bytes[at + GSO_TYPE] = GsoType.NONE;
  writeHost16(bytes, at + GSO_SIZE, 0);
}

/** Writes a header; what is not given is 0. */
export function writeVnetHeader(bytes: Uint8Array, at: number, fields: VnetFields): void {
  bytes[at + FLAGS] = fields.flags ?? 0;
  bytes[at + GSO_TYPE] = fields.gsoType ?? 0;
  writeHost16(bytes, at + HEADER_LENGTH, fields.headerBytes ?? 0);
  writeHost16(bytes, at + GSO_SIZE, fields.gsoBytes ?? 0);
  writeHost16(bytes, at + CSUM_START, fields.checksumStart ?? 0);
  writeHost16(bytes, at + CSUM_OFFSET, fields.checksumOffset ?? 0);
}
