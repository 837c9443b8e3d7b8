/** Fields of a FrameView whose kind is FRAGMENT. Its data is `payload`, `payloadBytes` long. */
import { readU16, readU32 } from './bytes.js';
import type { FrameView } from './frame-view.js';
import { IPV4_FRAGMENT_OFFSET_MASK, IPV4_MORE_FRAGMENTS } from './ipv4.js';
import { IPV6_FRAGMENT_HEADER_BYTES, IPV6_FRAGMENT_OFFSET_MASK, IPV6_MORE_FRAGMENTS } from './ipv6.js';

/** Where the fragment's data belongs in the whole payload, in bytes. */
export function fragmentOffset(view: FrameView): number {
  if (view.ipVersion === 4) return (readU16(view.bytes, view.l3 + 6) & IPV4_FRAGMENT_OFFSET_MASK) * 8;
  return readU16(view.bytes, view.l4 - IPV6_FRAGMENT_HEADER_BYTES + 2) & IPV6_FRAGMENT_OFFSET_MASK;
}

export function hasMoreFragments(view: FrameView): boolean {
  if (view.ipVersion === 4) return (readU16(view.bytes, view.l3 + 6) & IPV4_MORE_FRAGMENTS) !== 0;
  return (readU16(view.bytes, view.l4 - IPV6_FRAGMENT_HEADER_BYTES + 2) & IPV6_MORE_FRAGMENTS) !== 0;
}

/** Identification: 16 bits in IPv4, 32 in IPv6. */
export function fragmentId(view: FrameView): number {
  if (view.ipVersion === 4) return readU16(view.bytes, view.l3 + 4);
  return readU32(view.bytes, view.l4 - IPV6_FRAGMENT_HEADER_BYTES + 4);
}
