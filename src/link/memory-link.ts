import type { Clock } from '../system/clock.js';
import type { FrameBytes } from '../wire/frame-memory.js';
import {
  type FrameBatch,
  type Link,
  type LinkAbilities,
  type LinkCounters,
  type LinkHandler,
  type LinkState,
  newLinkCounters,
  type VnetHeaderBytes,
} from './link.js';
import { OffloadStage } from './offload.js';
import { SendQueue } from './send-queue.js';

export interface MemoryLinkOptions {
  /** Shown as `memory:NAME.a` and `memory:NAME.b`. */
  readonly name?: string;
  readonly abilities?: LinkAbilities;
  /** Time a flushed batch is on its way; needs `clock`. 0 (default): `flush` delivers before it returns. */
  readonly delayMs?: number;
  readonly clock?: Clock;
  /** What one direction may hold; a frame that does not fit is a counted sendDrop. */
  readonly queueBytesMax?: number;
}

const PLAIN_ABILITIES: LinkAbilities = { vnetHeader: false, gso: false, frameBytesMax: 1522 };
/** Frames that may lie in other slabs before they are flushed. */
const PASSING_FRAMES_MAX = 1024;

/** Two ends of one wire within the process: what one end sends, the other receives. For tests and simulation. */
export function memoryLinkPair(options: MemoryLinkOptions = {}): [MemoryLink, MemoryLink] {
  const name = options.name ?? 'pair';
  const a = new MemoryLink(`memory:${name}.a`, options);
  const b = new MemoryLink(`memory:${name}.b`, options);
  a.connect(b);
  b.connect(a);
  return [a, b];
}

/**
 * One end. An end that stops reading (`setReading(false)`) leaves its peer's frames untaken, as a stopped VM
 * does; its own `drain` still reads them. With a delay, each flush is one timer of the passed clock, and
 * `drain` also takes what is still on its way, so that it is the barrier a real link's is.
 */
export class MemoryLink implements Link {
  readonly url: string;
  readonly abilities: LinkAbilities;
  readonly counters: LinkCounters = newLinkCounters();
  readonly #delayMs: number;
  readonly #clock: Clock | undefined;
  readonly #offload: OffloadStage;
  #peer!: MemoryLink;
  #handler: LinkHandler | undefined;
  #state: LinkState = 'closed';
  #reading = true;
  #delivering = false;
  /** Sent but not flushed. */
  #unflushed: SendQueue;
  /** Flushed by the peer, not yet received here. */
  #inbox: SendQueue;
  /** Frames ever put into the inbox, ever arrived, ever taken out of it: enqueued >= arrived >= taken. */
  #enqueuedTotal = 0;
  #arrivedTotal = 0;
  #takenTotal = 0;
  /** The inbox of the batch that the handler looks at: what arrives meanwhile goes to the other one. */
  #delivered: SendQueue;
  /** Frames in slabs they were received in: their bytes are taken as late as a stream link takes them. */
  readonly #passing: { readonly bytes: FrameBytes; readonly offset: number; readonly length: number }[] = [];
  readonly #settle = (): void => {
    for (const { bytes, offset, length } of this.#passing.splice(0)) {
      bytes.beforeOverwriting?.delete(this.#settle);
      if (!this.#offload.queue(bytes, offset, length, 0)) this.counters.sendDrops++;
    }
  };
  readonly #batch: { -readonly [K in keyof FrameBatch]: FrameBatch[K] };

  constructor(url: string, options: MemoryLinkOptions) {
    this.url = url;
    this.abilities = options.abilities ?? PLAIN_ABILITIES;
    this.#delayMs = options.delayMs ?? 0;
    this.#clock = options.clock;
    if (this.#delayMs > 0 && !this.#clock) throw new TypeError('a memory link with a delay needs a clock');
    const vnetHeaderBytes: VnetHeaderBytes = this.abilities.vnetHeader ? 10 : 0;
    const queue = () =>
      new SendQueue({
        prefixBytes: vnetHeaderBytes,
        bytesMax: options.queueBytesMax ?? 16 * 1024 * 1024,
        framesMax: 65536,
      });
    this.#unflushed = queue();
    this.#inbox = queue();
    this.#delivered = queue();
    this.#batch = {
      slab: this.#inbox.slab,
      offsets: this.#inbox.offsets,
      lengths: this.#inbox.lengths,
      count: 0,
      vnetHeaderBytes,
    };
    this.#offload = new OffloadStage(this.abilities, this.#unflushed);
  }

  /** Ties this end to the other; `memoryLinkPair` does it. */
  connect(peer: MemoryLink): void {
    this.#peer = peer;
  }

  get state(): LinkState {
    return this.#state;
  }

  async open(handler: LinkHandler): Promise<void> {
    this.#handler = handler;
    this.#state = this.#peer.#state === 'closed' ? 'waiting' : 'up';
    handler.stateChanged(this.#state);
    if (this.#peer.#state === 'waiting') this.#peer.#become('up');
  }

  #become(state: LinkState): void {
    this.#state = state;
    this.#handler?.stateChanged(state);
  }

  send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    if (this.#state === 'up' && this.#take(bytes, offset, length, vnetHeaderBytes)) return true;
    this.counters.sendDrops++;
    return false;
  }

  #take(bytes: FrameBytes, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    const passes = vnetHeaderBytes === 0 && length <= this.abilities.frameBytesMax;
    if (passes && bytes.beforeOverwriting !== undefined && this.#passing.length < PASSING_FRAMES_MAX) {
      this.#passing.push({ bytes, offset, length });
      bytes.beforeOverwriting.add(this.#settle);
      return true;
    }
    this.#settle();
    return this.#offload.queue(bytes, offset, length, vnetHeaderBytes);
  }

  flush(): void {
    this.#settle();
    const queue = this.#unflushed;
    const first = queue.head;
    const count = queue.count;
    if (count === 0) return;
    for (let index = first; index < first + count; index++) {
      const length = queue.lengths[index]!;
      const start = queue.offsets[index]! - queue.prefixBytes;
      const at = this.#peer.#inbox.reserve(length);
      if (at < 0) {
        this.counters.sendDrops++;
        continue;
      }
      queue.slab.copy(
        this.#peer.#inbox.slab,
        at - queue.prefixBytes,
        start,
        start + queue.prefixBytes + length,
      );
      this.counters.framesSent++;
      this.counters.bytesSent += length;
      this.#peer.#enqueuedTotal++;
    }
    queue.clear();
    const peer = this.#peer;
    const upTo = peer.#enqueuedTotal;
    if (this.#delayMs > 0) this.#clock!.after(this.#delayMs, () => peer.#arrive(upTo));
    else peer.#arrive(upTo);
  }

  /** Every frame up to the `upTo`-th ever enqueued has been on its way long enough. */
  #arrive(upTo: number): void {
    this.#arrivedTotal = Math.max(this.#arrivedTotal, upTo);
    if (this.#reading) this.#deliver();
  }

  /** False: this end reads nothing until told again, like a stopped VM. */
  setReading(reading: boolean): void {
    this.#reading = reading;
    if (reading) this.#deliver();
  }

  /** Hands over what has arrived. Not re-entered: what a handler's own sends bring back comes after it. */
  #deliver(): number {
    if (this.#delivering || !this.#handler) return 0;
    this.#delivering = true;
    let frames = 0;
    try {
      while (this.#arrivedTotal > this.#takenTotal && this.#handler)
        frames += this.#deliverOnce(this.#handler);
    } finally {
      this.#delivering = false;
    }
    return frames;
  }

  #deliverOnce(handler: LinkHandler): number {
    const count = this.#arrivedTotal - this.#takenTotal;
    const inbox = this.#inbox;
    handler.overwriting?.(this.#delivered.slab);
    for (const leave of this.#delivered.slab.beforeOverwriting ?? []) leave();
    inbox.slab.beforeOverwriting ??= new Set();
    if (count < inbox.count) this.#keepUnarrived(inbox, count);
    this.#inbox = this.#delivered;
    this.#delivered = inbox;
    this.#takenTotal = this.#arrivedTotal;
    const batch = this.#batch;
    batch.slab = inbox.slab;
    batch.offsets = inbox.head === 0 ? inbox.offsets : inbox.offsets.subarray(inbox.head);
    batch.lengths = inbox.head === 0 ? inbox.lengths : inbox.lengths.subarray(inbox.head);
    batch.count = count;
    for (let index = 0; index < count; index++) this.counters.bytesReceived += batch.lengths[index]!;
    this.counters.framesReceived += count;
    try {
      handler.receive(batch);
    } finally {
      inbox.clear();
    }
    return count;
  }

  /** Frames still on their way move to the other inbox, behind nothing: it is empty. */
  #keepUnarrived(inbox: SendQueue, arrived: number): void {
    for (let index = inbox.head + arrived; index < inbox.head + inbox.count; index++) {
      const length = inbox.lengths[index]!;
      const start = inbox.offsets[index]! - inbox.prefixBytes;
      const at = this.#delivered.reserve(length);
      inbox.slab.copy(
        this.#delivered.slab,
        at - inbox.prefixBytes,
        start,
        start + inbox.prefixBytes + length,
      );
    }
    inbox.truncate(arrived);
  }

  drain(): number {
    this.#arrivedTotal = this.#enqueuedTotal;
    return this.#deliver();
  }

  untaken(): number {
    this.#settle();
    return this.#unflushed.count + this.#peer.#inbox.count;
  }

  discardQueued(): number {
    this.#settle();
    const frames = this.#unflushed.count;
    this.#unflushed.clear();
    return frames;
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#become('closed');
    this.#handler = undefined;
    this.#inbox.clear();
    this.#arrivedTotal = this.#enqueuedTotal;
    this.#takenTotal = this.#enqueuedTotal;
    if (this.#peer.#state === 'up') this.#peer.#become('waiting');
  }
}
