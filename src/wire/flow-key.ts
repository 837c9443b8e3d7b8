/**
 * The key of a flow, oriented from the guest to the client whichever way the frame goes: VLAN, protocol, ports and
 * addresses as 32-bit words. Of a frame without an IP header all there is is its EtherType.
 *
 * | word | holds |
 * |---|---|
 * | 0 | VLAN (24 bits, traps T21) and IP protocol (8 bits) |
 * | 1 | guest port, client port; of an ICMP echo its identifier in both; EtherType of what is not IP, 0 for a length |
 * | 2 | IP version, whether it is a fragment (which has no ports), and ICMP type + 1, of an echo as the guest sends it |
 * | 3 to 6 | guest address; IPv4 in word 3 alone |
 * | 7 to 10 | client address; IPv4 in word 7 alone |
 */
import { readS32 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { ETHER_TYPE_MIN, Icmpv4Type, Icmpv6Type } from './numbers.js';

export const FLOW_KEY_WORDS = 11;

const GUEST_ADDRESS = 3;
const CLIENT_ADDRESS = 7;
const FRAGMENT_MARK = 0x100;
const ICMP_TYPE_SHIFT = 16;

/** Writes the key at `target[at ...]`; returns FLOW_KEY_WORDS. */
export function writeFlowKey(view: FrameView, fromClient: boolean, target: Int32Array, at: number): number {
  const { bytes, l3 } = view;
  target[at] = (view.vlan << 8) | (view.ipProtocol & 0xff);
  target[at + 1] = flowKeyPorts(view, fromClient);
  const mark = view.kind === FrameKind.FRAGMENT ? FRAGMENT_MARK : 0;
  const icmpType = fromClient && view.icmpType >= 0 ? answeredType(view) : view.icmpType;
  target[at + 2] = view.ipVersion | mark | ((icmpType + 1) << ICMP_TYPE_SHIFT);
  const source = at + (fromClient ? CLIENT_ADDRESS : GUEST_ADDRESS);
  const destination = at + (fromClient ? GUEST_ADDRESS : CLIENT_ADDRESS);
  if (view.ipVersion === 6) {
    for (let word = 0; word < 4; word++) {
      target[source + word] = readS32(bytes, l3 + 8 + 4 * word);
      target[destination + word] = readS32(bytes, l3 + 24 + 4 * word);
    }
    return FLOW_KEY_WORDS;
  }
  const isIpv4 = view.ipVersion === 4;
  if (!isIpv4) target[at + 1] = view.etherType < ETHER_TYPE_MIN ? 0 : view.etherType;
  target[source] = isIpv4 ? readS32(bytes, l3 + 12) : 0;
  target[destination] = isIpv4 ? readS32(bytes, l3 + 16) : 0;
  // stores: a call of fill() costs more than all the rest of this
  for (let word = 1; word < 4; word++) {
    target[source + word] = 0;
    target[destination + word] = 0;
  }
  return FLOW_KEY_WORDS;
}

/** The type of the guest's message that a client's one asks for or answers. */
function answeredType(view: FrameView): number {
  const { ECHO, ECHO_REPLY } = view.ipVersion === 4 ? Icmpv4Type : Icmpv6Type;
  if (view.icmpType === ECHO) return ECHO_REPLY;
  return view.icmpType === ECHO_REPLY ? ECHO : view.icmpType;
}

/** Of a key: ICMP or ICMPv6 type, -1 for another protocol and for fragments. */
export function icmpTypeOfKey(key: Int32Array): number {
  return (key[2]! >>> ICMP_TYPE_SHIFT) - 1;
}

/** Makes the key one of ICMP messages of that type. */
export function setIcmpTypeOfKey(key: Int32Array, icmpType: number): void {
  key[2] = key[2]! | ((icmpType + 1) << ICMP_TYPE_SHIFT);
}

export function isFragmentKey(key: Int32Array, at: number): boolean {
  return (key[at + 2]! & FRAGMENT_MARK) !== 0;
}

/** Word 1 of the key. */
export function flowKeyPorts(view: FrameView, fromClient: boolean): number {
  return fromClient
    ? (view.destinationPort << 16) | view.sourcePort
    : (view.sourcePort << 16) | view.destinationPort;
}

/** Is the key at `key[at ...]` that of a frame of TCP or UDP over IPv4, whose word 1 is `ports`? */
export function plainFlowKeyEquals(
  view: FrameView,
  fromClient: boolean,
  ports: number,
  key: Int32Array,
  at: number,
): boolean {
  return (
    key[at + 1] === ports &&
    key[at] === ((view.vlan << 8) | (view.ipProtocol & 0xff)) &&
    key[at + 2] === 4 &&
    key[at + (fromClient ? CLIENT_ADDRESS : GUEST_ADDRESS)] === readS32(view.bytes, view.l3 + 12) &&
    key[at + (fromClient ? GUEST_ADDRESS : CLIENT_ADDRESS)] === readS32(view.bytes, view.l3 + 16)
  );
}

export function flowKeyEquals(a: Int32Array, aAt: number, b: Int32Array, bAt: number): boolean {
  for (let word = 0; word < FLOW_KEY_WORDS; word++) {
    if (a[aAt + word] !== b[bAt + word]) return false;
  }
  return true;
}

/**
 * Unsigned 32-bit hash of a key: HalfSipHash-1-3, keyed by `seed`, so that a client that picks its ports and addresses
 * cannot make flows collide.
 */
export function hashFlowKey(key: Int32Array, at: number, seed: number): number {
  const isIpv6 = (key[at + 2]! & 0xff) === 6;
  const words = isIpv6 ? FLOW_KEY_WORDS : CLIENT_ADDRESS + 1;
  // 64 bits of key from 32 of seed
  const high = Math.imul(seed ^ (seed >>> 16), 0x9e3779b1);
  let v0 = seed | 0;
  let v1 = high;
  let v2 = 0x6c796765 ^ seed;
  let v3 = 0x74656462 ^ high;
  // one round a word, then three more with nothing
  for (let index = 0; index < words + 3; index++) {
    const word = index < words ? key[at + index]! : 0;
    if (index === words) v2 ^= 0xff;
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}
