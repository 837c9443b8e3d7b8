import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { EtherType } from './numbers.js';

/** Bytes of an ARP packet for IPv4 over Ethernet (RFC 826). */
export const ARP_BYTES = 28;
const HEADER_BYTES = 8;
const HARDWARE_ETHERNET = 1;

export const ArpOperation = { REQUEST: 1, REPLY: 2, RARP_REQUEST: 3, RARP_REPLY: 4 } as const;

/** Offsets of the fields from the packet's first byte (`view.network`). */
export const ArpField = {
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER_IP: 14,
  TARGET_MAC: 18,
  TARGET_IP: 24,
} as const;

/** ARP for IPv4 over Ethernet is ARP; for anything else it is OTHER, so a reader of ARP need not check again. */
export function parseArp(view: FrameView): FrameKind {
  const { bytes, end, network } = view;
  const room = end - network;
  if (room < HEADER_BYTES) return FrameKind.MALFORMED;
  const hardwareBytes = bytes[network + 4]!;
  const protocolBytes = bytes[network + 5]!;
  if (room < HEADER_BYTES + 2 * (hardwareBytes + protocolBytes)) return FrameKind.MALFORMED;
  const isIpv4OverEthernet =
    readU16(bytes, network) === HARDWARE_ETHERNET &&
    readU16(bytes, network + 2) === EtherType.IPV4 &&
    hardwareBytes === 6 &&
    protocolBytes === 4;
  return isIpv4OverEthernet ? FrameKind.ARP : FrameKind.OTHER;
}

export function arpOperation(view: FrameView): number {
  return readU16(view.bytes, view.network + ArpField.OPERATION);
}
