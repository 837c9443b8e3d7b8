import type { InterfaceStatistics } from './rtnetlink-codec.js';

/**
 * How many frames sent to a VM's TAP its holder has not read yet. The interface's tx_packets rises when the
 * holder of the character device reads a frame, not when it is queued (drivers/net/tun.c, tun_put_user), so
 * what was sent minus that rise is what still waits. A full queue (txqueuelen) drops silently and counts
 * tx_dropped: the backlog is kept below it, so that this never happens.
 */
export class TapBacklog {
  readonly #queueFramesMax: number;
  readonly #readStatistics: () => { interface: InterfaceStatistics | undefined; sendErrors: number };
  readonly #dropped: (frames: number) => void;
  /** Frames given to the kernel since the zero point, at which nothing waited. */
  #sent = 0;
  /** What the counters said at the zero point, and last. */
  #zeroGone = 0;
  #gone = 0;
  #txDropped = 0;

  /**
   * @param queueFrames the interface's txqueuelen
   * @param dropped called with frames that the interface dropped after taking them
   */
  constructor(
    queueFrames: number,
    readStatistics: () => { interface: InterfaceStatistics | undefined; sendErrors: number },
    dropped: (frames: number) => void,
  ) {
    // A little room is left for frames that are not ours.
    this.#queueFramesMax = Math.max(1, queueFrames - Math.min(16, queueFrames >> 3));
    this.#readStatistics = readStatistics;
    this.#dropped = dropped;
  }

  /** `frames` more were handed to the kernel. */
  sent(frames: number): void {
    this.#sent += frames;
  }

  /** Frames waiting, as far as is known without asking the kernel: never too few of our own. */
  get known(): number {
    return this.#sent - (this.#gone - this.#zeroGone);
  }

  /** Frames waiting now. Frames of others that were read in between only make it smaller, until it is 0 again. */
  refresh(): number {
    if (this.#sent === 0) return 0;
    this.#readGone();
    if (this.known > 0) return this.known;
    this.#sent = 0;
    this.#zeroGone = this.#gone;
    return 0;
  }

  /** How many frames may be handed over without coming near the queue's end; asks the kernel only when needed. */
  room(wanted: number): number {
    if (this.#sent === 0) this.#setZero();
    const known = this.#queueFramesMax - this.known;
    if (known >= wanted) return wanted;
    return Math.min(wanted, Math.max(0, this.#queueFramesMax - this.refresh()));
  }

  /** Nothing waits any more: the holder is gone, and the kernel threw its queue away. */
  reset(): void {
    this.#sent = 0;
  }

  /** Nothing waits now: what the counters say is the new zero point. */
  #setZero(): void {
    this.#readGone();
    this.#zeroGone = this.#gone;
  }

  #readGone(): void {
    const { interface: statistics, sendErrors } = this.#readStatistics();
    if (!statistics) return;
    this.#gone = statistics.txPackets + statistics.txDropped + sendErrors;
    if (this.#sent > 0 && statistics.txDropped > this.#txDropped) {
      this.#dropped(statistics.txDropped - this.#txDropped);
    }
    this.#txDropped = statistics.txDropped;
  }
}
