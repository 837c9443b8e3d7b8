/** ARP, RARP and neighbour discovery frames: what announces an address or asks for one (trap T19). */
import { parseIpAddress, parseMac } from './addresses.js';
import { ARP_BYTES, ArpField, ArpOperation } from './arp.js';
import { buildEthernet, type EthernetFields, type IpAddress, type MacAddress } from './build-ip.js';
import { buildIcmp } from './build-transport.js';
import { writeU16 } from './bytes.js';
import { EtherType, Icmpv6Type } from './numbers.js';
import { vlanTags } from './vlan.js';

const BROADCAST_MAC = Buffer.from('ffffffffffff', 'hex');
const ZERO_MAC = Buffer.alloc(6);
const UNSPECIFIED = Buffer.alloc(16);
const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex');
/** Neighbour messages with another hop limit are not believed (RFC 4861 7.1). */
const HOP_LIMIT = 255;
const TARGET_LINK_LAYER_ADDRESS = 2;
const SOURCE_LINK_LAYER_ADDRESS = 1;
const SOLICITED = 0x40000000;
const OVERRIDE = 0x20000000;
const MULTICAST_MAC_PREFIX = [0x33, 0x33] as const;

function mac(address: MacAddress): Uint8Array {
  const bytes = typeof address === 'string' ? parseMac(address) : address;
  if (bytes?.length !== 6) throw new RangeError(`not a MAC address: ${String(address)}`);
  return bytes;
}

function ip(address: IpAddress, length: 4 | 16): Uint8Array {
  const bytes = typeof address === 'string' ? parseIpAddress(address) : address;
  if (bytes?.length !== length)
    throw new RangeError(`not an IP address of ${length} bytes: ${String(address)}`);
  return bytes;
}

export interface ArpFields extends EthernetFields {
  /** ArpOperation. */
  readonly operation: number;
  readonly senderMac: MacAddress;
  readonly senderIp: IpAddress;
  readonly targetMac?: MacAddress;
  readonly targetIp: IpAddress;
}

/** An ARP packet; the Ethernet source is the sender and the destination everybody unless given. */
export function buildArp(fields: ArpFields): Buffer {
  const packet = Buffer.alloc(ARP_BYTES);
  writeU16(packet, 0, 1);
  writeU16(packet, 2, EtherType.IPV4);
  packet[4] = 6;
  packet[5] = 4;
  writeU16(packet, ArpField.OPERATION, fields.operation);
  packet.set(mac(fields.senderMac), ArpField.SENDER_MAC);
  packet.set(ip(fields.senderIp, 4), ArpField.SENDER_IP);
  packet.set(mac(fields.targetMac ?? ZERO_MAC), ArpField.TARGET_MAC);
  packet.set(ip(fields.targetIp, 4), ArpField.TARGET_IP);
  const isRarp =
    fields.operation === ArpOperation.RARP_REQUEST || fields.operation === ArpOperation.RARP_REPLY;
  return buildEthernet(
    { sourceMac: fields.senderMac, destinationMac: BROADCAST_MAC, ...fields },
    isRarp ? EtherType.RARP : EtherType.ARP,
    packet,
  );
}

/**
 * "This address is mine": the request form (RFC 5227 announcement) and the reply form, because some hosts
 * heed only one of them. `vlan` as FrameView.vlan has it.
 */
export function buildGratuitousArp(
  ownMac: MacAddress,
  ownIp: IpAddress,
  form: 'request' | 'reply',
  vlan = 0,
): Buffer {
  return buildArp({
    vlans: vlanTags(vlan),
    operation: form === 'request' ? ArpOperation.REQUEST : ArpOperation.REPLY,
    senderMac: ownMac,
    senderIp: ownIp,
    targetMac: form === 'request' ? ZERO_MAC : BROADCAST_MAC,
    targetIp: ownIp,
  });
}

/** The RARP request QEMU announces a moved guest with: it teaches switches where the MAC now is. */
export function buildRarp(ownMac: MacAddress, vlan = 0): Buffer {
  const nobody = Buffer.alloc(4);
  return buildArp({
    vlans: vlanTags(vlan),
    operation: ArpOperation.RARP_REQUEST,
    senderMac: ownMac,
    senderIp: nobody,
    targetMac: ownMac,
    targetIp: nobody,
  });
}

/** The Ethernet address of an IPv6 multicast address (RFC 2464 7). */
function multicastMac(address: Uint8Array): Uint8Array {
  return Uint8Array.from([...MULTICAST_MAC_PREFIX, ...address.subarray(12, 16)]);
}

function linkLayerOption(kind: number, address: Uint8Array): Uint8Array {
  return Uint8Array.from([kind, 1, ...address]);
}

export interface NeighbourSolicitationFields extends EthernetFields {
  readonly senderMac: MacAddress;
  /** Omitted: duplicate address detection, from the unspecified address without a source option. */
  readonly senderIp?: IpAddress;
  readonly targetIp: IpAddress;
}

/** Sent to the solicited-node group of the target (RFC 4861 4.3). */
export function buildNeighbourSolicitation(fields: NeighbourSolicitationFields): Buffer {
  const sender = mac(fields.senderMac);
  const target = ip(fields.targetIp, 16);
  const group = Buffer.from('ff0200000000000000000001ff000000', 'hex');
  group.set(target.subarray(13), 13);
  const option =
    fields.senderIp === undefined ? Buffer.alloc(0) : linkLayerOption(SOURCE_LINK_LAYER_ADDRESS, sender);
  return buildIcmp({
    sourceMac: sender,
    destinationMac: multicastMac(group),
    ...fields,
    source: fields.senderIp === undefined ? UNSPECIFIED : ip(fields.senderIp, 16),
    destination: group,
    ttl: HOP_LIMIT,
    type: Icmpv6Type.NEIGHBOUR_SOLICITATION,
    payload: Buffer.concat([target, option]),
  });
}

export interface NeighbourAdvertisementFields extends EthernetFields {
  readonly ownMac: MacAddress;
  /** The address advertised, and the source unless `sourceIp` says otherwise. */
  readonly ownIp: IpAddress;
  readonly sourceIp?: IpAddress;
  /** An answer to one neighbour (with its MAC as destinationMac). Omitted: unsolicited, to all nodes. */
  readonly solicitor?: IpAddress;
}

/** "This IPv6 address is mine", to all nodes. */
export function buildUnsolicitedNa(ownMac: MacAddress, ownIp: IpAddress, vlan = 0): Buffer {
  return buildNeighbourAdvertisement({ ownMac, ownIp, vlans: vlanTags(vlan) });
}

/** With the override flag, so that caches change (RFC 4861 4.4, 7.2.6). */
export function buildNeighbourAdvertisement(fields: NeighbourAdvertisementFields): Buffer {
  const own = mac(fields.ownMac);
  const target = ip(fields.ownIp, 16);
  const destination = fields.solicitor === undefined ? ALL_NODES : ip(fields.solicitor, 16);
  return buildIcmp({
    sourceMac: own,
    destinationMac: multicastMac(ALL_NODES),
    ...fields,
    source: fields.sourceIp === undefined ? target : ip(fields.sourceIp, 16),
    destination,
    ttl: HOP_LIMIT,
    type: Icmpv6Type.NEIGHBOUR_ADVERTISEMENT,
    rest: fields.solicitor === undefined ? OVERRIDE : SOLICITED + OVERRIDE,
    payload: Buffer.concat([target, linkLayerOption(TARGET_LINK_LAYER_ADDRESS, own)]),
  });
}
