import { DIVERGENCE_REASONS, RELEASE_REASONS } from '../compare/verdict.js';
import { Histogram } from '../system/histogram.js';

/** Why frames were thrown away on purpose. Never silent: each has a counter. */
export const DROP_REASONS = [
  'gate-full', // the client buffer of a closed gate was full
  'loop', // a client frame with the guest's own source MAC: a loop, or a twin that leaked
  'broadcast-limit', // over the broadcast and multicast rate limit
  'malformed', // shorter than an Ethernet header
  'secondary-control', // ARP, ND and the like of the secondary: the primary speaks for both
  'parked-full', // the secondary's next epoch had begun, and the place where its output waits was full
  'held-full', // the primary's output that could neither leave nor be held: a limit was reached
  'primary-uncovered', // the primary's held output when it died: no checkpoint covers it
  'void', // from a VM that does not carry the traffic
  'fenced', // without the arbiter's mandate nothing passes, either way
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

const RELEASE_LATENCY_BOUNDS_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];

function zeros<K extends string>(keys: readonly K[]): Record<K, number> {
  return Object.fromEntries(keys.map((key) => [key, 0])) as Record<K, number>;
}

/** Plain numbers of the per-frame path, read at scrape time. */
export class DataPlaneCounters {
  readonly framesReleased = zeros(RELEASE_REASONS);
  readonly bytesReleased = zeros(RELEASE_REASONS);
  readonly drops = zeros(DROP_REASONS);
  readonly divergences = zeros(DIVERGENCE_REASONS);
  /** How long released frames were held by the comparator. */
  readonly releaseLatency = new Histogram(RELEASE_LATENCY_BOUNDS_MS);
  /** Client frames the carrying VM's link, or the client link, refused. */
  readonly undelivered = { client: 0, primary: 0, secondary: 0 };
  neighbourAnswers = 0;
}
