/**
 * A recording run through a comparator again, offline: with the limits it was made with, it must decide the same, bit
 * for bit; with others, it tells what they would have cost. Commits happen where they were recorded, since that is
 * where the two VMs really became one.
 */
import { z } from 'zod';
import { Comparator } from '../compare/comparator.js';
import { compileRules } from '../compare/rules.js';
import type { CompareLimits, Divergence } from '../compare/verdict.js';
import type { RuleConfig } from '../config/rule-schema.js';
import { configSchema } from '../config/schema.js';
import { ColoError } from '../errors.js';
import { FlowTable } from '../flow/flow-table.js';
import { Histogram } from '../system/histogram.js';
import type { CapturedFrame } from '../wire/capture.js';
import { FrameView } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { type Explanation, explain } from './explain.js';
import { type RecordedEvent, recordedTime } from './recorder.js';

const HOLD_BOUNDS_MS = [0.1, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];
const MISMATCHES_SHOWN = 5;
/** Kept for learning from them; beyond it they are counted. */
const DIVERGENCES_KEPT_MAX = 200_000;
/** What a decoder would recognise is short. */
const BEFORE_BYTES_KEPT = 16;

export interface ReplayDivergence {
  readonly epoch: number;
  readonly reason: string;
  readonly flow: string;
  readonly offset: number;
  /** What a decoder says of the bytes that differ; undefined when none knows. */
  readonly field: string | undefined;
  /** Some of what stands before them on both sides, in hexadecimal. */
  readonly before: string;
}

export interface ReplayResult {
  readonly frames: number;
  readonly epochs: number;
  /** Epochs in which at least one divergence asked for a checkpoint. */
  readonly checkpointsAsked: number;
  /** The first 200,000. */
  readonly divergences: readonly ReplayDivergence[];
  /** All of them. */
  readonly divergencesByReason: Readonly<Record<string, number>>;
  readonly released: Readonly<Record<string, number>>;
  readonly waivedBytes: number;
  readonly hold: Histogram;
  /** Releases and divergences that were not what the recording says, and how many there were in all. */
  readonly mismatches: number;
  readonly mismatchTexts: readonly string[];
  readonly decisions: number;
  /** The disk was too slow or failed: what is decided after such a gap may be otherwise. */
  readonly framesLeftOut: number;
}

/** Made whole before the first frame is read, and a file may ask for anything: about 1 GiB each at most. */
const REPLAY_LIMITS_MAX = {
  flowsMax: 4_194_304,
  heldFramesMax: 4_194_304,
  releasedRecordBytesMax: 1024 * 1024 * 1024,
} as const;

/** A file may say anything: limits are in the ranges of a configuration. */
const comparingSchema = z.object({ limits: configSchema.shape.compare, rules: configSchema.shape.rules });
const startSchema = comparingSchema.extend({ wallBaseMs: z.number() });

/** What is to be other than in the recording. */
export interface ReplayChanges {
  readonly limits?: Partial<CompareLimits>;
  readonly rules?: readonly RuleConfig[];
}

/**
 * Decides the frames again, once for each variant, in one pass: a recording may be larger than the memory.
 *
 * @throws ColoError COLO_ERR_CAPTURE when the frames are no recording.
 */
export function replay(
  frames: Iterable<CapturedFrame>,
  variants: readonly ReplayChanges[] = [{}],
): ReplayResult[] {
  let players: Player[] | undefined;
  for (const frame of frames) {
    // every file of a recording begins with a start event
    players ??= playersFor(eventIn(frame), variants);
    for (const player of players) player.play(frame);
  }
  return (players ?? playersFor(undefined, variants)).map((player) => player.result());
}

function playersFor(start: RecordedEvent | undefined, variants: readonly ReplayChanges[]): Player[] {
  if (start?.event !== 'start') {
    throw new ColoError(
      'COLO_ERR_CAPTURE',
      'not a recording of colo-proxy: it does not begin with a start event',
    );
  }
  return variants.map((changes) => new Player(changes));
}

function checked<Schema extends z.ZodType>(schema: Schema, event: RecordedEvent): z.output<Schema> {
  const known = schema.safeParse(event);
  if (known.success) return known.data;
  const [issue] = known.error.issues;
  throw new ColoError(
    'COLO_ERR_CAPTURE',
    `the ${event.event} event is wrong: ${issue?.path.join('.')}: ${issue?.message}`,
  );
}

function bounded(limits: CompareLimits): CompareLimits {
  for (const name of Object.keys(REPLAY_LIMITS_MAX) as (keyof typeof REPLAY_LIMITS_MAX)[]) {
    const max = REPLAY_LIMITS_MAX[name];
    if (limits[name] <= max) continue;
    throw new ColoError(
      'COLO_ERR_CAPTURE',
      `limits.${name}: at most ${max} when a recording is decided again, not ${limits[name]}`,
    );
  }
  return limits;
}

function eventIn(frame: CapturedFrame): RecordedEvent | undefined {
  if (frame.source !== 'event') return undefined;
  try {
    const event: unknown = JSON.parse(frame.bytes.toString());
    return typeof event === 'object' && event !== null && 'event' in event
      ? (event as RecordedEvent)
      : undefined;
  } catch {
    return undefined;
  }
}

class Player {
  readonly #changes: ReplayChanges;
  #flows!: FlowTable;
  #comparator!: Comparator;
  #limits!: CompareLimits;
  #wallBaseMs = Number.NaN;
  readonly #view = new FrameView();
  /** Decisions of this run that the recording has not yet confirmed. */
  readonly #made: string[] = [];
  readonly #divergences: ReplayDivergence[] = [];
  readonly #divergencesByReason: Record<string, number> = {};
  readonly #released: Record<string, number> = {};
  readonly #askedEpochs = new Set<number>();
  readonly #hold = new Histogram(HOLD_BOUNDS_MS);
  readonly #mismatchTexts: string[] = [];
  #mismatches = 0;
  #decisions = 0;
  #frames = 0;
  #epoch = 0;
  #waivedBytes = 0;
  #framesLeftOut = 0;

  constructor(changes: ReplayChanges) {
    this.#changes = changes;
  }

  #reconfigure(event: RecordedEvent): void {
    const { limits, rules } = checked(comparingSchema, event);
    Object.assign(this.#limits, limits, this.#changes.limits);
    this.#comparator.reconfigure(compileRules(this.#changes.rules ?? rules));
  }

  /** Every file begins with one; another clock is another run of the proxy, which knew nothing of the one before. */
  #start(event: RecordedEvent): void {
    const { limits: recorded, rules, wallBaseMs } = checked(startSchema, event);
    if (wallBaseMs === this.#wallBaseMs) return;
    const limits = bounded({ ...recorded, ...this.#changes.limits });
    this.#limits = limits;
    this.#wallBaseMs = wallBaseMs;
    this.#flows = new FlowTable({ flowsMax: limits.flowsMax, seed: 1 });
    this.#comparator = new Comparator(
      this.#flows,
      limits,
      {
        release: (bytes, offset, length, _vnet, _flow, reason, heldMs) => {
          this.#released[reason] = (this.#released[reason] ?? 0) + 1;
          if (reason === 'waived') this.#waivedBytes += length;
          this.#hold.observe(heldMs);
          this.#made.push(`${reason} ${bytes.toString('latin1', offset, offset + length)}`);
        },
        diverged: (divergence, copies) => this.#diverged(divergence, explain(divergence, copies())),
      },
      compileRules(this.#changes.rules ?? rules),
    );
  }

  play(frame: CapturedFrame): void {
    const nowMs = recordedTime(frame.atMs - this.#wallBaseMs);
    if (frame.source === 'released') {
      const reason = (frame.comment ?? '').split(' ')[0]!;
      this.#expect(`${reason} ${frame.bytes.toString('latin1')}`, reason);
      return;
    }
    const event = eventIn(frame);
    if (event?.event === 'diverged') {
      this.#expect(`diverged ${event.reason} ${event.flow} ${event.offset}`, `diverged ${event.reason}`);
      return;
    }
    this.#settle();
    if (event === undefined) this.#frame(frame, nowMs);
    else this.#happen(event, nowMs);
  }

  result(): ReplayResult {
    this.#settle();
    return {
      frames: this.#frames,
      epochs: this.#epoch,
      checkpointsAsked: this.#askedEpochs.size,
      divergences: this.#divergences,
      divergencesByReason: this.#divergencesByReason,
      released: this.#released,
      waivedBytes: this.#waivedBytes,
      hold: this.#hold,
      mismatches: this.#mismatches,
      mismatchTexts: this.#mismatchTexts,
      decisions: this.#decisions,
      framesLeftOut: this.#framesLeftOut,
    };
  }

  #frame(frame: CapturedFrame, nowMs: number): void {
    this.#frames++;
    const vnet = /vnet ([0-9a-f]{20})$/.exec(frame.comment ?? '')?.[1];
    const bytes =
      vnet === undefined ? Buffer.from(frame.bytes) : Buffer.concat([Buffer.from(vnet, 'hex'), frame.bytes]);
    const view = this.#view;
    if (vnet === undefined) parseFrame(bytes, 0, bytes.length, 0, view);
    else parseFrame(bytes, 10, bytes.length - 10, 10, view);
    switch (frame.source) {
      case 'client':
        this.#comparator.fromClient(view, this.#comparator.flowFromClient(view, nowMs), nowMs);
        return;
      case 'primary':
        this.#comparator.primary(view, this.#flows.findOrAdd(view, false, nowMs), nowMs);
        return;
      case 'secondary':
        this.#comparator.secondary(view, this.#flows.findOrAdd(view, false, nowMs), nowMs);
        return;
      case 'watched':
        this.#comparator.watch(view, this.#flows.findOrAdd(view, false, nowMs), nowMs);
    }
  }

  #happen(event: RecordedEvent, nowMs: number): void {
    switch (event.event) {
      case 'start':
        this.#start(event);
        return;
      case 'gap':
        this.#framesLeftOut += event.frames;
        return;
      case 'reconfigure':
        this.#reconfigure(event);
        return;
      case 'tick':
        this.#comparator.tick(nowMs);
        return;
      case 'commit':
        this.#comparator.commit(nowMs);
        this.#epoch++;
        return;
      case 'buffers-only':
        this.#comparator.buffersOnly = event.is;
        return;
      case 'drop-primary':
        this.#comparator.dropPrimary();
        return;
      case 'release-all':
        this.#comparator.releaseAllPrimary(nowMs);
        return;
      case 'adopt-secondary':
        this.#comparator.adoptSecondary();
        return;
      case 'take-secondary':
        this.#comparator.takeSecondary(() => undefined);
    }
  }

  #diverged({ reason, flow, offset }: Divergence, { field, before }: Explanation): void {
    this.#askedEpochs.add(this.#epoch);
    this.#divergencesByReason[reason] = (this.#divergencesByReason[reason] ?? 0) + 1;
    if (this.#divergences.length < DIVERGENCES_KEPT_MAX) {
      const near = Buffer.from(before.subarray(-BEFORE_BYTES_KEPT)).toString('hex');
      this.#divergences.push({ epoch: this.#epoch, reason, flow, offset, field, before: near });
    }
    this.#made.push(`diverged ${reason} ${flow} ${offset}`);
  }

  /** The recording says that this was decided next. */
  #expect(decision: string, shown: string): void {
    this.#decisions++;
    const made = this.#made.shift();
    if (made === decision) return;
    this.#mismatch(`recorded ${shown}, now ${made === undefined ? 'nothing' : made.split(' ')[0]}`);
  }

  /** What was decided beyond what the recording says. */
  #settle(): void {
    for (const made of this.#made.splice(0)) this.#mismatch(`recorded nothing, now ${made.split(' ')[0]}`);
  }

  #mismatch(text: string): void {
    this.#mismatches++;
    if (this.#mismatchTexts.length < MISMATCHES_SHOWN)
      this.#mismatchTexts.push(`frame ${this.#frames}: ${text}`);
  }
}
