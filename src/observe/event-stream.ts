/**
 * Server-sent events for the status page: at first the past, then a sample a second. A reader that does not keep up
 * is dropped; there are never more than a few.
 */
import type { ServerResponse } from 'node:http';
import type { ExplainedDivergence } from '../evidence/evidence-log.js';
import type { PairStatus } from '../pair/status.js';
import type { TopFlow } from '../pair/top-flows.js';
import type { Clock, Timer } from '../system/clock.js';
import { statusJson } from './status-json.js';
import { Timeline } from './timeline.js';

const PERIOD_MS = 1000;
const READERS_MAX = 16;
/** A browser that sleeps: it connects again and gets the past anew. */
const UNREAD_BYTES_MAX = 1024 * 1024;
const DIVERGENCES_SHOWN = 30;

/** What is asked of the data plane's thread comes later; of the own one, at once. */
export type Awaitable<T> = T | Promise<T>;

export interface EventSources {
  readonly status: () => Awaitable<PairStatus>;
  readonly divergences: () => Awaitable<readonly ExplainedDivergence[]>;
  readonly flows: () => Awaitable<readonly TopFlow[]>;
  readonly clock: Clock;
}

export class EventStream {
  readonly #sources: EventSources;
  readonly #timeline = new Timeline();
  readonly #readers = new Set<ServerResponse>();
  #timer: Timer | undefined;

  constructor(sources: EventSources) {
    this.#sources = sources;
  }

  start(): void {
    this.#timer = this.#sources.clock.every(PERIOD_MS, () => void this.#tick());
  }

  stop(): void {
    this.#timer?.cancel();
    for (const reader of this.#readers) reader.destroy();
  }

  /** Answers the request for as long as the reader stays; false when there are too many. */
  add(response: ServerResponse): boolean {
    if (this.#readers.size >= READERS_MAX) return false;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    this.#readers.add(response);
    response.on('close', () => this.#readers.delete(response));
    response.write(event('past', { samples: this.#timeline.samples, events: this.#timeline.events }));
    void this.#now().then((text) => response.write(text));
    return true;
  }

  async #tick(): Promise<void> {
    const atMs = this.#sources.clock.wallMs();
    this.#timeline.take(await this.#sources.status(), atMs);
    if (this.#readers.size === 0) return;
    const text = await this.#now();
    for (const reader of this.#readers) {
      if (reader.writableLength > UNREAD_BYTES_MAX) reader.destroy();
      else reader.write(text);
    }
  }

  async #now(): Promise<string> {
    const { status, divergences, flows } = this.#sources;
    return event('now', {
      sample: this.#timeline.samples.at(-1) ?? null,
      events: this.#timeline.events,
      status: JSON.parse(statusJson(await status())),
      divergences: (await divergences()).slice(0, DIVERGENCES_SHOWN),
      flows: await flows(),
    });
  }
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
