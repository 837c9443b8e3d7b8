import type { Clock, Timer } from '../system/clock.js';
import type { FrameBatch, Link, VnetHeaderBytes } from './link.js';
import { SendQueue } from './send-queue.js';
import { WrappedLink } from './wrapped-link.js';

/** What may happen to a frame, each with its probability of 0 to 1; absent: never. */
export interface FaultRates {
  readonly loss?: number;
  readonly duplication?: number;
  /** One bit of the frame is flipped. */
  readonly corruption?: number;
  /** The frame comes `reorderMs` later than its followers. */
  readonly reordering?: number;
  readonly reorderMs?: number;
  /** Every frame is late by a time evenly spread between these. */
  readonly delayMsMin?: number;
  readonly delayMsMax?: number;
}

export interface FaultOptions {
  readonly clock: Clock;
  /** 0 to below 1, from a seeded generator: the same faults again for the same seed and frames. */
  readonly random: () => number;
  readonly sent?: FaultRates;
  readonly received?: FaultRates;
  /** Frames kept back at one time, per direction; beyond it they pass undelayed. */
  readonly delayedFramesMax?: number;
}

export interface FaultCounters {
  lost: number;
  duplicated: number;
  corrupted: number;
  delayed: number;
}

type Pass = (bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes) => void;

/** A link on which frames get lost, doubled, damaged, late and out of order. For tests and simulation. */
export class FaultInjector extends WrappedLink {
  readonly faults: FaultCounters = { lost: 0, duplicated: 0, corrupted: 0, delayed: 0 };
  readonly #sent: FaultStage;
  readonly #received: FaultStage;
  #arrivals: SendQueue | undefined;

  constructor(inner: Link, options: FaultOptions) {
    super(inner);
    this.#sent = new FaultStage(options, options.sent ?? {}, this.faults, (late) => {
      this.inner.send(late.bytes, late.vnetHeaderBytes, late.length, late.vnetHeaderBytes);
      this.inner.flush();
    });
    this.#received = new FaultStage(options, options.received ?? {}, this.faults, (late) => {
      this.handler.receive({
        slab: late.bytes,
        offsets: Int32Array.of(late.vnetHeaderBytes),
        lengths: Int32Array.of(late.length),
        count: 1,
        vnetHeaderBytes: late.vnetHeaderBytes,
      });
    });
  }

  /** A frame that is lost or late was taken all the same: its sender cannot tell. */
  override send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    let taken = true;
    this.#sent.push(bytes, offset, length, vnetHeaderBytes, (...frame) => {
      taken = this.inner.send(...frame);
    });
    return taken;
  }

  protected override received(batch: FrameBatch): void {
    const { vnetHeaderBytes } = batch;
    this.#arrivals ??= new SendQueue({
      prefixBytes: vnetHeaderBytes,
      bytesMax: 64 * 1024 * 1024,
      framesMax: 65536,
    });
    const arrivals = this.#arrivals;
    for (let index = 0; index < batch.count; index++) {
      this.#received.push(
        batch.slab,
        batch.offsets[index]!,
        batch.lengths[index]!,
        vnetHeaderBytes,
        (bytes, offset, length) => {
          const at = arrivals.reserve(length);
          if (at >= 0)
            bytes.copy(arrivals.slab, at - vnetHeaderBytes, offset - vnetHeaderBytes, offset + length);
        },
      );
    }
    const { slab, offsets, lengths, count } = arrivals;
    if (count > 0) super.received({ slab, offsets, lengths, count, vnetHeaderBytes });
    arrivals.clear();
  }

  /** The barrier holds: what is late has been emitted too. */
  override drain(): number {
    return super.drain() + this.#received.release();
  }

  override untaken(): number {
    return super.untaken() + this.#sent.delayedFrames;
  }

  override discardQueued(): number {
    return super.discardQueued() + this.#sent.discard();
  }

  override close(): Promise<void> {
    this.#sent.discard();
    this.#received.discard();
    return super.close();
  }
}

/** A copy of a frame, with its vnet header in front: it starts at `vnetHeaderBytes`. */
interface LateFrame {
  readonly bytes: Buffer;
  readonly length: number;
  readonly vnetHeaderBytes: VnetHeaderBytes;
  timer: Timer | undefined;
}

/** The faults of one direction. */
class FaultStage {
  readonly #options: FaultOptions;
  readonly #rates: FaultRates;
  readonly #counters: FaultCounters;
  readonly #passLate: (frame: LateFrame) => void;
  readonly #late = new Set<LateFrame>();

  constructor(
    options: FaultOptions,
    rates: FaultRates,
    counters: FaultCounters,
    passLate: (frame: LateFrame) => void,
  ) {
    this.#options = options;
    this.#rates = rates;
    this.#counters = counters;
    this.#passLate = passLate;
  }

  get delayedFrames(): number {
    return this.#late.size;
  }

  push(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes, pass: Pass): void {
    if (this.#happens(this.#rates.loss)) {
      this.#counters.lost++;
      return;
    }
    let copies = 1;
    if (this.#happens(this.#rates.duplication)) {
      this.#counters.duplicated++;
      copies = 2;
    }
    for (let copy = 0; copy < copies; copy++) this.#pushOne(bytes, offset, length, vnetHeaderBytes, pass);
  }

  #pushOne(
    bytes: Buffer,
    offset: number,
    length: number,
    vnetHeaderBytes: VnetHeaderBytes,
    pass: Pass,
  ): void {
    const isCorrupt = length > 0 && this.#happens(this.#rates.corruption);
    const delayMs = this.#delayMs();
    if (!isCorrupt && delayMs === 0) {
      pass(bytes, offset, length, vnetHeaderBytes);
      return;
    }
    const copy = Buffer.from(bytes.subarray(offset - vnetHeaderBytes, offset + length));
    if (isCorrupt) {
      this.#counters.corrupted++;
      const bit = Math.floor(this.#options.random() * 8 * length);
      copy[vnetHeaderBytes + (bit >> 3)]! ^= 1 << (bit & 7);
    }
    if (delayMs === 0) {
      pass(copy, vnetHeaderBytes, length, vnetHeaderBytes);
      return;
    }
    this.#counters.delayed++;
    const late: LateFrame = { bytes: copy, length, vnetHeaderBytes, timer: undefined };
    this.#late.add(late);
    late.timer = this.#options.clock.after(delayMs, () => {
      this.#late.delete(late);
      this.#passLate(late);
    });
  }

  #happens(probability: number | undefined): boolean {
    return probability !== undefined && probability > 0 && this.#options.random() < probability;
  }

  #delayMs(): number {
    if (this.#late.size >= (this.#options.delayedFramesMax ?? 4096)) return 0;
    const { delayMsMin = 0, delayMsMax = delayMsMin, reorderMs = 1 } = this.#rates;
    const spreadMs = delayMsMax > delayMsMin ? this.#options.random() * (delayMsMax - delayMsMin) : 0;
    return delayMsMin + spreadMs + (this.#happens(this.#rates.reordering) ? reorderMs : 0);
  }

  /** Passes everything that is late, in the order it was sent. Returns the number of frames. */
  release(): number {
    const late = [...this.#late];
    this.#late.clear();
    for (const frame of late) {
      frame.timer?.cancel();
      this.#passLate(frame);
    }
    return late.length;
  }

  discard(): number {
    const frames = this.#late.size;
    for (const frame of this.#late) frame.timer?.cancel();
    this.#late.clear();
    return frames;
  }
}
