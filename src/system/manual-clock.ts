import type { Clock, Timer } from './clock.js';

class Entry implements Timer {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
  cancelled = false;

  constructor(atMs: number, order: number, callback: () => void) {
    this.atMs = atMs;
    this.order = order;
    this.callback = callback;
  }

  cancel(): void {
    this.cancelled = true;
  }
}

/** A clock that moves only when told to: timers fire in order of time, then of creation. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #wallStartMs: number;
  #entries: Entry[] = []; // binary heap by (atMs, order)

  constructor(wallStartMs = 1_700_000_000_000) {
    this.#wallStartMs = wallStartMs;
  }

  now(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallStartMs + this.#nowMs;
  }

  /** The wall clock is set; `now` does not notice. */
  jumpWall(byMs: number): void {
    this.#wallStartMs += byMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const entry = new Entry(this.#nowMs + Math.max(0, delayMs), this.#order++, callback);
    this.#push(entry);
    return entry;
  }

  every(periodMs: number, callback: () => void): Timer {
    let stopped = false;
    let current: Timer;
    const fire = (): void => {
      callback();
      if (!stopped) current = this.after(periodMs, fire);
    };
    current = this.after(periodMs, fire);
    return {
      cancel: () => {
        stopped = true;
        current.cancel();
      },
    };
  }

  /** When the next timer fires, or Infinity. */
  nextAtMs(): number {
    while (this.#entries.length > 0 && this.#entries[0]!.cancelled) this.#pop();
    return this.#entries.length > 0 ? this.#entries[0]!.atMs : Number.POSITIVE_INFINITY;
  }

  /** Fires the next timer (moving time to it). False when there is none at or before `limitMs`. */
  step(limitMs = Number.POSITIVE_INFINITY): boolean {
    const atMs = this.nextAtMs();
    if (atMs > limitMs || atMs === Number.POSITIVE_INFINITY) return false;
    const entry = this.#pop();
    this.#nowMs = Math.max(this.#nowMs, entry.atMs);
    entry.callback();
    return true;
  }

  /** Fires everything due within the next `durationMs`, then stands exactly there. */
  advance(durationMs: number): void {
    const endMs = this.#nowMs + durationMs;
    while (this.step(endMs));
    this.#nowMs = endMs;
  }

  /** Time passes and nothing fires, as for a process that is kept from running: what became due fires late. */
  freeze(durationMs: number): void {
    this.#nowMs += durationMs;
  }

  #before(a: Entry, b: Entry): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
  }

  #push(entry: Entry): void {
    const heap = this.#entries;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#before(entry, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): Entry {
    const heap = this.#entries;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      let index = 0;
      for (;;) {
        let child = 2 * index + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && this.#before(heap[child + 1]!, heap[child]!)) child++;
        if (!this.#before(heap[child]!, last)) break;
        heap[index] = heap[child]!;
        index = child;
      }
      heap[index] = last;
    }
    return top;
  }
}
