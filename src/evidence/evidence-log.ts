/**
 * What is kept of divergences: the latest ones explained, in memory, and their frames in a ring of files. Both are
 * bounded; under a flood of divergences a sample is explained and the rest counted.
 */
import type { Divergence, DivergenceFrame, DivergenceReason } from '../compare/verdict.js';
import type { Clock } from '../system/clock.js';
import { LineLimiter } from '../system/line-limiter.js';
import type { CaptureRing, RingStatus } from './capture-ring.js';
import { ClientFrames } from './client-frames.js';
import { explanationText } from './evidence-text.js';
import { explain } from './explain.js';

/** Explained at once, and then per second. */
const SAMPLE = { burstLines: 50, linesPerSecond: 10 };

/** Plain data, as `/api/divergences` shows it; bytes are hexadecimal. */
export interface ExplainedDivergence {
  /** Counts from 1 with the process. */
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  readonly reason: DivergenceReason;
  readonly flow: string;
  readonly offset: number;
  readonly summary: string;
  readonly field: string | null;
  readonly advice: string;
  readonly before: string;
  readonly primary: string;
  readonly secondary: string;
  /** File of the ring that has the frames; null without one. */
  readonly file: string | null;
}

export interface EvidenceStatus extends RingStatus {
  /** Divergences seen, explained, and left out of the sample. */
  readonly seen: number;
  readonly explained: number;
  readonly leftOut: number;
  /** Of the flight recorder; null without one. */
  readonly recording: RingStatus | null;
}

const NOTHING_WRITTEN: RingStatus = { writtenBytes: 0, framesLeftOut: 0, writeFailures: 0 };

export interface EvidenceLimits {
  /** Explained divergences kept in memory. */
  readonly keptMax: number;
}

export class EvidenceLog {
  readonly #clock: Clock;
  readonly #limits: EvidenceLimits;
  readonly #ring: CaptureRing | null;
  readonly #sample: LineLimiter;
  readonly #kept: ExplainedDivergence[] = [];
  readonly #recordings: CaptureRing[] = [];
  #seen = 0;
  #explained = 0;

  constructor(clock: Clock, limits: EvidenceLimits, ring: CaptureRing | null) {
    this.#clock = clock;
    this.#limits = limits;
    this.#ring = ring;
    this.#sample = new LineLimiter(clock, SAMPLE);
  }

  /** To be kept for one NIC and given to `record`; null when nothing is written. */
  keepClientFrames(): ClientFrames | null {
    return this.#ring === null ? null : new ClientFrames();
  }

  /**
   * The divergence explained, or null when it is left out of the sample. `frames` as ComparatorSink.diverged; `clients`
   * are those of the same NIC.
   */
  record(
    divergence: Divergence,
    frames: () => DivergenceFrame[],
    clients: ClientFrames | null = null,
  ): ExplainedDivergence | null {
    this.#seen++;
    if (this.#sample.take() < 0) return null;
    this.#explained++;
    const copies = frames();
    const { summary, field, advice, before, primary, secondary } = explain(divergence, copies);
    const wallOffsetMs = this.#clock.wallMs() - this.#clock.now();
    const one: ExplainedDivergence = {
      id: this.#seen,
      wallMs: divergence.atMs + wallOffsetMs,
      reason: divergence.reason,
      flow: divergence.flow,
      offset: divergence.offset,
      summary,
      field: field ?? null,
      advice,
      before: hex(before),
      primary: hex(primary),
      secondary: hex(secondary),
      file: this.#ring?.currentFile ?? null,
    };
    this.#kept.push(one);
    if (this.#kept.length > this.#limits.keptMax) this.#kept.shift();
    this.#write(one, copies, clients, wallOffsetMs);
    return one;
  }

  /** Latest first. */
  latest(countMax = this.#limits.keptMax): ExplainedDivergence[] {
    return this.#kept.slice(-countMax).reverse();
  }

  status(): EvidenceStatus {
    return {
      seen: this.#seen,
      explained: this.#explained,
      leftOut: this.#seen - this.#explained,
      ...(this.#ring?.status() ?? NOTHING_WRITTEN),
      recording: this.#recordings.length === 0 ? null : sum(this.#recordings.map((ring) => ring.status())),
    };
  }

  /** A flight recorder's ring: told of and closed together with the evidence. */
  addRecording(ring: CaptureRing): void {
    this.#recordings.push(ring);
  }

  async close(): Promise<void> {
    await Promise.all([this.#ring?.close(), ...this.#recordings.map((ring) => ring.close())]);
  }

  /** In the order of time; the explanation stands on the first frame of a VM. */
  #write(
    one: ExplainedDivergence,
    frames: readonly DivergenceFrame[],
    clients: ClientFrames | null,
    wallOffsetMs: number,
  ): void {
    const ring = this.#ring;
    const [first] = frames;
    if (ring === null || first === undefined) return;
    const text = explanationText(one);
    const given = (clients?.ofFlow(first) ?? []).map((frame) => ({
      ...frame,
      source: 'client',
      comment: `#${one.id} client: given to both VMs`,
    }));
    const sent = frames.map((frame) => {
      const verdict = `#${one.id} ${frame.side}: ${one.reason}`;
      return { ...frame, source: frame.side, comment: frame === first ? `${verdict}\n${text}` : verdict };
    });
    const all = [...given, ...sent].sort((a, b) => a.atMs - b.atMs);
    for (const { source, bytes, wireBytes, comment, atMs } of all) {
      ring.write({ source, bytes, wireBytes, comment, wallMs: atMs + wallOffsetMs });
    }
  }
}

function sum(rings: readonly RingStatus[]): RingStatus {
  return rings.reduce((total, one) => ({
    writtenBytes: total.writtenBytes + one.writtenBytes,
    framesLeftOut: total.framesLeftOut + one.framesLeftOut,
    writeFailures: total.writeFailures + one.writeFailures,
  }));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
