/**
 * Decides when a checkpoint is taken and leads the data plane through it. It sees every word before its
 * receiver does (the relay holds the word until `wordSeen` resolves) and asks the primary through `trigger`.
 *
 * It never decides who is dead: a phase that runs out of time and a channel that closes are reported, and the
 * pair chooses between `abandon` (both VMs live: back to the old epoch) and a failover. What the secondary
 * would go on from when the channel closes: before RECEIVED its old state; between RECEIVED and LOADED it is
 * unknown; after LOADED the new one.
 */
import { asColoError, ColoError } from '../errors.js';
import { directionOf } from '../protocol/state-tables.js';
import { type Direction, SyncPoint } from '../protocol/sync-point.js';
import type { Clock, Timer } from '../system/clock.js';
import { CheckpointRequest } from './checkpoint-request.js';
import type { Run } from './checkpoint-run.js';
import {
  type CheckpointPlan,
  type CoordinatorEvents,
  type CoordinatorOptions,
  type CoordinatorStats,
  newCoordinatorStats,
} from './coordinator-contract.js';
import type { CheckpointLimits } from './limits.js';
import { COVERS_ENDED_EPOCH, COVERS_NEW_REQUESTS, PHASE_AFTER_WORD, PHASE_LIMIT } from './phase-table.js';
import type { CheckpointCause, CheckpointMode, CheckpointRecord, EpochGate, Phase } from './ports.js';
import { quiesce } from './quiesce.js';
import { brokenPair, CAUSES_OF_COMPARING, Schedule } from './schedule.js';

export type {
  CheckpointPlan,
  CoordinatorEvents,
  CoordinatorOptions,
  CoordinatorStats,
} from './coordinator-contract.js';

export class Coordinator {
  readonly #gate: EpochGate;
  readonly #trigger: () => Promise<void>;
  readonly #clock: Clock;
  readonly #limits: CheckpointLimits;
  readonly #events: CoordinatorEvents;
  readonly #primaryBytes: () => number;

  #phase: Phase = 'idle';
  #phaseSinceMs = 0;
  #phaseTimer: Timer | undefined;
  #epoch = 0;
  /** READY has passed and the channel is open. */
  #coupled = false;
  #protected = false;
  #run: Run | undefined;
  readonly #schedule: Schedule;
  #retryTimer: Timer | undefined;
  #putOffsInRow = 0;
  /** The gate is closed by us; what `abandon` has to undo. */
  #gateClosed = false;
  /** The secondary was stopped and has not loaded: its parked frames go back on `abandon`. */
  #secondaryParked = false;

  readonly stats: CoordinatorStats = newCoordinatorStats();

  constructor(options: CoordinatorOptions) {
    this.#gate = options.gate;
    this.#trigger = options.trigger;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#events = options.events;
    this.#primaryBytes = options.primaryBytes ?? (() => 0);
    this.#schedule = new Schedule(options.clock, options.limits, {
      isFree: () => this.#coupled && this.#phase === 'idle' && this.#run === undefined,
      begin: (request) => void this.#begin(request),
      periodOver: () => this.request('period'),
      modeChanged: (plan, why) => this.#events.modeChanged?.(plan, why),
    });
    this.#phaseSinceMs = this.#clock.now();
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Checkpoints loaded since the channel was opened. */
  get epoch(): number {
    return this.#epoch;
  }

  /** READY has passed: checkpoints can be taken. */
  get coupled(): boolean {
    return this.#coupled;
  }

  /** How checkpoints are taken in the present epoch; without a secondary: in the first. */
  get plan(): CheckpointPlan {
    return this.#schedule.plan;
  }

  /** Periodic because the outputs never agree, not because it was chosen. */
  get isAdapted(): boolean {
    return this.#schedule.isAdapted;
  }

  /** How long the present phase has lasted. */
  get phaseMs(): number {
    return this.#clock.now() - this.#phaseSinceMs;
  }

  /**
   * A checkpoint is wanted. Taken now, after the minimum distance, or not at all when one that runs covers it
   * (traps T25, T29). Without a secondary it is forgotten.
   */
  request(cause: CheckpointCause): void {
    if (!this.#coupled) return;
    if (this.plan.mode === 'periodic' && CAUSES_OF_COMPARING.includes(cause)) return;
    this.#ensure(cause);
  }

  /**
   * As `request('operator')`, and waits. Rejects with COLO_ERR_CHECKPOINT without a secondary, or when the
   * checkpoint was given up because the pair broke.
   */
  take(): Promise<CheckpointRecord> {
    if (!this.#coupled) {
      const text = 'no checkpoint can be taken: no secondary has come so far that it could load one';
      return Promise.reject(new ColoError('COLO_ERR_CHECKPOINT', text));
    }
    return this.#ensure('operator').wait();
  }

  /**
   * Changes how checkpoints are taken, from the end of the next one on, which is taken at once. `periodMs` as in
   * CheckpointPlan. Throws COLO_ERR_USAGE.
   */
  choose(change: { readonly mode?: CheckpointMode; readonly periodMs?: number }): CheckpointPlan {
    this.#schedule.choose(change);
    if (this.#coupled) this.#ensure('operator');
    else this.#schedule.followAtOnce();
    return this.#schedule.nextPlan;
  }

  /** The checkpoint that covers what is asked for now: in the making, wanted already, or wanted from now on. */
  #ensure(cause: CheckpointCause): CheckpointRequest {
    const covered = CAUSES_OF_COMPARING.includes(cause) || cause === 'limit' || cause === 'period';
    const phases = covered ? COVERS_ENDED_EPOCH : COVERS_NEW_REQUESTS;
    const covering = this.#schedule.wanted ?? (phases.includes(this.#phase) ? this.#run?.request : undefined);
    if (covering !== undefined) {
      this.stats.requestsCoalesced++;
      return covering;
    }
    const request = new CheckpointRequest(cause, this.#clock.now());
    this.#schedule.want(request);
    return request;
  }

  /**
   * In place of a migration: an earlier process has taken this many checkpoints, and closed the gate; `abandon` opens it.
   * `plan`: where an operator has chosen.
   */
  inherit(epoch: number, plan: CheckpointPlan | undefined): void {
    if (plan !== undefined) this.#schedule.choose(plan);
    this.#schedule.followAtOnce();
    this.#epoch = epoch;
    this.#coupled = true;
    this.#protected = true;
    this.#gateClosed = true;
    this.#schedule.armPeriod();
  }

  /** The primary has connected to the relay: the initial copy begins. */
  channelOpened(): void {
    this.#reset();
    this.#gateClosed = false;
    this.#secondaryParked = false;
    this.#epoch = 0;
    this.#schedule.restart();
    this.#enter('migrating');
  }

  /**
   * The channel is gone. Returns the phase it interrupted, or null when no checkpoint ran. The gate stays as
   * it is until the pair calls `abandon` or fails over. A commit that has begun is completed.
   */
  channelClosed(): Phase | null {
    const phase = this.#phase;
    const waitedMs = this.phaseMs;
    const interrupted = this.#run !== undefined && phase !== 'committing';
    if (phase === 'committing') {
      this.#coupled = false;
      this.#schedule.forget();
      return null;
    }
    this.#reset();
    this.#enter('idle');
    if (!interrupted) return null;
    this.#fail(phase, new ColoError('COLO_ERR_CHANNEL_LOST', 'the migration channel was closed'), waitedMs);
    return phase;
  }

  /** Both VMs live on in the old epoch: parked frames go back, the gate opens. Harmless when nothing was closed. */
  async abandon(): Promise<void> {
    const parked = this.#secondaryParked;
    const closed = this.#gateClosed;
    this.#secondaryParked = false;
    this.#gateClosed = false;
    if (parked) await this.#gate.abandon();
    if (closed) await this.#gate.openGate();
  }

  /** No more checkpoints and timers; the gate is left as it is. */
  stop(): void {
    this.#reset();
  }

  /**
   * The relay has seen a word and holds it until this resolves. Rejects with COLO_ERR_PROTOCOL_WORD when it is
   * out of place, or with the data plane's error: then it must not be forwarded.
   */
  async wordSeen(direction: Direction, word: SyncPoint): Promise<void> {
    const next = PHASE_AFTER_WORD[this.#phase][word];
    const inPlace = next !== undefined && directionOf(word) === direction;
    if (!inPlace || (word === SyncPoint.REQUEST && !this.#coupled)) {
      throw new ColoError('COLO_ERR_PROTOCOL_WORD', `${word} is out of place in phase ${this.#phase}`);
    }
    switch (word) {
      case SyncPoint.READY:
        return this.#ready();
      case SyncPoint.REQUEST:
        return this.#requested();
      case SyncPoint.REPLY:
        this.#enter('suspended');
        this.#secondaryParked = true;
        return this.#gate.secondaryStopped();
      case SyncPoint.SEND:
        return this.#primaryStopped();
      case SyncPoint.RECEIVED:
        this.#run!.stateBytes = this.#primaryBytes() - this.#run!.primaryBytesAtStop;
        this.#enter('loading');
        return;
      case SyncPoint.GUEST_SHUTDOWN:
        this.#events.guestShutDown?.();
        return;
      default:
        return this.#loaded();
    }
  }

  /** Client frames around the end of the initial copy reached one VM only: the gate stays closed until the first LOADED. */
  async #ready(): Promise<void> {
    this.#coupled = true;
    await this.#closeGate();
    this.#enter('idle');
    // Not before READY has been forwarded: the primary would not listen yet.
    this.#schedule.want(new CheckpointRequest('protect', this.#clock.now()));
  }

  async #requested(): Promise<void> {
    const run =
      this.#run ?? this.#startRun(this.#schedule.take() ?? new CheckpointRequest('vm', this.#clock.now()));
    run.requestSeen = true;
    run.requestSeenAtMs = this.#clock.now();
    this.#retryTimer?.cancel();
    const { quiet, frames } = await run.quiescence;
    if (this.#run !== run) return;
    if (!quiet) this.stats.framesMaybeLost += frames;
    this.#putOffsInRow = 0;
    this.#enter('suspending');
  }

  async #primaryStopped(): Promise<void> {
    const run = this.#run!;
    run.stoppedAtMs = this.#clock.now();
    run.primaryBytesAtStop = this.#primaryBytes();
    this.#enter('transferring');
    await this.#gate.primaryStopped();
  }

  async #loaded(): Promise<void> {
    const run = this.#run!;
    this.#enter('committing');
    this.#secondaryParked = false;
    const plan = this.#schedule.nextPlan;
    try {
      await this.#gate.commit(plan.mode);
    } catch (cause) {
      const waitedMs = this.phaseMs;
      this.#reset();
      this.#enter('idle');
      const error = asColoError(cause, 'COLO_ERR_CHANNEL_LOST', 'the data plane could not commit');
      this.#fail('committing', error, waitedMs);
      throw error;
    }
    const loadedAtMs = this.#clock.now();
    this.#epoch++;
    this.#schedule.follow(plan);
    if (!this.#protected && this.#coupled) {
      this.#protected = true;
      this.#events.protectedBegan();
    }
    void this.#finish(run, loadedAtMs);
  }

  /** LOADED is being forwarded; a client frame that a VM gets before it runs again waits in that VM's link. */
  async #finish(run: Run, loadedAtMs: number): Promise<void> {
    this.#gateClosed = false;
    try {
      await this.#gate.openGate();
    } catch (cause) {
      const waitedMs = this.phaseMs;
      this.#fail(
        'committing',
        asColoError(cause, 'COLO_ERR_CHANNEL_LOST', 'the gate did not open'),
        waitedMs,
      );
    }
    if (this.#run !== run) return; // another migration has begun meanwhile
    const nowMs = this.#clock.now();
    const { cause, atMs } = run.request;
    this.stats.checkpoints[cause]++;
    this.#run = undefined;
    this.#enter('idle');
    const record: CheckpointRecord = {
      epoch: this.#epoch,
      cause,
      requestedAtMs: atMs,
      begunAtMs: run.gateClosedAtMs,
      askedAtMs: run.askedAtMs,
      requestSeenAtMs: run.requestSeenAtMs,
      loadedAtMs,
      pauseMs: loadedAtMs - run.stoppedAtMs,
      gateClosedMs: nowMs - run.gateClosedAtMs,
      stateBytes: run.stateBytes,
    };
    this.#schedule.loaded(record);
    this.#events.checkpointDone(record);
    run.request.loaded(record);
    if (this.#coupled) this.#schedule.armPeriod();
    this.#schedule.pursue();
  }

  /** Our own checkpoint: quiesce, then ask the primary. */
  async #begin(wanted: CheckpointRequest): Promise<void> {
    const run = this.#startRun(wanted);
    const { quiet, frames } = await run.quiescence;
    if (this.#run !== run || run.requestSeen) return;
    if (!quiet && this.#putOffsInRow < this.#limits.putOffsMax) {
      this.#putOffsInRow++;
      this.stats.putOffs++;
      this.#events.checkpointPutOff?.(frames, this.phaseMs);
      this.#putOff(run);
      return;
    }
    if (!quiet) this.stats.framesMaybeLost += frames;
    this.#putOffsInRow = 0;
    this.#limitPhase();
    await this.#ask(run);
  }

  async #ask(run: Run): Promise<void> {
    this.stats.triggers++;
    run.askedAtMs ||= this.#clock.now();
    this.#retryTimer = this.#clock.after(this.#limits.requestRetryMs, () => void this.#ask(run));
    try {
      await this.#trigger();
    } catch (cause) {
      if (this.#run !== run || run.requestSeen) return;
      const waitedMs = this.phaseMs;
      this.#putOff(run);
      const reason = asColoError(cause, 'COLO_ERR_QMP_COMMAND', 'the primary could not be asked');
      this.#fail('quiescing', reason, waitedMs);
    }
  }

  #startRun(request: CheckpointRequest): Run {
    const nowMs = this.#clock.now();
    this.#enter('quiescing');
    this.#phaseTimer?.cancel();
    const closed = this.#closeGate();
    const run: Run = {
      request,
      gateClosedAtMs: nowMs,
      quiescence: quiesce(closed, this.#gate, this.#clock, this.#limits),
      requestSeen: false,
      askedAtMs: 0,
      requestSeenAtMs: 0,
      stoppedAtMs: 0,
      primaryBytesAtStop: 0,
      stateBytes: 0,
    };
    this.#run = run;
    return run;
  }

  /** Given up before QEMU began: the gate opens and the same cause is tried again after the distance. */
  #putOff(run: Run): void {
    this.#retryTimer?.cancel();
    this.#run = undefined;
    this.#enter('idle');
    void this.abandon().catch(() => undefined);
    this.#schedule.putOff(run.request);
  }

  #closeGate(): Promise<void> {
    this.#gateClosed = true;
    return this.#gate.closeGate();
  }

  #fail(phase: Phase, reason: ColoError, waitedMs: number): void {
    this.stats.checkpointsFailed++;
    this.#events.checkpointFailed(phase, reason, waitedMs);
  }

  #enter(phase: Phase): void {
    this.#phaseTimer?.cancel();
    this.#phaseTimer = undefined;
    if (phase !== this.#phase) {
      this.#phase = phase;
      this.#phaseSinceMs = this.#clock.now();
      this.#events.phaseChanged(phase);
    }
    this.#limitPhase();
  }

  #limitPhase(): void {
    const name = PHASE_LIMIT[this.#phase];
    if (name === undefined) return;
    const phase = this.#phase;
    this.#phaseTimer?.cancel();
    this.#phaseTimer = this.#clock.after(this.#limits[name], () => {
      this.#retryTimer?.cancel();
      this.#events.phaseLimit(phase, this.phaseMs);
    });
  }

  #reset(): void {
    this.#schedule.reset();
    this.#run?.request.failed(brokenPair());
    this.#phaseTimer?.cancel();
    this.#retryTimer?.cancel();
    this.#coupled = false;
    this.#protected = false;
    this.#run = undefined;
    this.#putOffsInRow = 0;
  }
}
