/**
 * A checked view over one Ethernet frame: numbers only, reused for every frame, so nothing is allocated per
 * frame. `parseFrame` (parse.ts) fills it; every offset it stores lies inside the frame, whatever the bytes are.
 */
import type { FrameBytes } from './frame-memory.js';

/** What a frame is, as far as comparing cares. Anything that lies about its own lengths is `MALFORMED`. */
export const FrameKind = {
  /** Not an Ethernet frame at all, or a header that contradicts its own lengths (trap T33). */
  MALFORMED: 0,
  TCP: 1,
  UDP: 2,
  /** ICMP over IPv4. */
  ICMP: 3,
  /** ICMPv6 other than neighbour discovery and MLD. */
  ICMPV6: 4,
  /** Any fragment of IPv4 or IPv6, the first one included. */
  FRAGMENT: 5,
  /** IP with another payload protocol (GRE, ESP, SCTP ...). */
  IP_OTHER: 6,
  ARP: 7,
  /** Neighbour solicitation/advertisement, router solicitation; `icmpType` tells. Not RA, not Redirect. */
  ND: 8,
  /** IGMP, MLD. */
  GROUP_MEMBERSHIP: 9,
  /** LLDP, STP, RARP: idempotent link control. */
  LINK_CONTROL: 10,
  /** Any other EtherType. */
  OTHER: 11,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export const TcpFlag = { FIN: 0x01, SYN: 0x02, RST: 0x04, PSH: 0x08, ACK: 0x10, URG: 0x20 } as const;

export class FrameView {
  /** The buffer that holds the frame; `start` is its first byte, `end` one past its last. */
  bytes: FrameBytes = Buffer.alloc(0);
  start = 0;
  end = 0;
  /** 0 or 10: a vnet header lies at `start - vnetHeaderBytes`. */
  vnetHeaderBytes: 0 | 10 = 0;

  kind: FrameKind = FrameKind.MALFORMED;
  /** Inner EtherType, after VLAN tags. */
  etherType = 0;
  /** VLAN ids as one number: 0 none, VID of the only tag, or outer VID * 4096 + inner VID for QinQ. */
  vlan = 0;
  /** First byte after the inner EtherType: where ARP, LLDP or the IP header begins; 0 when malformed. */
  network = 0;
  /** 4, 6, or 0 when not IP. */
  ipVersion = 0;
  /** Start of the IP header, 0 when not IP. */
  l3 = 0;
  /** One past the last byte of the IP packet by its own length field: padding is excluded (trap T17). */
  l3End = 0;
  /** IP protocol number of the payload after extension headers; -1 when not IP. */
  ipProtocol = -1;
  /** Start of the TCP/UDP/ICMP header (or of the IP payload for IP_OTHER), 0 when not IP. */
  l4 = 0;
  /** Start of the payload after the L4 header, and its length. */
  payload = 0;
  payloadBytes = 0;

  /** TCP and UDP ports; ICMP echo: identifier in both; else 0. */
  sourcePort = 0;
  destinationPort = 0;

  /** TCP fields. Sequence numbers are unsigned 32-bit numbers. */
  seq = 0;
  ack = 0;
  tcpFlags = 0;
  window = 0;
  /** Start of the TCP options and one past their end. */
  options = 0;
  optionsEnd = 0;
  /** Offset of the timestamp option's TSval field (TSecr 4 bytes later), 0 when absent. */
  timestamp = 0;
  /** Offset of the first SACK block and number of whole blocks; 0 when absent. */
  sack = 0;
  sackBlocks = 0;
  /** SYN options: -1 when absent. */
  mss = -1;
  windowScale = -1;
  sackPermitted = false;
  /** TCP MD5 (kind 19) or AO (kind 29) option present: the segment must never be rewritten. */
  signed = false;

  /** ICMP and ICMPv6 type and code; -1 when neither. */
  icmpType = -1;
  icmpCode = -1;

  /** True when a vnet header says NEEDS_CSUM: the L4 checksum field holds only the pseudo-header sum (T18). */
  partialChecksum = false;

  /** Sequence positions this segment covers: payload, SYN and FIN one each. */
  seqLength(): number {
    return this.payloadBytes + (this.tcpFlags & 1) + ((this.tcpFlags >> 1) & 1);
  }
}
