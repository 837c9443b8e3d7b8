import { type FramePort, SLOT_OVERHEAD_BYTES } from '../../native/index.js';
import type { Clock } from '../system/clock.js';
import {
  type FrameBatch,
  type LinkAbilities,
  type LinkCounters,
  VNET_HEADER_BYTES,
  type VnetHeaderBytes,
} from './link.js';
import { OffloadStage } from './offload.js';
import type { LinkOptions } from './options.js';
import { ReceiveBatch, type SlabKeeper } from './receive-batch.js';
import { SendQueue } from './send-queue.js';

/** The longest frame a slot takes: a GSO frame is an IP packet of at most 65,535 bytes, Ethernet header, two tags. */
const SLOT_BYTES = 65_535 + 14 + 8 + SLOT_OVERHEAD_BYTES + 51; // 65,624: a multiple of 8 that spreads over cache sets
const STUCK_RETRY_MS = 1;
/** Batches read before other links get their turn. */
const BATCHES_PER_WAKE_MAX = 4;
/** `drain` ends here even when frames never stop coming: more than any receive buffer or TAP queue holds. */
const DRAIN_FRAMES_MAX = 131_072;

/** What the pump tells the link that owns it. */
export interface PumpEvents {
  receive(batch: FrameBatch): void;
  /** The port refused to go on (the interface is down or gone). The link decides what to do. */
  broken(error: Error): void;
  /** The kernel takes more, after `write` had left frames queued. */
  writable(): void;
}

/**
 * Moves batches between a port of whole frames (AF_PACKET socket or TAP) and a link: one slab and one queue,
 * used for every batch, whatever port is attached.
 */
export class FramePump {
  readonly queue: SendQueue;
  readonly offload: OffloadStage;
  readonly #counters: LinkCounters;
  readonly #events: PumpEvents;
  readonly #clock: Clock;
  readonly #batch: ReceiveBatch;
  readonly #oneOffset = new Int32Array(1);
  readonly #oneLength = new Int32Array(1);
  #port: FramePort | undefined;
  #reading = false;
  #waitingToWrite = false;
  #wokenToWrite = false;
  isSuspended = false;
  /** Totals of the port's own statistics that are in the link's counters already. */
  #countedReceiveDrops = 0;
  #countedSendErrors = 0;

  constructor(abilities: LinkAbilities, options: LinkOptions, counters: LinkCounters, events: PumpEvents) {
    const vnetHeaderBytes: VnetHeaderBytes = abilities.vnetHeader ? 10 : 0;
    this.#counters = counters;
    this.#events = events;
    this.#clock = options.clock;
    this.#batch = new ReceiveBatch(
      SLOT_BYTES * options.batchFramesMax,
      options.batchFramesMax,
      vnetHeaderBytes,
    );
    this.queue = new SendQueue({
      prefixBytes: vnetHeaderBytes,
      bytesMax: options.sendQueueBytesMax,
      framesMax: options.sendQueueFramesMax,
    });
    this.offload = new OffloadStage(abilities, this.queue);
  }

  /** Who is asked before the slab is written to again. */
  set keeper(keeper: SlabKeeper) {
    this.#batch.keeper = keeper;
  }

  get port(): FramePort | undefined {
    return this.#port;
  }

  attach(port: FramePort): void {
    this.#port = port;
    this.#countedReceiveDrops = 0;
    this.#countedSendErrors = 0;
    if (!this.isSuspended) this.#start(port);
  }

  #start(port: FramePort): void {
    const perBatch = this.#batch.offsets.length;
    port.start(() => this.#read(BATCHES_PER_WAKE_MAX * perBatch, perBatch));
  }

  /** Reads no more until `resume`; what arrives stays in the kernel. */
  suspend(): void {
    this.isSuspended = true;
    this.#port?.stop();
  }

  resume(): void {
    const port = this.#port;
    this.isSuspended = false;
    if (port !== undefined) this.#start(port);
  }

  /** Closes the port; what was queued for it is lost and counted. */
  detach(): void {
    const port = this.#port;
    if (!port) return;
    this.countDrops();
    this.#port = undefined;
    port.close();
    this.#counters.sendDrops += this.queue.count;
    this.queue.clear();
    this.#waitingToWrite = false;
  }

  /** Reads until nothing is left. Returns the number of frames. */
  drain(): number {
    return this.#read(DRAIN_FRAMES_MAX, 1);
  }

  /** Reads until a batch has fewer than `framesMin` frames or about `framesMax` have been read. */
  #read(framesMax: number, framesMin: number): number {
    const port = this.#port;
    if (!port || this.#reading || this.isSuspended) return 0;
    this.#reading = true;
    let frames = 0;
    try {
      while (frames < framesMax && this.#port === port) {
        const count = this.#readBatch(port);
        frames += count;
        if (count < framesMin) break;
      }
    } finally {
      this.#reading = false;
    }
    return frames;
  }

  #readBatch(port: FramePort): number {
    const batch = this.#batch;
    const { offsets, lengths } = batch;
    batch.renewSlab();
    try {
      batch.count = port.receive(batch.slab, offsets, lengths, SLOT_BYTES, offsets.length);
    } catch (error) {
      this.#events.broken(error as Error);
      return 0;
    }
    if (batch.count === 0) return 0;
    for (let index = 0; index < batch.count; index++) this.#counters.bytesReceived += lengths[index]!;
    this.#counters.framesReceived += batch.count;
    this.#events.receive(batch);
    return batch.count;
  }

  /**
   * Hands up to `framesMax` queued frames to the kernel and returns how many it is done with. When the kernel's
   * own queue is full, `writable` is called once it takes more.
   */
  write(framesMax: number): number {
    const { queue } = this;
    const port = this.#port;
    if (!port || this.#waitingToWrite) return 0;
    const wanted = Math.min(queue.count, framesMax);
    if (wanted <= 0) return 0;
    const { head, lengths, prefixBytes } = queue;
    let taken = 0;
    try {
      taken = port.send(queue.slab, queue.offsets, lengths, prefixBytes as VnetHeaderBytes, head, wanted);
    } catch (error) {
      this.#events.broken(error as Error);
      return 0;
    }
    for (let index = head; index < head + taken; index++) this.#counters.bytesSent += lengths[index]!;
    this.#counters.framesSent += taken;
    queue.dropFront(taken);
    if (taken < wanted) this.#waitToWrite(port, taken);
    return taken;
  }

  /** Hands one frame, its vnet header in front, to the kernel from where it lies. False: the kernel did not take it. */
  writeOne(bytes: Buffer, offset: number, length: number): boolean {
    const port = this.#port;
    if (!port || this.#waitingToWrite) return false;
    this.#oneOffset[0] = offset;
    this.#oneLength[0] = length;
    try {
      if (port.send(bytes, this.#oneOffset, this.#oneLength, VNET_HEADER_BYTES, 0, 1) === 0) return false;
    } catch (error) {
      this.#events.broken(error as Error);
      return false;
    }
    this.#counters.bytesSent += length;
    this.#counters.framesSent++;
    return true;
  }

  /** A socket that is writable and yet takes nothing (ENOBUFS of a full driver queue) is asked again a little later. */
  #waitToWrite(port: FramePort, taken: number): void {
    const isStuck = taken === 0 && this.#wokenToWrite;
    const retry = (): void => {
      if (this.#port !== port) return;
      this.#waitingToWrite = false;
      this.#wokenToWrite = true;
      this.#events.writable();
      this.#wokenToWrite = false;
    };
    this.#waitingToWrite = true;
    if (isStuck) this.#clock.after(STUCK_RETRY_MS, retry);
    else port.wantWritable(retry);
  }

  /** Brings the kernel's own drop counts into the link's counters. Frames that it refused are no longer "sent". */
  countDrops(): { sendErrors: number } {
    if (!this.#port || this.#port.fd < 0) return { sendErrors: 0 };
    const statistics = this.#port.statistics();
    const receiveDrops = statistics.drops + statistics.truncated + statistics.undescribable;
    const sendErrors = statistics.sendErrors - this.#countedSendErrors;
    this.#counters.receiveDrops += receiveDrops - this.#countedReceiveDrops;
    this.#counters.sendDrops += sendErrors;
    this.#counters.framesSent -= sendErrors;
    this.#countedReceiveDrops = receiveDrops;
    this.#countedSendErrors = statistics.sendErrors;
    return { sendErrors: statistics.sendErrors };
  }
}
