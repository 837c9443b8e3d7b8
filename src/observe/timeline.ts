/** The last minutes of a pair, sampled once a second, and what changed: so that a page just opened has a past. */
import type { PairStatus } from '../pair/status.js';

export interface TimelineSample {
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  /** Totals since the start, to be subtracted from one another. */
  readonly bytesReleased: number;
  readonly bytesFromClients: number;
  readonly divergences: number;
  readonly waivedBytes: number;
  readonly checkpoints: Readonly<Record<string, number>>;
  readonly pauseMsSum: number;
  /** As they were at that moment. */
  readonly heldBytes: number;
  readonly gateBytes: number;
}

export interface TimelineEvent {
  readonly wallMs: number;
  readonly kind: 'state' | 'carrier' | 'failover' | 'checkpoint-failed' | 'link';
  readonly text: string;
}

const SAMPLES_MAX = 900;
const EVENTS_MAX = 200;

export class Timeline {
  readonly samples: TimelineSample[] = [];
  readonly events: TimelineEvent[] = [];
  #before: Remembered | null = null;

  /** Takes a sample; to be called once a second. */
  take(status: PairStatus, wallMs: number): TimelineSample {
    const sample = sampleOf(status, wallMs);
    push(this.samples, sample, SAMPLES_MAX);
    const now = remember(status);
    if (this.#before === null)
      this.#note(wallMs, 'state', `${now.state}, the ${now.carrier} carries the traffic`);
    else this.#compare(this.#before, now, wallMs);
    this.#before = now;
    return sample;
  }

  #compare(before: Remembered, now: Remembered, wallMs: number): void {
    if (before.state !== now.state) this.#note(wallMs, 'state', `${before.state} → ${now.state}`);
    if (before.carrier !== now.carrier) {
      this.#note(wallMs, 'carrier', `the ${now.carrier} carries the traffic (before: ${before.carrier})`);
    }
    for (const [kind, count] of Object.entries(now.failovers)) {
      if (count > (before.failovers[kind] ?? 0)) this.#note(wallMs, 'failover', kind.replace('-', ' '));
    }
    if (now.checkpointsFailed > before.checkpointsFailed) {
      this.#note(wallMs, 'checkpoint-failed', `${now.checkpointsFailed - before.checkpointsFailed} given up`);
    }
    for (const [side, state] of Object.entries(now.links)) {
      if (state !== before.links[side]) this.#note(wallMs, 'link', `${side} link ${state}`);
    }
  }

  #note(wallMs: number, kind: TimelineEvent['kind'], text: string): void {
    push(this.events, { wallMs, kind, text }, EVENTS_MAX);
  }
}

/** Counters and histograms in a status are live objects: what is compared later is copied. */
interface Remembered {
  readonly state: string;
  readonly carrier: string;
  readonly failovers: Readonly<Record<string, number>>;
  readonly checkpointsFailed: number;
  readonly links: Readonly<Record<string, string>>;
}

function remember(status: PairStatus): Remembered {
  return {
    // a checkpoint is a matter of milliseconds and has a chart of its own
    state: status.state === 'checkpointing' ? 'protected' : status.state,
    carrier: status.carrier,
    failovers: { ...status.failovers },
    checkpointsFailed: status.checkpointsFailed,
    links: Object.fromEntries(status.links.map(({ side, state }) => [side, state])),
  };
}

function sampleOf(status: PairStatus, wallMs: number): TimelineSample {
  return {
    wallMs,
    bytesReleased: sum(status.bytesReleased),
    bytesFromClients: status.links.find(({ side }) => side === 'client')?.counters.bytesReceived ?? 0,
    divergences: sum(status.divergences),
    waivedBytes: status.bytesReleased.waived,
    checkpoints: { ...status.checkpoints },
    pauseMsSum: status.pause.sumMs,
    heldBytes: status.heldBytes,
    gateBytes: status.gateBytes,
  };
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function push<Item>(list: Item[], item: Item, countMax: number): void {
  list.push(item);
  if (list.length > countMax) list.shift();
}
