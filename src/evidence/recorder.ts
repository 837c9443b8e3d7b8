/**
 * The flight recorder: everything one comparator is given and everything it decides, in order, in a ring of pcapng
 * files. What goes in: frames of the clients, the primary and the secondary, with exact times. What comes out: the
 * frames released, with the reason. Ticks, commits and failovers are events on an interface of their own.
 */
import { Comparator, type EmitSecondary } from '../compare/comparator.js';
import type { RuleSet } from '../compare/rules.js';
import type { ComparatorSink, CompareLimits, Divergence, Verdict } from '../compare/verdict.js';
import type { RuleConfig } from '../config/rule-schema.js';
import type { FlowTable } from '../flow/flow-table.js';
import type { FrameView } from '../wire/frame-view.js';
import type { CaptureRing } from './capture-ring.js';
import { type CaptureInterface, LINK_TYPE_ETHERNET, LINK_TYPE_EVENT } from './pcapng-blocks.js';

export const RECORDING_INTERFACES: readonly CaptureInterface[] = [
  ...['client', 'primary', 'secondary', 'watched', 'released'].map((name) => ({
    name,
    linkType: LINK_TYPE_ETHERNET,
  })),
  { name: 'event', linkType: LINK_TYPE_EVENT },
];

/** What happens besides frames, as JSON in a frame of interface `event`. */
export type RecordedEvent =
  | {
      readonly event: 'start';
      readonly format: 1;
      readonly nic: number;
      readonly limits: CompareLimits;
      readonly rules: readonly RuleConfig[];
      readonly wallBaseMs: number;
    }
  | { readonly event: 'buffers-only'; readonly is: boolean }
  | { readonly event: 'gap'; readonly frames: number }
  | { readonly event: 'reconfigure'; readonly limits: CompareLimits; readonly rules: readonly RuleConfig[] }
  | {
      readonly event: 'diverged';
      readonly reason: string;
      readonly flow: string;
      readonly offset: number;
      readonly field?: string;
    }
  | {
      readonly event:
        | 'tick'
        | 'commit'
        | 'drop-primary'
        | 'release-all'
        | 'adopt-secondary'
        | 'take-secondary';
    };

/** Times are rounded to this part of a millisecond, so that a file gives them back exactly. */
const TIME_PARTS_PER_MS = 1024;

export function recordedTime(nowMs: number): number {
  return Math.round(nowMs * TIME_PARTS_PER_MS) / TIME_PARTS_PER_MS;
}

/** A comparator that decides as any other, and writes down what it was asked. */
export class RecordedComparator extends Comparator {
  readonly #ring: CaptureRing;
  readonly #wallBaseMs: number;
  readonly #limits: CompareLimits;
  /** The time of the call that is being answered: releases and divergences happen at it. */
  readonly #now: { ms: number };

  /** `wallBaseMs`: whole milliseconds from the clock's zero to 1970. */
  constructor(
    flows: FlowTable,
    limits: CompareLimits,
    sink: ComparatorSink,
    rules: RuleSet | undefined,
    ring: CaptureRing,
    wallBaseMs: number,
  ) {
    const now = { ms: 0 };
    super(
      flows,
      limits,
      {
        release: (bytes, offset, length, vnet, flow, reason, heldMs) => {
          writeFrame(ring, wallBaseMs, 'released', now.ms, bytes, offset, length, vnet, reason);
          sink.release(bytes, offset, length, vnet, flow, reason, heldMs);
        },
        diverged: (divergence, frames) => {
          this.#event(eventOf(divergence));
          sink.diverged(divergence, frames);
        },
      },
      rules,
    );
    this.#now = now;
    this.#limits = limits;
    this.#ring = ring;
    this.#wallBaseMs = wallBaseMs;
  }

  override get buffersOnly(): boolean {
    return super.buffersOnly;
  }

  override set buffersOnly(is: boolean) {
    if (is !== super.buffersOnly) this.#event({ event: 'buffers-only', is });
    super.buffersOnly = is;
  }

  override reconfigure(rules: RuleSet): void {
    this.#event({ event: 'reconfigure', limits: this.#limits, rules: rules.configs });
    super.reconfigure(rules);
  }

  override watch(view: FrameView, flow: number, nowMs: number): void {
    super.watch(view, flow, this.#frame('watched', view, nowMs));
  }

  override primary(view: FrameView, flow: number, nowMs: number): Verdict {
    return super.primary(view, flow, this.#frame('primary', view, nowMs));
  }

  override secondary(view: FrameView, flow: number, nowMs: number): void {
    super.secondary(view, flow, this.#frame('secondary', view, nowMs));
  }

  override fromClient(view: FrameView, flow: number, nowMs: number): void {
    super.fromClient(view, flow, this.#frame('client', view, nowMs));
  }

  override flowFromClient(view: FrameView, nowMs: number): number {
    return super.flowFromClient(view, recordedTime(nowMs));
  }

  override tick(nowMs: number): void {
    const ms = this.#at(nowMs);
    if (this.heldFrames + this.keptFrames > 0) this.#event({ event: 'tick' });
    super.tick(ms);
  }

  override commit(nowMs: number): void {
    const ms = this.#at(nowMs);
    this.#event({ event: 'commit' });
    super.commit(ms);
  }

  override dropPrimary(): number {
    this.#event({ event: 'drop-primary' });
    return super.dropPrimary();
  }

  override releaseAllPrimary(nowMs: number): void {
    const ms = this.#at(nowMs);
    this.#event({ event: 'release-all' });
    super.releaseAllPrimary(ms);
  }

  override adoptSecondary(): void {
    this.#event({ event: 'adopt-secondary' });
    super.adoptSecondary();
  }

  override takeSecondary(emit: EmitSecondary): void {
    this.#event({ event: 'take-secondary' });
    super.takeSecondary(emit);
  }

  #at(nowMs: number): number {
    this.#now.ms = recordedTime(nowMs);
    return this.#now.ms;
  }

  #frame(source: string, view: FrameView, nowMs: number): number {
    const ms = this.#at(nowMs);
    const { bytes, start, end, vnetHeaderBytes } = view;
    writeFrame(this.#ring, this.#wallBaseMs, source, ms, bytes, start, end - start, vnetHeaderBytes);
    return ms;
  }

  #event(event: RecordedEvent): void {
    this.#ring.write(eventFrame(event, this.#wallBaseMs + this.#now.ms));
  }
}

export function eventFrame(event: RecordedEvent, wallMs: number) {
  const bytes = Buffer.from(JSON.stringify(event));
  return { source: 'event', wallMs, bytes, wireBytes: bytes.length };
}

/** A vnet header stands in the comment, in hexadecimal, behind what the comment says. */
function writeFrame(
  ring: CaptureRing,
  wallBaseMs: number,
  source: string,
  nowMs: number,
  bytes: Buffer,
  offset: number,
  length: number,
  vnetHeaderBytes: 0 | 10,
  reason = '',
): void {
  const vnet =
    vnetHeaderBytes === 0 ? '' : ` vnet ${bytes.toString('hex', offset - vnetHeaderBytes, offset)}`;
  const comment = `${reason}${vnet}`.trim();
  ring.write({
    source,
    wallMs: wallBaseMs + nowMs,
    bytes: bytes.subarray(offset, offset + length),
    wireBytes: length,
    ...(comment === '' ? {} : { comment }),
  });
}

function eventOf({ reason, flow, offset }: Divergence): RecordedEvent {
  return { event: 'diverged', reason, flow, offset };
}
