/**
 * What QEMU's colo-compare object does, outside QEMU (net/colo-compare.c): two inputs with the output of the primary
 * and of the secondary, one output for what may leave, and a channel over which checkpoints are asked for and told.
 */
import { Comparator } from '../compare/comparator.js';
import type { CompareLimits, Divergence } from '../compare/verdict.js';
import type { ColoError } from '../errors.js';
import { FlowTable } from '../flow/flow-table.js';
import type { FrameBatch, Link, LinkHandler, LinkState } from '../link/link.js';
import type { Clock, Timer } from '../system/clock.js';
import { FrameKind, FrameView, TcpFlag } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { CheckpointWords } from './checkpoint-words.js';
import { LateTick } from './late-tick.js';
import { RewrittenSyns } from './rewritten-syns.js';

const ETHERNET_HEADER_BYTES = 14;
const TICK_MS = 5;

export type ColoCompareLink = 'primary-in' | 'secondary-in' | 'outdev' | 'notify-dev';

export interface ColoCompareParts {
  readonly links: {
    readonly 'primary-in': Link;
    readonly 'secondary-in': Link;
    readonly outdev: Link;
    /** Absent: a divergence is told to nobody, and what is held stays held. */
    readonly 'notify-dev'?: Link;
  };
  readonly clock: Clock;
  readonly limits: CompareLimits;
  /** Keys the flow hash, so that clients cannot craft collisions. */
  readonly flowSeed: number;
  /** A checkpoint that was asked for and has not come is asked for again after this long. */
  readonly expiredScanMs: number;
  readonly events: {
    diverged(divergence: Divergence): void;
    linkChanged(name: ColoCompareLink, state: LinkState, reason: ColoError | undefined): void;
    /** A word on notify_dev that means nothing. */
    wordRefused(word: string): void;
  };
}

export class ColoCompare {
  readonly flows: FlowTable;
  readonly comparator: Comparator;
  readonly words: CheckpointWords | undefined;
  readonly links: ColoCompareParts['links'];
  /** Frames shorter than an Ethernet header; released frames that outdev did not take. */
  malformed = 0;
  undelivered = 0;
  framesReleased = 0;
  readonly #clock: Clock;
  readonly #events: ColoCompareParts['events'];
  readonly #syns: RewrittenSyns;
  readonly #view = new FrameView();
  #ticker: Timer | undefined;
  readonly #lateTick = new LateTick(TICK_MS);

  constructor(parts: ColoCompareParts) {
    this.links = parts.links;
    this.#clock = parts.clock;
    this.#events = parts.events;
    this.flows = new FlowTable({
      flowsMax: parts.limits.flowsMax,
      seed: parts.flowSeed,
      flowIdleMsMax: parts.limits.flowIdleMsMax,
    });
    const { outdev } = parts.links;
    this.comparator = new Comparator(this.flows, parts.limits, {
      release: (bytes, offset, length, vnetHeaderBytes) => {
        this.framesReleased++;
        if (!outdev.send(bytes, offset, length, vnetHeaderBytes)) this.undelivered++;
      },
      diverged: (divergence) => {
        this.words?.askCheckpoint(this.#clock.now());
        parts.events.diverged(divergence);
      },
    });
    this.#syns = new RewrittenSyns(this.flows, this.comparator);
    const notify = parts.links['notify-dev'];
    if (notify !== undefined) {
      this.words = new CheckpointWords(notify, parts.expiredScanMs, {
        checkpoint: () => this.#commit(),
        refused: (word) => parts.events.wordRefused(word),
      });
    }
  }

  /** Opens the links; what is absent is waited for. Rejects when one can never open. */
  async open(): Promise<void> {
    const { links, words } = this;
    this.#ticker = this.#clock.every(TICK_MS, () => this.#tick());
    await links.outdev.open(this.#handler('outdev', () => {}));
    await links['notify-dev']?.open(this.#handler('notify-dev', (batch) => words?.receive(batch)));
    await links['secondary-in'].open(this.#handler('secondary-in', (batch) => this.#fromSecondary(batch)));
    await links['primary-in'].open(this.#handler('primary-in', (batch) => this.#fromPrimary(batch)));
  }

  async close(): Promise<void> {
    this.#ticker?.cancel();
    const { outdev, 'primary-in': primary, 'secondary-in': secondary, 'notify-dev': notify } = this.links;
    await Promise.all([primary.close(), secondary.close(), outdev.close(), notify?.close()]);
  }

  #handler(name: ColoCompareLink, receive: (batch: FrameBatch) => void): LinkHandler {
    return {
      receive,
      stateChanged: (state, reason) => this.#events.linkChanged(name, state, reason),
      ...(name.endsWith('-in') ? this.comparator.slabKeeper : {}),
    };
  }

  #fromPrimary(batch: FrameBatch): void {
    const nowMs = this.#clock.now();
    const { slab, offsets, lengths, vnetHeaderBytes, count } = batch;
    const view = this.#view;
    this.comparator.beginBatch(slab);
    for (let index = 0; index < count; index++) {
      const length = lengths[index]!;
      if (length < ETHERNET_HEADER_BYTES) {
        this.malformed++;
        continue;
      }
      parseFrame(slab, offsets[index]!, length, vnetHeaderBytes, view);
      const flow = this.flows.findOrAdd(view, false, nowMs);
      this.comparator.primary(view, flow, nowMs);
      if ((view.tcpFlags & TcpFlag.SYN) !== 0 && flow >= 0) this.#syns.primaryBegan(flow, nowMs);
    }
    this.comparator.endBatch(nowMs);
    this.links.outdev.flush();
  }

  #fromSecondary(batch: FrameBatch): void {
    const nowMs = this.#clock.now();
    const { slab, offsets, lengths, vnetHeaderBytes, count } = batch;
    const view = this.#view;
    this.comparator.beginBatch(slab);
    for (let index = 0; index < count; index++) {
      const length = lengths[index]!;
      if (length < ETHERNET_HEADER_BYTES) {
        this.malformed++;
        continue;
      }
      const kind = parseFrame(slab, offsets[index]!, length, vnetHeaderBytes, view);
      const flow = this.flows.findOrAdd(view, false, nowMs);
      const isSyn = kind === FrameKind.TCP && (view.tcpFlags & TcpFlag.SYN) !== 0;
      if (isSyn && flow >= 0 && !this.#syns.mayPass(view, flow)) continue;
      this.comparator.secondary(view, flow, nowMs);
    }
    this.comparator.endBatch(nowMs);
    this.links.outdev.flush();
  }

  /** Both VMs stand still and are one. What they sent before is read first, so that it counts to the ended epoch. */
  #commit(): void {
    this.links['primary-in'].drain();
    this.links['secondary-in'].drain();
    this.comparator.commit(this.#clock.now());
    this.#syns.forget();
    this.links.outdev.flush();
  }

  #tick(): void {
    const nowMs = this.#clock.now();
    if (this.#lateTick.judges(nowMs)) this.comparator.tick(nowMs);
    this.words?.tick(nowMs);
    this.links.outdev.flush();
  }
}
