/** What the pair says of itself in the log: bounded, and once for what does not change. */
import type { CheckpointPlan } from '../checkpoint/coordinator.js';
import type { Phase } from '../checkpoint/ports.js';
import type { Divergence } from '../compare/verdict.js';
import type { Side } from '../dataplane/data-plane.js';
import type { ColoError } from '../errors.js';
import type { LinkState } from '../link/link.js';
import type { Direction, SyncPoint } from '../protocol/sync-point.js';
import type { Clock } from '../system/clock.js';
import { LineLimiter } from '../system/line-limiter.js';
import type { Log } from '../system/log.js';

export class Narrator {
  readonly #log: Log;
  readonly #divergenceLines: LineLimiter;
  readonly #loopLines: LineLimiter;
  readonly #signedLines: LineLimiter;
  readonly #linkProblems = new Map<string, string>();

  constructor(clock: Clock, log: Log) {
    this.#log = log;
    this.#divergenceLines = new LineLimiter(clock, { burstLines: 10, linesPerSecond: 1 });
    this.#loopLines = new LineLimiter(clock, { burstLines: 1, linesPerSecond: 0.1 });
    this.#signedLines = new LineLimiter(clock, { burstLines: 1, linesPerSecond: 0.1 });
  }

  /** `summary`: the divergence explained; undefined when it was one of too many. */
  diverged({ reason, flow, offset }: Divergence, summary: string | undefined): void {
    const leftOut = this.#divergenceLines.take();
    if (leftOut < 0) return;
    this.#log.info(
      { reason, flow, offset, leftOut },
      `the VMs diverged, asking for a checkpoint: ${summary ?? reason}`,
    );
  }

  looped(frames: number): void {
    const leftOut = this.#loopLines.take();
    if (leftOut < 0) return;
    const text =
      "frames with the guest's own MAC came from the client side and were dropped: a loop, or a second guest";
    this.#log.warn({ frames, leftOut }, text);
  }

  signedUntranslated(segments: number): void {
    const leftOut = this.#signedLines.take();
    if (leftOut < 0) return;
    const text =
      'segments signed with TCP MD5 or AO passed untranslated: their connections do not live through a failover';
    this.#log.warn({ segments, leftOut }, text);
  }

  /** What a link waits for, for people; empty when it is up. */
  linkProblem(url: string): string {
    return this.#linkProblems.get(url) ?? '';
  }

  /** A link that is waited for says why once, not at every attempt. */
  linkChanged(side: Side, url: string, state: LinkState, reason: ColoError | undefined): void {
    if (state === 'up') {
      this.#linkProblems.delete(url);
      this.#log.info({ side, url, state }, 'link up');
    } else if (reason !== undefined && this.#linkProblems.get(url) !== reason.message) {
      this.#linkProblems.set(url, reason.message);
      this.#log.warn({ side, url, state, code: reason.code }, reason.message);
    }
  }

  /** Every sync-point: a trace, at debug level. */
  syncPoint(direction: Direction, word: SyncPoint, phase: Phase): void {
    this.#log.debug({ direction, word, phase }, 'sync-point');
  }

  modeChanged({ mode, periodMs }: CheckpointPlan, why: string): void {
    const text = mode === 'periodic' ? `periodic checkpoints every ${periodMs} ms` : 'outputs are compared';
    this.#log.info({ mode, periodMs, why }, `${text}: ${why}`);
  }

  checkpointFailed(phase: Phase, reason: ColoError, waitedMs: number): void {
    this.#log.warn(
      { phase, waitedMs: Math.round(waitedMs), code: reason.code },
      `checkpoint not completed: ${reason.message}`,
    );
  }
}
