/** A flow told by a person, as the key that frames of it would have. */
import { parseIpAddress } from '../wire/addresses.js';
import { FLOW_KEY_WORDS, setIcmpTypeOfKey } from '../wire/flow-key.js';
import { IpProtocol } from '../wire/numbers.js';

/** Protocol numbers by the names that rules use (IANA). */
export const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = {
  tcp: IpProtocol.TCP,
  udp: IpProtocol.UDP,
  icmp: IpProtocol.ICMP,
  icmpv6: IpProtocol.ICMPV6,
  gre: 47,
  esp: 50,
  ah: 51,
  sctp: 132,
};

const FLOW_TEXT =
  /^(?<protocol>[a-z0-9]+|ip\/\d{1,3}) (?<guest>\S+) > (?<client>\S+?)( type (?<type>\d{1,3}))?( vlan (?<vlan>\d{1,4}(\.\d{1,4})?))?$/;
const ETHERNET_TEXT = /^ethernet 0x(?<etherType>[0-9a-f]{4})( vlan (?<vlan>\d{1,4}(\.\d{1,4})?))?$/;

/** `5` or `3.5` as FrameView.vlan has it; undefined when an id is out of range. */
export function parseVlan(text: string): number | undefined {
  const ids = text.split('.').map(Number);
  if (ids.some((id) => !Number.isInteger(id) || id > 4094)) return undefined;
  return ids.length === 2 ? ids[0]! * 4096 + ids[1]! : ids[0]!;
}

/** The 4 words of an address in a flow key; IPv4 in the first alone. */
export function addressWords(address: Buffer): Int32Array {
  const words = new Int32Array(4);
  for (let word = 0; word * 4 < address.length; word++) words[word] = address.readInt32BE(word * 4);
  return words;
}

/**
 * The key (wire/flow-key.ts) of a flow told as `tcp 10.0.0.2:80 > 10.0.0.1:40000 vlan 5`, `icmp 10.0.0.2 > 10.0.0.1 type 3`
 * or `ethernet 0x88f7`; undefined when it tells none.
 */
export function flowKeyOfText(text: string): Int32Array | undefined {
  return ethernetKey(ETHERNET_TEXT.exec(text)?.groups) ?? ipKey(text);
}

function ethernetKey(groups: Record<string, string> | undefined): Int32Array | undefined {
  const vlan = parseVlan(groups?.vlan ?? '0');
  if (groups === undefined || vlan === undefined) return undefined;
  const key = new Int32Array(FLOW_KEY_WORDS);
  key[0] = (vlan << 8) | 0xff;
  key[1] = Number.parseInt(groups.etherType!, 16);
  return key;
}

function ipKey(text: string): Int32Array | undefined {
  const groups = FLOW_TEXT.exec(text)?.groups;
  if (groups === undefined) return undefined;
  const name = groups.protocol!;
  const protocol = name.startsWith('ip/') ? Number(name.slice(3)) : PROTOCOL_NUMBERS[name];
  const vlan = parseVlan(groups.vlan ?? '0');
  if (protocol === undefined || protocol > 255 || vlan === undefined) return undefined;
  const hasPorts = protocol === IpProtocol.TCP || protocol === IpProtocol.UDP;
  const icmpType = groups.type === undefined ? -1 : Number(groups.type);
  const hasType = protocol === IpProtocol.ICMP || protocol === IpProtocol.ICMPV6;
  if (icmpType > 255 || (icmpType !== -1 && !hasType)) return undefined;
  const guest = parseEnd(groups.guest!, hasPorts);
  const client = parseEnd(groups.client!, hasPorts);
  if (guest === undefined || client === undefined || guest.address.length !== client.address.length) {
    return undefined;
  }
  const key = new Int32Array(FLOW_KEY_WORDS);
  key[0] = (vlan << 8) | protocol;
  key[1] = (guest.port << 16) | client.port;
  key[2] = guest.address.length === 4 ? 4 : 6;
  setIcmpTypeOfKey(key, icmpType);
  key.set(addressWords(guest.address), 3);
  key.set(addressWords(client.address), 7);
  return key;
}

/** `10.0.0.2:80`, `[fd00::2]:80`, and without port where the protocol has none. */
function parseEnd(text: string, hasPort: boolean): { address: Buffer; port: number } | undefined {
  const match = hasPort
    ? /^(?:\[(.+)\]|([^[\]:]+)):(\d{1,5})$/.exec(text)
    : /^(?:\[(.+)\]|([^[\]]+))$/.exec(text);
  const address = parseIpAddress(match?.[1] ?? match?.[2] ?? '');
  const port = Number(match?.[3] ?? 0);
  return address === undefined || port > 65_535 ? undefined : { address, port };
}
