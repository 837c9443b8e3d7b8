/** The flows that have most bytes waiting, then those that spoke last: for people, on demand. */
import type { FlowTable } from '../flow/flow-table.js';
import { formatIp, formatVlan } from '../wire/addresses.js';
import { FLOW_KEY_WORDS, icmpTypeOfKey } from '../wire/flow-key.js';
import { IpProtocol } from '../wire/numbers.js';

export interface TopFlow {
  /** `tcp 10.0.0.2:80 > 10.0.0.1:40000`: from the guest to the client. */
  readonly flow: string;
  readonly heldBytes: number;
  /** Since its last frame. */
  readonly idleMs: number;
}

const PROTOCOLS: Readonly<Record<number, string>> = {
  [IpProtocol.TCP]: 'tcp',
  [IpProtocol.UDP]: 'udp',
  1: 'icmp',
  58: 'icmpv6',
};

export function topFlows(flows: FlowTable, nowMs: number, countMax: number): TopFlow[] {
  const { state } = flows;
  const slots: number[] = [];
  for (let slot = flows.next(-1); slot !== -1; slot = flows.next(slot)) slots.push(slot);
  slots.sort(
    (a, b) => state.heldBytes[b]! - state.heldBytes[a]! || state.touchedAtMs(b) - state.touchedAtMs(a),
  );
  return slots.slice(0, countMax).map((slot) => ({
    flow: flowKeyText(flows.keyOf(slot)),
    heldBytes: state.heldBytes[slot]!,
    idleMs: Math.max(0, nowMs - state.touchedAtMs(slot)),
  }));
}

/** The words of wire/flow-key.ts as text. */
function flowKeyText(key: Int32Array): string {
  const words = Buffer.alloc(FLOW_KEY_WORDS * 4);
  for (const [index, word] of key.entries()) words.writeInt32BE(word, index * 4);
  const vlan = key[0]! >>> 8;
  const tag = vlan === 0 ? '' : ` vlan ${formatVlan(vlan)}`;
  const protocol = key[0]! & 0xff;
  const version = key[2]! & 0xff;
  const end = (addressWord: number, port: number): string => {
    const ip = formatIp(words, addressWord * 4, version);
    if (protocol !== IpProtocol.TCP && protocol !== IpProtocol.UDP) return ip;
    return `${version === 6 ? `[${ip}]` : ip}:${port}`;
  };
  if (version === 0) return `ethernet 0x${key[1]!.toString(16).padStart(4, '0')}${tag}`;
  const icmpType = icmpTypeOfKey(key);
  const type = icmpType === -1 ? '' : ` type ${icmpType}`;
  const name = PROTOCOLS[protocol] ?? `ip-protocol-${protocol}`;
  return `${name} ${end(3, key[1]! >>> 16)} > ${end(7, key[1]! & 0xffff)}${type}${tag}`;
}
