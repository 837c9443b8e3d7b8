/**
 * Rules: exceptions from comparing that an operator has written down, each with a reason. The first that fits a flow
 * decides, once for the flow's life. Without one a flow is compared.
 *
 * | action | what becomes of the primary's frames | the secondary's |
 * |---|---|---|
 * | compare | compared, whatever later rules say | compared |
 * | waive | leave at once, unprotected, counted by rule | thrown away |
 * | checkpoint | wait for a checkpoint, asked for at once instead of after a comparison that never agrees | kept |
 */
import type { RuleConfig } from '../config/rule-schema.js';
import { parseIpAddress } from '../wire/addresses.js';
import { icmpTypeOfKey } from '../wire/flow-key.js';
import { EtherType, IpProtocol } from '../wire/numbers.js';
import { addressWords, PROTOCOL_NUMBERS, parseVlan } from './flow-facts.js';

export type RuleAction = RuleConfig['action'];

/** Which side spoke first. Of a TCP connection that was picked up in mid-stream nobody knows. */
export const Opener = { UNKNOWN: 0, GUEST: 1, CLIENT: 2 } as const;
export type Opener = (typeof Opener)[keyof typeof Opener];

/** No rule fits. */
export const NO_RULE = -1;
const ANY = -1;

interface Prefix {
  /** 4 or 6. */
  readonly version: number;
  readonly words: Int32Array;
  readonly masks: Int32Array;
}

interface Ports {
  readonly from: number;
  readonly to: number;
}

export interface Rule {
  readonly why: string;
  readonly action: RuleAction;
  readonly protocol: number;
  readonly guest: Prefix | null;
  readonly client: Prefix | null;
  readonly guestPorts: Ports | null;
  readonly clientPorts: Ports | null;
  readonly icmpType: number;
  /** ANY: IP of any version, and nothing else. */
  readonly etherType: number;
  readonly vlan: number;
  readonly openedBy: Opener;
}

/** What is wrong with one key of a rule. */
export class RuleError extends Error {
  readonly key: string;

  constructor(key: string, what: string) {
    super(what);
    this.key = key;
  }
}

export class RuleSet {
  readonly rules: readonly Rule[];
  /** What they were made from. */
  readonly configs: readonly RuleConfig[];
  /** Does any rule ask who opened a flow? */
  readonly usesOpener: boolean;

  constructor(rules: readonly Rule[], configs: readonly RuleConfig[]) {
    this.rules = rules;
    this.configs = configs;
    this.usesOpener = rules.some((rule) => rule.openedBy !== Opener.UNKNOWN);
  }

  /** Index of the first rule that fits the flow of this key (wire/flow-key.ts), or NO_RULE. */
  find(key: Int32Array, opener: Opener): number {
    return this.rules.findIndex((rule) => fits(rule, key, opener));
  }
}

/** No rules: everything is compared. */
export const NO_RULES = new RuleSet([], []);

/** Throws RuleError. */
export function compileRule(config: RuleConfig): Rule {
  const { why, action, protocol, openedBy } = config;
  const number =
    protocol === 'any' ? ANY : typeof protocol === 'number' ? protocol : PROTOCOL_NUMBERS[protocol]!;
  const hasPorts = number === IpProtocol.TCP || number === IpProtocol.UDP;
  for (const key of ['guestPort', 'clientPort'] as const) {
    if (config[key] !== undefined && !hasPorts) throw new RuleError(key, 'needs protocol tcp or udp');
  }
  if (config.icmpType !== undefined && number !== IpProtocol.ICMP && number !== IpProtocol.ICMPV6) {
    throw new RuleError('icmpType', 'needs protocol icmp or icmpv6');
  }
  checkEtherType(config);
  const guest = compilePrefix('guest', config.guest);
  const client = compilePrefix('client', config.client);
  if (guest !== null && client !== null && guest.version !== client.version) {
    throw new RuleError('client', 'is of another IP version than guest: no flow fits');
  }
  const vlan = config.vlan === undefined ? ANY : parseVlan(`${config.vlan}`);
  if (vlan === undefined) throw new RuleError('vlan', 'has an id above 4094');
  return {
    why,
    action,
    protocol: number,
    guest,
    client,
    guestPorts: compilePorts('guestPort', config.guestPort),
    clientPorts: compilePorts('clientPort', config.clientPort),
    icmpType: config.icmpType ?? ANY,
    etherType: config.etherType ?? ANY,
    vlan,
    openedBy: openedBy === undefined ? Opener.UNKNOWN : openedBy === 'guest' ? Opener.GUEST : Opener.CLIENT,
  };
}

export function compileRules(configs: readonly RuleConfig[]): RuleSet {
  return new RuleSet(configs.map(compileRule), configs);
}

/** Those of which no rule decides: they are IP, a tag, or leave at once as link control. */
const SETTLED_ETHER_TYPES: ReadonlySet<number> = new Set(Object.values(EtherType));

function checkEtherType({ etherType, protocol, guest, client }: RuleConfig): void {
  if (etherType === undefined) return;
  if (protocol !== 'any') throw new RuleError('etherType', 'needs protocol any: what is not IP has none');
  if (guest !== undefined) throw new RuleError('guest', 'fits no frame of an EtherType: it is not IP');
  if (client !== undefined) throw new RuleError('client', 'fits no frame of an EtherType: it is not IP');
  if (SETTLED_ETHER_TYPES.has(etherType)) {
    throw new RuleError('etherType', 'is IP, a VLAN tag, or link control, which leaves without a rule');
  }
}

function compilePrefix(key: string, text: string | undefined): Prefix | null {
  if (text === undefined) return null;
  const [host, lengthText] = text.split('/');
  const address = parseIpAddress(host!);
  if (address === undefined) throw new RuleError(key, 'is no IP address');
  const bits = address.length * 8;
  const length = lengthText === undefined ? bits : Number(lengthText);
  if (length > bits) throw new RuleError(key, `has a prefix longer than ${bits} bits`);
  const words = addressWords(address);
  const masks = new Int32Array(4);
  for (let word = 0; word < 4; word++) {
    const left = Math.min(32, Math.max(0, length - word * 32));
    masks[word] = left === 0 ? 0 : -1 << (32 - left);
    if ((words[word]! & ~masks[word]!) !== 0) throw new RuleError(key, 'has bits set beyond its prefix');
  }
  return { version: address.length === 4 ? 4 : 6, words, masks };
}

function compilePorts(key: string, value: number | string | undefined): Ports | null {
  if (value === undefined) return null;
  const [from, to] = typeof value === 'number' ? [value, value] : value.split('-').map(Number);
  if (from! < 1 || to! > 65_535 || from! > to!)
    throw new RuleError(key, 'is no range of ports from 1 to 65535');
  return { from: from!, to: to! };
}

function fits(rule: Rule, key: Int32Array, opener: Opener): boolean {
  if (rule.protocol !== ANY && rule.protocol !== (key[0]! & 0xff)) return false;
  if (rule.vlan !== ANY && rule.vlan !== key[0]! >>> 8) return false;
  if (rule.openedBy !== Opener.UNKNOWN && rule.openedBy !== opener) return false;
  // fragments have no ports: a rule that asks for some does not let them go
  if (!holdsPort(rule.guestPorts, key[1]! >>> 16) || !holdsPort(rule.clientPorts, key[1]! & 0xffff))
    return false;
  if (rule.icmpType !== ANY && rule.icmpType !== icmpTypeOfKey(key)) return false;
  const version = key[2]! & 0xff;
  if (rule.etherType === ANY ? version === 0 : version !== 0 || rule.etherType !== key[1]) return false;
  return holdsAddress(rule.guest, version, key, 3) && holdsAddress(rule.client, version, key, 7);
}

function holdsPort(ports: Ports | null, port: number): boolean {
  return ports === null || (port >= ports.from && port <= ports.to);
}

function holdsAddress(prefix: Prefix | null, version: number, key: Int32Array, at: number): boolean {
  if (prefix === null) return true;
  if (prefix.version !== version) return false;
  for (let word = 0; word < 4; word++) {
    if (((key[at + word]! ^ prefix.words[word]!) & prefix.masks[word]!) !== 0) return false;
  }
  return true;
}
