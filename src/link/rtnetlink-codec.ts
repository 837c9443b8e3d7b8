import {
  attributeText,
  attributeU8,
  attributeU32,
  counter64,
  NetlinkFlag,
  type NetlinkMessage,
  type NetlinkWriter,
  netlinkAttributes,
} from './netlink-message.js';

/** rtnetlink(7) requests and answers about interfaces (linux/rtnetlink.h, linux/if_link.h). */
export const RouteType = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWSTATS: 92,
  GETSTATS: 94,
} as const;

/** Multicast group of changes to interfaces (RTMGRP_LINK). */
export const LINK_EVENTS_GROUP = 1;

export const InterfaceFlag = { UP: 0x1, NOARP: 0x80, LOWER_UP: 0x10000 } as const;

/** How the kernel makes IPv6 link-local addresses (IFLA_INET6_ADDR_GEN_MODE). */
export const AddressGeneration = { EUI64: 0, NONE: 1 } as const;

const AF_INET6 = 10;
const INTERFACE_BYTES = 16; // struct ifinfomsg
const ADDRESS_BYTES = 8; // struct ifaddrmsg
const STATS_BYTES = 12; // struct if_stats_msg
const STATS_LINK_64 = 1;

const Attribute = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  MASTER: 10,
  TXQLEN: 13,
  OPERSTATE: 16,
  LINKINFO: 18,
  IFALIAS: 20,
  AF_SPEC: 26,
  CARRIER: 33,
  CARRIER_DOWN_COUNT: 48,
} as const;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const INFO_KIND = 1;
const INET6_ADDR_GEN_MODE = 8;

/** One interface as the kernel describes it. */
export interface InterfaceInfo {
  readonly index: number;
  readonly name: string;
  /** InterfaceFlag bits. */
  readonly flags: number;
  readonly mtuBytes: number;
  /** txqueuelen: frames that the interface's queue holds. */
  readonly transmitQueueFrames: number;
  /** Index of the bridge or bond it belongs to; 0: none. */
  readonly master: number;
  /** Somebody is at the other end: a cable, or the holder of a TAP's character device. */
  readonly carrier: boolean;
  /** How often the carrier was lost: tells a loss that was over before anybody looked. */
  readonly carrierLosses: number;
  /** RFC 2863 operstate: 0 unknown, 2 down, 6 up ... */
  readonly operationalState: number;
  /** `tun`, `veth`, `bridge` ...; '' for a physical interface. */
  readonly kind: string;
  readonly alias: string;
  readonly mac: Buffer;
  /** AddressGeneration; undefined when the kernel has no IPv6. */
  readonly addressGeneration: number | undefined;
}

export interface InterfaceStatistics {
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxDropped: number;
  readonly txDropped: number;
}

/** What `encodeSetLink` changes; what is absent stays. */
export interface InterfaceChange {
  readonly up?: boolean;
  readonly noArp?: boolean;
  readonly mtuBytes?: number;
  /** Index of the new master; 0 leaves the present one. */
  readonly master?: number;
  readonly addressGeneration?: number;
  readonly alias?: string;
}

function interfaceHeader(writer: NetlinkWriter, index: number, flags = 0, changed = 0): void {
  writer.u8(0).u8(0).u16(0).u32(index).u32(flags).u32(changed);
}

/** Asks for one interface, by name or index. */
export function encodeGetLink(writer: NetlinkWriter, sequence: number, which: string | number): Buffer {
  writer.begin(RouteType.GETLINK, NetlinkFlag.REQUEST, sequence);
  interfaceHeader(writer, typeof which === 'number' ? which : 0);
  if (typeof which === 'string') writer.text(Attribute.IFNAME, which);
  return writer.finish();
}

export function encodeSetLink(
  writer: NetlinkWriter,
  sequence: number,
  index: number,
  change: InterfaceChange,
): Buffer {
  let flags = 0;
  let changed = 0;
  const flag = (bit: number, value: boolean | undefined): void => {
    if (value === undefined) return;
    changed |= bit;
    if (value) flags |= bit;
  };
  flag(InterfaceFlag.UP, change.up);
  flag(InterfaceFlag.NOARP, change.noArp);
  writer.begin(RouteType.SETLINK, NetlinkFlag.REQUEST | NetlinkFlag.ACK, sequence);
  interfaceHeader(writer, index, flags, changed);
  const { mtuBytes, master, addressGeneration, alias } = change;
  if (mtuBytes !== undefined) writer.attribute(Attribute.MTU, () => writer.u32(mtuBytes));
  if (master !== undefined) writer.attribute(Attribute.MASTER, () => writer.u32(master));
  if (alias !== undefined) writer.text(Attribute.IFALIAS, alias);
  if (addressGeneration !== undefined) {
    writer.nested(Attribute.AF_SPEC, () =>
      writer.nested(AF_INET6, () =>
        writer.attribute(INET6_ADDR_GEN_MODE, () => writer.u8(addressGeneration)),
      ),
    );
  }
  return writer.finish();
}

export function encodeDeleteLink(writer: NetlinkWriter, sequence: number, index: number): Buffer {
  writer.begin(RouteType.DELLINK, NetlinkFlag.REQUEST | NetlinkFlag.ACK, sequence);
  interfaceHeader(writer, index);
  return writer.finish();
}

/** Asks for the addresses of all interfaces (the kernel filters by index only on request of a strict socket). */
export function encodeGetAddresses(writer: NetlinkWriter, sequence: number): Buffer {
  return writer
    .begin(RouteType.GETADDR, NetlinkFlag.REQUEST | NetlinkFlag.DUMP, sequence)
    .u32(0)
    .u32(0)
    .finish();
}

export function encodeDeleteAddress(
  writer: NetlinkWriter,
  sequence: number,
  { family, prefixBits, index, address }: InterfaceAddress,
): Buffer {
  writer.begin(RouteType.DELADDR, NetlinkFlag.REQUEST | NetlinkFlag.ACK, sequence);
  writer.u8(family).u8(prefixBits).u8(0).u8(0).u32(index);
  return writer.attribute(IFA_LOCAL, () => writer.bytes(address)).finish();
}

/** Asks for one interface's counters alone: cheaper than its whole description. */
export function encodeGetStatistics(writer: NetlinkWriter, sequence: number, index: number): Buffer {
  return writer
    .begin(RouteType.GETSTATS, NetlinkFlag.REQUEST, sequence)
    .u32(0)
    .u32(index)
    .u32(1 << (STATS_LINK_64 - 1))
    .finish();
}

/** The interface an RTM_NEWLINK or RTM_DELLINK is about; undefined when the message is cut short. */
export function decodeLink(message: NetlinkMessage): InterfaceInfo | undefined {
  const { body } = message;
  if (body.length < INTERFACE_BYTES) return undefined;
  const attributes = netlinkAttributes(body, INTERFACE_BYTES);
  const name = attributeText(attributes.get(Attribute.IFNAME));
  if (name === undefined) return undefined;
  return {
    index: body.readInt32LE(4),
    name,
    flags: body.readUInt32LE(8),
    mtuBytes: attributeU32(attributes.get(Attribute.MTU)) ?? 0,
    transmitQueueFrames: attributeU32(attributes.get(Attribute.TXQLEN)) ?? 0,
    master: attributeU32(attributes.get(Attribute.MASTER)) ?? 0,
    carrier: attributeU8(attributes.get(Attribute.CARRIER)) === 1,
    carrierLosses: attributeU32(attributes.get(Attribute.CARRIER_DOWN_COUNT)) ?? 0,
    operationalState: attributeU8(attributes.get(Attribute.OPERSTATE)) ?? 0,
    kind: attributeText(nestedAttribute(attributes.get(Attribute.LINKINFO), INFO_KIND)) ?? '',
    alias: attributeText(attributes.get(Attribute.IFALIAS)) ?? '',
    mac: Buffer.from(attributes.get(Attribute.ADDRESS) ?? Buffer.alloc(0)),
    addressGeneration: attributeU8(
      nestedAttribute(nestedAttribute(attributes.get(Attribute.AF_SPEC), AF_INET6), INET6_ADDR_GEN_MODE),
    ),
  };
}

function nestedAttribute(attribute: Buffer | undefined, type: number): Buffer | undefined {
  return attribute && netlinkAttributes(attribute).get(type);
}

export function decodeStatistics(message: NetlinkMessage): InterfaceStatistics | undefined {
  if (message.body.length < STATS_BYTES) return undefined;
  const stats = netlinkAttributes(message.body, STATS_BYTES).get(STATS_LINK_64);
  if (!stats) return undefined;
  return {
    rxPackets: counter64(stats, 0),
    txPackets: counter64(stats, 1),
    rxDropped: counter64(stats, 6),
    txDropped: counter64(stats, 7),
  };
}

/** An RTM_NEWADDR as interface index, family (2 IPv4, 10 IPv6) and address bytes. */
export interface InterfaceAddress {
  readonly index: number;
  readonly family: number;
  readonly prefixBits: number;
  readonly address: Buffer;
}

export function decodeAddress(message: NetlinkMessage): InterfaceAddress | undefined {
  const { body } = message;
  if (body.length < ADDRESS_BYTES) return undefined;
  const attributes = netlinkAttributes(body, ADDRESS_BYTES);
  const address = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  if (!address) return undefined;
  return {
    index: body.readUInt32LE(4),
    family: body[0]!,
    prefixBits: body[1]!,
    address: Buffer.from(address),
  };
}
