/**
 * Frames made from fields, with right lengths and checksums: for announcements, the simulation and tests. Each call
 * allocates its result; the per-frame path never builds. Wrong fields throw RangeError: they are the program's.
 */
import { parseIpAddress, parseMac } from './addresses.js';
import { writeU16, writeU32 } from './bytes.js';
import { checksumOf, sum16, writeIpv4Checksum } from './checksum.js';
import {
  ETHERNET_HEADER_BYTES,
  EtherType,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  IpProtocol,
  VLAN_TAG_BYTES,
} from './numbers.js';
import { VNET_HEADER_LENGTH, type VnetFields, writeVnetHeader } from './vnet-header.js';

/** Text or 6 bytes. */
export type MacAddress = string | Uint8Array;
/** Text, 4 bytes or 16 bytes. */
export type IpAddress = string | Uint8Array;

export interface VlanTag {
  readonly vid: number;
  /** 0x8100 unless given. */
  readonly tpid?: number;
  /** PCP, 0 to 7. */
  readonly priority?: number;
}

export interface EthernetFields {
  readonly sourceMac?: MacAddress;
  readonly destinationMac?: MacAddress;
  /** Outer tag first. */
  readonly vlans?: readonly VlanTag[];
  /** Puts a vnet header in front: the frame then begins at byte 10 of the result. */
  readonly vnet?: VnetFields;
}

export interface IpFields extends EthernetFields {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** TTL or hop limit; 64 unless given. */
  readonly ttl?: number;
  readonly trafficClass?: number;
  /** IPv6 only. */
  readonly flowLabel?: number;
  /** Identification: IPv4's field, and that of an IPv6 fragment header. */
  readonly id?: number;
  readonly dontFragment?: boolean;
  /** Makes it a fragment: the payload given is this fragment's; `offset` in bytes, a multiple of 8. */
  readonly fragment?: { readonly offset: number; readonly more: boolean };
  /** IPv4 options or IPv6 extension headers as bytes; for IPv6 they begin with the header named by `extensionProtocol`. */
  readonly ipOptions?: Uint8Array;
  /** IPv6: protocol number of the first header in `ipOptions`, whose last next-header byte the caller has set. */
  readonly extensionProtocol?: number;
  /** Bytes after the IP packet, as short Ethernet frames are padded (trap T17). */
  readonly paddingBytes?: number;
  /**
   * `partial`: the L4 checksum field holds the pseudo-header sum, as with NEEDS_CSUM (trap T18). `none`: 0. Otherwise the
   * right one. A TCP or UDP builder with `partial` sets the vnet header's NEEDS_CSUM itself.
   */
  readonly checksum?: 'full' | 'partial' | 'none';
}

function macBytes(mac: MacAddress | undefined): Uint8Array {
  const bytes = mac === undefined ? Buffer.alloc(6) : typeof mac === 'string' ? parseMac(mac) : mac;
  if (bytes?.length !== 6) throw new RangeError(`not a MAC address: ${String(mac)}`);
  return bytes;
}

function ipBytes(ip: IpAddress): Uint8Array {
  const bytes = typeof ip === 'string' ? parseIpAddress(ip) : ip;
  if (bytes === undefined || (bytes.length !== 4 && bytes.length !== 16)) {
    throw new RangeError(`not an IP address: ${String(ip)}`);
  }
  return bytes;
}

/** An Ethernet II frame around `payload`. */
export function buildEthernet(fields: EthernetFields, etherType: number, payload: Uint8Array): Buffer {
  const vlans = fields.vlans ?? [];
  const start = fields.vnet === undefined ? 0 : VNET_HEADER_LENGTH;
  const headerBytes = ETHERNET_HEADER_BYTES + vlans.length * VLAN_TAG_BYTES;
  const bytes = Buffer.alloc(start + headerBytes + payload.length);
  if (fields.vnet !== undefined) writeVnetHeader(bytes, 0, fields.vnet);
  bytes.set(macBytes(fields.destinationMac), start);
  bytes.set(macBytes(fields.sourceMac), start + 6);
  let at = start + 12;
  for (const tag of vlans) {
    writeU16(bytes, at, tag.tpid ?? EtherType.VLAN);
    writeU16(bytes, at + 2, ((tag.priority ?? 0) << 13) | tag.vid);
    at += VLAN_TAG_BYTES;
  }
  writeU16(bytes, at, etherType);
  bytes.set(payload, at + 2);
  return bytes;
}

/** An IP packet with any protocol; `payload` begins with the L4 header, its checksum already in place. */
export function buildIp(fields: IpFields, protocol: number, payload: Uint8Array): Buffer {
  const source = ipBytes(fields.source);
  const destination = ipBytes(fields.destination);
  if (source.length !== destination.length)
    throw new RangeError('source and destination of different IP versions');
  const build = source.length === 4 ? buildIpv4Packet : buildIpv6Packet;
  const packet = build(fields, source, destination, protocol, payload);
  return buildEthernet(fields, source.length === 4 ? EtherType.IPV4 : EtherType.IPV6, packet);
}

function buildIpv4Packet(
  fields: IpFields,
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  payload: Uint8Array,
): Buffer {
  const options = fields.ipOptions ?? Buffer.alloc(0);
  const headerBytes = IPV4_HEADER_BYTES + options.length;
  if (options.length % 4 !== 0 || headerBytes > 60)
    throw new RangeError('IPv4 options: 0 to 40 bytes in fours');
  const totalBytes = headerBytes + payload.length;
  const packet = Buffer.alloc(totalBytes + (fields.paddingBytes ?? 0));
  packet[0] = 0x40 | (headerBytes / 4);
  packet[1] = fields.trafficClass ?? 0;
  // a super-frame longer than the field can say states 0
  writeU16(packet, 2, totalBytes > 0xffff ? 0 : totalBytes);
  writeU16(packet, 4, fields.id ?? 0);
  const fragment = fields.fragment;
  let flags = fields.dontFragment === true ? 0x4000 : 0;
  if (fragment !== undefined) flags |= (fragment.more ? 0x2000 : 0) | (fragment.offset / 8);
  writeU16(packet, 6, flags);
  packet[8] = fields.ttl ?? 64;
  packet[9] = protocol;
  packet.set(source, 12);
  packet.set(destination, 16);
  packet.set(options, IPV4_HEADER_BYTES);
  packet.set(payload, headerBytes);
  writeIpv4Checksum(packet, 0);
  return packet;
}

function buildIpv6Packet(
  fields: IpFields,
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  payload: Uint8Array,
): Buffer {
  const extensions = fields.ipOptions ?? Buffer.alloc(0);
  const fragment = fields.fragment;
  const fragmentBytes = fragment === undefined ? 0 : 8;
  const payloadBytes = extensions.length + fragmentBytes + payload.length;
  const packet = Buffer.alloc(IPV6_HEADER_BYTES + payloadBytes + (fields.paddingBytes ?? 0));
  writeU32(packet, 0, 0x60000000 | ((fields.trafficClass ?? 0) << 20) | (fields.flowLabel ?? 0));
  writeU16(packet, 4, payloadBytes > 0xffff ? 0 : payloadBytes);
  packet[6] =
    extensions.length > 0
      ? (fields.extensionProtocol ?? IpProtocol.HOP_BY_HOP)
      : fragment !== undefined
        ? IpProtocol.FRAGMENT
        : protocol;
  packet[7] = fields.ttl ?? 64;
  packet.set(source, 8);
  packet.set(destination, 24);
  packet.set(extensions, IPV6_HEADER_BYTES);
  let at = IPV6_HEADER_BYTES + extensions.length;
  if (fragment !== undefined) {
    packet[at] = protocol;
    writeU16(packet, at + 2, fragment.offset | (fragment.more ? 1 : 0));
    writeU32(packet, at + 4, fields.id ?? 0);
    at += fragmentBytes;
  }
  packet.set(payload, at);
  return packet;
}

/** Folded sum of the pseudo-header of a packet that is not built yet. */
function pseudoSum(fields: IpFields, protocol: number, l4Bytes: number): number {
  const source = ipBytes(fields.source);
  const destination = ipBytes(fields.destination);
  const length = (l4Bytes >>> 16) + (l4Bytes & 0xffff);
  return sum16(source, 0, source.length, sum16(destination, 0, destination.length, protocol + length));
}

/**
 * Fills the checksum field at `checksumAt` of `l4` as `fields.checksum` says, and wraps it in IP. Transport builders
 * (build-transport.ts) end here.
 */
export function buildTransport(fields: IpFields, protocol: number, l4: Buffer, checksumAt: number): Buffer {
  const pseudo = protocol === IpProtocol.ICMP ? 0 : pseudoSum(fields, protocol, l4.length);
  if (fields.checksum === 'partial') {
    writeU16(l4, checksumAt, pseudo);
    const vlanBytes = (fields.vlans?.length ?? 0) * VLAN_TAG_BYTES;
    const isIpv4 = ipBytes(fields.source).length === 4;
    const ipHeaderBytes = (isIpv4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES) + (fields.ipOptions?.length ?? 0);
    const checksumStart = ETHERNET_HEADER_BYTES + vlanBytes + ipHeaderBytes;
    const vnet = { flags: 1, checksumStart, checksumOffset: checksumAt, ...fields.vnet };
    return buildIp({ ...fields, vnet }, protocol, l4);
  }
  if (fields.checksum !== 'none') {
    writeU16(l4, checksumAt, 0);
    writeU16(l4, checksumAt, checksumOf(sum16(l4, 0, l4.length, pseudo), protocol));
  }
  return buildIp(fields, protocol, l4);
}
