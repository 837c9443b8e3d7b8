/** Addresses as text and back. For people and configs: never on the per-frame path. */
import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';

/** `52:54:00:12:34:56` from the 6 bytes at `at`. */
export function formatMac(bytes: Uint8Array, at = 0): string {
  let text = '';
  for (let index = 0; index < 6; index++) {
    text += (index === 0 ? '' : ':') + bytes[at + index]!.toString(16).padStart(2, '0');
  }
  return text;
}

export function formatIpv4(bytes: Uint8Array, at = 0): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first of equals) as `::`. */
export function formatIpv6(bytes: Uint8Array, at = 0): string {
  let runStart = -1;
  let runLength = 1;
  for (let group = 0; group < 8; group++) {
    let length = 0;
    while (group + length < 8 && readU16(bytes, at + 2 * (group + length)) === 0) length++;
    if (length > runLength) {
      runStart = group;
      runLength = length;
    }
    if (length > 0) group += length - 1;
  }
  const part = (from: number, to: number): string => {
    const groups: string[] = [];
    for (let group = from; group < to; group++) groups.push(readU16(bytes, at + 2 * group).toString(16));
    return groups.join(':');
  };
  if (runStart < 0) return part(0, 8);
  return `${part(0, runStart)}::${part(runStart + runLength, 8)}`;
}

/** An IP address of `version` 4 or 6 at `at`. */
export function formatIp(bytes: Uint8Array, at: number, version: number): string {
  return version === 4 ? formatIpv4(bytes, at) : formatIpv6(bytes, at);
}

/** 6 bytes, or undefined when the text is no MAC address. */
export function parseMac(text: string): Buffer | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)
    ? Buffer.from(text.replaceAll(':', ''), 'hex')
    : undefined;
}

/** 4 bytes, or undefined. Decimal without leading zeros, as inet_pton has it. */
function parseIpv4Address(text: string): Buffer | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = Buffer.alloc(4);
  for (let index = 0; index < 4; index++) {
    const part = parts[index]!;
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes[index] = Number(part);
  }
  return bytes;
}

/** 16 bytes, or undefined (RFC 4291 2.2, without zone). */
export function parseIpv6Address(text: string): Buffer | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return Buffer.from([...head, ...new Array<number>(missing).fill(0), ...tail]);
}

/** Bytes of colon-separated groups, the last of which may be dotted decimal when `isTail`. */
function parseGroups(text: string, isTail: boolean): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const groups = text.split(':');
  for (let index = 0; index < groups.length; index++) {
    const group = groups[index]!;
    if (isTail && index === groups.length - 1 && group.includes('.')) {
      const ipv4 = parseIpv4Address(group);
      if (ipv4 === undefined) return undefined;
      bytes.push(...ipv4);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
      const value = Number.parseInt(group, 16);
      bytes.push(value >>> 8, value & 0xff);
    }
  }
  return bytes.length <= 16 ? bytes : undefined;
}

/** 4 or 16 bytes, or undefined. */
export function parseIpAddress(text: string): Buffer | undefined {
  return text.includes(':') ? parseIpv6Address(text) : parseIpv4Address(text);
}

/** `5`, or `3.5` for QinQ, from FrameView.vlan. */
export function formatVlan(vlan: number): string {
  return vlan < 4096 ? `${vlan}` : `${Math.floor(vlan / 4096)}.${vlan % 4096}`;
}

const KIND_NAMES: Readonly<Record<number, string>> = {
  [FrameKind.MALFORMED]: 'malformed',
  [FrameKind.TCP]: 'tcp',
  [FrameKind.UDP]: 'udp',
  [FrameKind.ICMP]: 'icmp',
  [FrameKind.ICMPV6]: 'icmpv6',
  [FrameKind.FRAGMENT]: 'fragment',
  [FrameKind.IP_OTHER]: 'ip',
  [FrameKind.ARP]: 'arp',
  [FrameKind.ND]: 'nd',
  [FrameKind.GROUP_MEMBERSHIP]: 'group-membership',
  [FrameKind.LINK_CONTROL]: 'link-control',
  [FrameKind.OTHER]: 'ethernet',
};

/**
 * A frame's flow for people, always from the guest to the client: `tcp 10.0.0.2:80 > 10.0.0.1:40000 vlan 5`,
 * `udp [fd00::2]:53 > [fd00::1]:4000`, `icmp 10.0.0.2 > 10.0.0.1 id 7`, `ip/47 10.0.0.2 > 10.0.0.1`.
 */
export function flowText(view: FrameView, fromClient: boolean): string {
  const suffix = view.vlan === 0 ? '' : ` vlan ${formatVlan(view.vlan)}`;
  const name = KIND_NAMES[view.kind]!;
  if (view.ipVersion === 0) {
    if (view.network === 0) return name;
    return `${name} 0x${view.etherType.toString(16).padStart(4, '0')}${suffix}`;
  }
  const { bytes, l3, ipVersion } = view;
  const sourceAt = ipVersion === 4 ? l3 + 12 : l3 + 8;
  const destinationAt = ipVersion === 4 ? l3 + 16 : l3 + 24;
  const source = formatIp(bytes, sourceAt, ipVersion);
  const destination = formatIp(bytes, destinationAt, ipVersion);
  const hasPorts = view.kind === FrameKind.TCP || view.kind === FrameKind.UDP;
  const from = hasPorts ? withPort(source, view.sourcePort) : source;
  const to = hasPorts ? withPort(destination, view.destinationPort) : destination;
  const protocol =
    view.kind === FrameKind.IP_OTHER || view.kind === FrameKind.FRAGMENT
      ? `${name}/${view.ipProtocol}`
      : name;
  const identifier = view.icmpType >= 0 && view.sourcePort !== 0 ? ` id ${view.sourcePort}` : '';
  return `${protocol} ${fromClient ? to : from} > ${fromClient ? from : to}${identifier}${suffix}`;
}

function withPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
