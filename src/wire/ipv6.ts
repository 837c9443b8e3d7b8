import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { IP_TOTAL_BYTES_MAX, isSuperFrame } from './ipv4.js';
import { IPV6_HEADER_BYTES, IpProtocol } from './numbers.js';

/** Extension headers walked at most; a longer chain leaves the packet IP_OTHER (nobody sends one). */
const EXTENSION_HEADERS_MAX = 16;
export const IPV6_FRAGMENT_HEADER_BYTES = 8;
export const IPV6_FRAGMENT_OFFSET_MASK = 0xfff8;
export const IPV6_MORE_FRAGMENTS = 1;
const DESTINATION_AT = 24;

/**
 * IPv6 (RFC 8200) with its extension headers. Fills ipVersion, l3, l3End, ipProtocol and l4. Returns the kind
 * when the packet is malformed or a fragment, or -1 when the payload is to be parsed. Of a fragment, `l4` is
 * what follows the fragment header, and `ipProtocol` what that header says comes next. An atomic fragment (offset 0,
 * no more) is a whole packet (RFC 6946).
 */
export function parseIpv6(view: FrameView): FrameKind | -1 {
  const { bytes, end, network } = view;
  const room = end - network;
  if (room < IPV6_HEADER_BYTES || bytes[network]! >>> 4 !== 6) return FrameKind.MALFORMED;
  let payloadBytes = readU16(bytes, network + 4);
  if (payloadBytes === 0 && isSuperFrame(view, room - IPV6_HEADER_BYTES)) {
    payloadBytes = room - IPV6_HEADER_BYTES;
  }
  if (payloadBytes > room - IPV6_HEADER_BYTES) return FrameKind.MALFORMED;
  view.ipVersion = 6;
  view.l3 = network;
  view.l3End = network + IPV6_HEADER_BYTES + payloadBytes;
  return walkExtensionHeaders(view);
}

/** From the header at `view.l3` to `view.l3End`; fills ipProtocol and l4. The rest as parseIpv6. */
export function walkExtensionHeaders(view: FrameView): FrameKind | -1 {
  const { bytes, l3, l3End } = view;
  let next = bytes[l3 + 6]!;
  let at = l3 + IPV6_HEADER_BYTES;
  for (let count = 0; count < EXTENSION_HEADERS_MAX && isExtension(next); count++) {
    if (l3End - at < 8) return FrameKind.MALFORMED;
    if (next === IpProtocol.FRAGMENT) {
      const field = readU16(bytes, at + 2);
      next = bytes[at]!;
      at += IPV6_FRAGMENT_HEADER_BYTES;
      const offset = field & IPV6_FRAGMENT_OFFSET_MASK;
      if (offset !== 0 || (field & IPV6_MORE_FRAGMENTS) !== 0) {
        view.ipProtocol = next;
        view.l4 = at;
        return offset + (l3End - at) > IP_TOTAL_BYTES_MAX ? FrameKind.MALFORMED : FrameKind.FRAGMENT;
      }
      continue;
    }
    const headerBytes = extensionBytes(bytes, next, at);
    if (headerBytes > l3End - at) return FrameKind.MALFORMED;
    next = bytes[at]!;
    at += headerBytes;
  }
  view.ipProtocol = next;
  view.l4 = at;
  return -1;
}

/** Routing header types whose way has an end that stands in the header: RFC 8200 (deprecated), 6275 and 8754. */
const RoutingType = { SOURCE_ROUTE: 0, MOBILE: 2, SEGMENT: 4 } as const;
const ADDRESS_BYTES = 16;
const ROUTING_FIXED_BYTES = 8;

/**
 * Where the address of the final destination lies, which checksums cover (RFC 8200 8.1): while a routing header has
 * segments left, the IPv6 header names only the next stop. `view` is one that parseIpv6 took.
 */
export function finalDestination(view: FrameView): number {
  const { bytes, l3, l4 } = view;
  let next = bytes[l3 + 6]!;
  let at = l3 + IPV6_HEADER_BYTES;
  while (at < l4) {
    const addressBytes = bytes[at + 1]! * 8;
    const isOnTheWay = next === IpProtocol.ROUTING && bytes[at + 3] !== 0 && addressBytes >= ADDRESS_BYTES;
    if (isOnTheWay && bytes[at + 2] === RoutingType.SOURCE_ROUTE) {
      return at + ROUTING_FIXED_BYTES + (addressBytes - (addressBytes % ADDRESS_BYTES)) - ADDRESS_BYTES;
    }
    if (isOnTheWay && (bytes[at + 2] === RoutingType.MOBILE || bytes[at + 2] === RoutingType.SEGMENT)) {
      return at + ROUTING_FIXED_BYTES; // segments are listed from the last
    }
    const headerBytes = extensionBytes(bytes, next, at);
    next = bytes[at]!;
    at += headerBytes;
  }
  return l3 + DESTINATION_AT;
}

/** Of the extension header of type `kind` at `at`, a fragment header included. */
function extensionBytes(bytes: Uint8Array, kind: number, at: number): number {
  if (kind === IpProtocol.FRAGMENT) return IPV6_FRAGMENT_HEADER_BYTES;
  // AH counts in 4-byte units minus 2 (RFC 4302), the others in 8-byte units minus 1
  return kind === IpProtocol.AUTHENTICATION ? (bytes[at + 1]! + 2) * 4 : (bytes[at + 1]! + 1) * 8;
}

function isExtension(protocol: number): boolean {
  return (
    protocol === IpProtocol.HOP_BY_HOP ||
    protocol === IpProtocol.ROUTING ||
    protocol === IpProtocol.FRAGMENT ||
    protocol === IpProtocol.AUTHENTICATION ||
    protocol === IpProtocol.DESTINATION
  );
}
