/** What a recording suggests: the sources of divergence, by the checkpoints that each alone has cost. */
import type { ReplayDivergence } from './replay.js';

export interface Proposal {
  /** `udp 53, DNS id`: protocol and guest port, and the field where a decoder knows it. */
  readonly source: string;
  readonly divergences: number;
  /** Epochs in which nothing else diverged: those checkpoints would not have been asked for. */
  readonly checkpointsSaved: number;
  /** What clients would no longer be sure of. */
  readonly givesUp: string;
  readonly example: ReplayDivergence;
  /** What a person would add to the configuration, with a `why` of their own. */
  readonly rule: string;
  /** What a decoder would go by, where none knows bytes that differ; null where there is nothing to decode. */
  readonly decoder: string | null;
}

export function proposals(divergences: readonly ReplayDivergence[]): Proposal[] {
  const bySource = new Map<string, ReplayDivergence[]>();
  const sourcesOfEpoch = new Map<number, Set<string>>();
  for (const one of divergences) {
    const source = sourceOf(one);
    const some = bySource.get(source);
    if (some === undefined) bySource.set(source, [one]);
    else some.push(one);
    sourcesOfEpoch.set(one.epoch, (sourcesOfEpoch.get(one.epoch) ?? new Set()).add(source));
  }
  const aloneIn = (source: string): number =>
    [...sourcesOfEpoch.values()].filter((sources) => sources.size === 1 && sources.has(source)).length;
  return [...bySource.entries()]
    .map(([source, all]) => ({
      source,
      divergences: all.length,
      checkpointsSaved: aloneIn(source),
      givesUp: givesUp(all[0]!),
      example: all[0]!,
      rule: ruleOf(all[0]!),
      decoder: decoderOf(all),
    }))
    .sort((a, b) => b.checkpointsSaved - a.checkpointsSaved || b.divergences - a.divergences);
}

function sourceOf({ flow, field }: ReplayDivergence): string {
  const { protocol, port } = guestEnd(flow);
  const service = port === '' ? protocol : `${protocol} ${port}`;
  return field === undefined ? service : `${service}, ${field}`;
}

/** Of `tcp 10.0.0.2:80 > ...`: what the guest serves. */
function guestEnd(flow: string): { protocol: string; port: string } {
  const [protocol = '', guest = ''] = flow.split(' ');
  return { protocol, port: /:(\d+)$/.exec(guest)?.[1] ?? '' };
}

/** A rule that concerns the whole service: a field alone cannot be waived. */
function ruleOf({ flow }: ReplayDivergence): string {
  const { protocol, port } = guestEnd(flow);
  const known = /^(tcp|udp|icmp|icmpv6)$/.test(protocol) ? protocol : 'any';
  const ports = port === '' ? '' : `, guestPort: ${port}`;
  return `{ action: waive, protocol: ${known}${ports}, why: '...' }`;
}

/** Two cases may agree by chance. */
const DECODER_CASES_MIN = 3;

/** Bytes that differ between the VMs and that no decoder knows: what is the same about where they stand. */
function decoderOf(all: readonly ReplayDivergence[]): string | null {
  const unknown = all.filter(({ reason, field }) => reason === 'payload' && field === undefined);
  if (unknown.length < DECODER_CASES_MIN) return null;
  const signs: string[] = [];
  const before = unknown.map((one) => one.before).reduce(commonEnd);
  if (before !== '') signs.push(`behind ${shown(before)}`);
  const [{ flow, offset }] = unknown as [ReplayDivergence];
  if (!flow.startsWith('tcp ') && unknown.every((one) => one.offset === offset)) {
    signs.push(`at byte ${offset} of the datagram`);
  }
  const where = signs.length === 0 ? 'at no place in common, as if all were encrypted' : signs.join(', ');
  return `no decoder knows the bytes that differ; in each of ${unknown.length} cases they stand ${where}`;
}

/** Of two strings of hexadecimal bytes. */
function commonEnd(one: string, other: string): string {
  const digitsMax = Math.min(one.length, other.length);
  let digits = 0;
  while (digits < digitsMax && one.endsWith(other.slice(-digits - 2))) digits += 2;
  return digits === 0 ? '' : one.slice(-digits);
}

function shown(hex: string): string {
  const text = Buffer.from(hex, 'hex').toString('latin1');
  return /^[\x20-\x7e]+$/.test(text) ? JSON.stringify(text) : hex;
}

function givesUp({ flow }: ReplayDivergence): string {
  if (flow.startsWith('tcp ')) {
    return 'after a failover in this place the connection goes on with bytes that do not follow on from what its client has: it breaks or its data is wrong';
  }
  return 'after a failover a client may have an answer that the survivor has never given; right for protocols whose clients ask again';
}
