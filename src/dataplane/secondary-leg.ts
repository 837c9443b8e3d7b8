import type { FlowTable } from '../flow/flow-table.js';
import type { Link, VnetHeaderBytes } from '../link/link.js';
import { answersSyn, toSecondary } from '../translate/translate.js';
import { FrameView } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { FrameQueue, type FrameQueueLimits, type FrameVisitor } from './frame-queue.js';
import { copyToScratch, SCRATCH_HEADROOM_BYTES } from './scratch.js';

/**
 * The secondary's leg: its link, its half of the translation and its parking place. Everything the data plane
 * knows of the secondary goes through this class, so that the leg can later live in an agent on the secondary's
 * own host.
 */
export class SecondaryLeg {
  /** The link of the seat that is not today's primary's; the data plane moves it when the roles change seats. */
  link: Link;
  /** From REPLY to LOADED every frame of the secondary belongs to the next epoch. */
  parking = false;
  readonly #flows: FlowTable;
  readonly parked: FrameQueue;
  readonly #view = new FrameView();

  constructor(link: Link, flows: FlowTable, parkedLimits: FrameQueueLimits) {
    this.link = link;
    this.#flows = flows;
    this.parked = new FrameQueue(parkedLimits);
  }

  /**
   * Gives one client frame to the secondary, in its own sequence space. The caller's bytes stay as they are.
   * `flow` is the slot of the frame's flow, -1 when it has none. False when the link refused it.
   */
  feed(frame: FrameView, flow: number): boolean {
    const length = frame.end - frame.start;
    if (flow < 0 || !(this.#flows.hasTranslation(flow) || answersSyn(frame))) {
      return this.link.send(frame.bytes, frame.start, length, frame.vnetHeaderBytes);
    }
    const scratch = copyToScratch(frame.bytes, frame.start, length, frame.vnetHeaderBytes);
    parseFrame(scratch, SCRATCH_HEADROOM_BYTES, length, frame.vnetHeaderBytes, this.#view);
    toSecondary(this.#view, this.#flows, flow);
    return this.link.send(scratch, SCRATCH_HEADROOM_BYTES, length, frame.vnetHeaderBytes);
  }

  /** False at the limit: the missing bytes show up as a divergence of the next epoch. */
  park(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    return this.parked.push(bytes, offset, length, vnetHeaderBytes);
  }

  /** Ends parking and hands out what was parked, in order. */
  unpark(visit: FrameVisitor): void {
    this.parking = false;
    this.parked.drainTo(visit);
  }

  /** The secondary is void: nothing it sent counts any more. Returns the number of parked frames thrown away. */
  reset(): number {
    const { frames } = this.parked;
    this.parking = false;
    this.parked.clear();
    this.link.discardQueued();
    return frames;
  }
}
