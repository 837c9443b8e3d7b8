/**
 * Internet checksums (RFC 1071), their incremental update (RFC 1624, equation 3), and where they lie in TCP, UDP, ICMP
 * and IPv4. Sums are folded to 16 bits and not yet complemented.
 */
import { readU16, writeU16 } from './bytes.js';
import type { FrameView } from './frame-view.js';
import { finalDestination } from './ipv6.js';
import { IPV4_HEADER_BYTES, IpProtocol } from './numbers.js';

/** Sums the bytes [from, to) of at most 8 MiB onto `sum`; an odd last byte counts as the high half of a word. */
export function sum16(bytes: Uint8Array, from: number, to: number, sum = 0): number {
  let high = 0;
  let low = 0;
  let at = from;
  for (const pairsEnd = to - 3; at < pairsEnd; at += 4) {
    high += bytes[at]! + bytes[at + 2]!;
    low += bytes[at + 1]! + bytes[at + 3]!;
  }
  for (; at < to - 1; at += 2) {
    high += bytes[at]!;
    low += bytes[at + 1]!;
  }
  if (at < to) high += bytes[at]!;
  // high * 256 could pass 2^31: fold it first
  return fold(fold(high) * 256 + fold(low) + sum);
}

/** Carries added back in until 16 bits are left. `sum` must be below 2^32. */
export function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** Sum of the IPv4 or IPv6 pseudo-header (RFC 9293 3.1, RFC 8200 8.1); addresses as the IP header has them. */
export function pseudoHeaderSum(view: FrameView, protocol: number, l4Bytes: number): number {
  const { bytes, l3 } = view;
  const sum = protocol + (l4Bytes >>> 16) + (l4Bytes & 0xffff);
  if (view.ipVersion === 4) return sum16(bytes, l3 + 12, l3 + 20, sum);
  const destination = finalDestination(view);
  return sum16(bytes, destination, destination + 16, sum16(bytes, l3 + 8, l3 + 24, sum));
}

/** Offset of the L4 checksum field in the buffer, or 0 when the frame has none (a fragment, ARP, GRE ...). */
export function l4ChecksumOffset(view: FrameView): number {
  if (view.icmpType >= 0) return view.l4 + 2;
  if (view.optionsEnd !== 0) return view.l4 + 16;
  if (view.ipProtocol === IpProtocol.UDP && view.payload !== view.l4) return view.l4 + 6;
  return 0;
}

/** One past the last byte the L4 checksum covers. */
export function l4End(view: FrameView): number {
  return view.ipProtocol === IpProtocol.UDP ? view.payload + view.payloadBytes : view.l3End;
}

function l4Sum(view: FrameView): number {
  const end = l4End(view);
  const pseudo =
    view.ipProtocol === IpProtocol.ICMP ? 0 : pseudoHeaderSum(view, view.ipProtocol, end - view.l4);
  return sum16(view.bytes, view.l4, end, pseudo);
}

/** The value of a checksum field for a folded sum; UDP says "none" with 0 and so writes 0xffff (RFC 768). */
export function checksumOf(sum: number, protocol: number): number {
  const value = ~sum & 0xffff;
  return value === 0 && protocol === IpProtocol.UDP ? 0xffff : value;
}

/** Computes and writes the whole L4 checksum. Returns false, writing nothing, when the frame has none. */
export function writeL4Checksum(view: FrameView): boolean {
  const offset = l4ChecksumOffset(view);
  if (offset === 0) return false;
  writeU16(view.bytes, offset, 0);
  writeU16(view.bytes, offset, checksumOf(l4Sum(view), view.ipProtocol));
  return true;
}

/**
 * Is the L4 checksum right? True also when there is nothing to check: a partial checksum (T18), UDP over IPv4 without
 * one, a frame without the field.
 */
export function verifyL4Checksum(view: FrameView): boolean {
  const offset = l4ChecksumOffset(view);
  if (offset === 0 || view.partialChecksum) return true;
  if (view.ipProtocol === IpProtocol.UDP && readU16(view.bytes, offset) === 0) return view.ipVersion === 4;
  return l4Sum(view) === 0xffff;
}

/** Writes the checksum of the IPv4 header at `l3`. */
export function writeIpv4Checksum(bytes: Uint8Array, l3: number): void {
  writeU16(bytes, l3 + 10, 0);
  writeU16(bytes, l3 + 10, ~sum16(bytes, l3, ipv4HeaderEnd(bytes, l3)) & 0xffff);
}

export function verifyIpv4Checksum(bytes: Uint8Array, l3: number): boolean {
  return sum16(bytes, l3, ipv4HeaderEnd(bytes, l3)) === 0xffff;
}

function ipv4HeaderEnd(bytes: Uint8Array, l3: number): number {
  return l3 + Math.max(IPV4_HEADER_BYTES, (bytes[l3]! & 0x0f) * 4);
}

/** Takes a 16-bit field's change from `oldValue` to `newValue` into the checksum at `checksumOffset`. */
export function updateChecksum16(
  bytes: Uint8Array,
  checksumOffset: number,
  oldValue: number,
  newValue: number,
): void {
  const sum = (~readU16(bytes, checksumOffset) & 0xffff) + (~oldValue & 0xffff) + (newValue & 0xffff);
  writeU16(bytes, checksumOffset, ~fold(sum) & 0xffff);
}

/**
 * The same for a 32-bit field. `odd`: the field begins at an odd distance from the start of the checksummed range, as a
 * TCP timestamp after one NOP does, so its bytes sit swapped in the sum. Never for UDP: its 0 has a meaning.
 */
export function updateChecksum32(
  bytes: Uint8Array,
  checksumOffset: number,
  oldValue: number,
  newValue: number,
  odd = false,
): void {
  let change = fold(
    (~oldValue & 0xffff) + ((~oldValue >>> 16) & 0xffff) + (newValue & 0xffff) + ((newValue >>> 16) & 0xffff),
  );
  if (odd) change = ((change & 0xff) << 8) | (change >>> 8);
  writeU16(bytes, checksumOffset, ~fold((~readU16(bytes, checksumOffset) & 0xffff) + change) & 0xffff);
}
