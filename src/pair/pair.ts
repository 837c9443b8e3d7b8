/**
 * One protected pair: who carries the traffic, when protection begins and ends, what the death of a VM leads to.
 *
 * Events come from four places (QMP of both VMs, the relay, the coordinator, the data plane) in any order. What
 * changes the pair's state runs one step at a time (`#serially`), and every step looks at the state anew.
 */
import { Coordinator } from '../checkpoint/coordinator.js';
import type { CheckpointLimits } from '../checkpoint/limits.js';
import type { CheckpointCause, Phase } from '../checkpoint/ports.js';
import { type ChannelEvent, Relay } from '../checkpoint/relay.js';
import type { Divergence, DivergenceReason } from '../compare/verdict.js';
import { DataPlane, type DataPlaneLimits, type Side } from '../dataplane/data-plane.js';
import { asColoError, type ColoError } from '../errors.js';
import { Announcer } from '../failover/announce.js';
import { primaryLostRule } from '../failover/rules.js';
import type { Link, LinkState } from '../link/link.js';
import type { Dialect } from '../protocol/dialect.js';
import { type Address, type ListenOptions, showAddress, type Transport } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';
import { LineLimiter } from '../system/line-limiter.js';
import type { Log } from '../system/log.js';
import { PairHistory } from './history.js';
import { snapshot } from './snapshot.js';
import type { PairStatus, ProtectionState } from './status.js';
import { Vm, type VmLimits } from './vm.js';

export interface PairLimits {
  readonly dataPlane: DataPlaneLimits;
  readonly checkpoint: CheckpointLimits;
  readonly vm: VmLimits;
  readonly bandwidthBytesPerSecondMax: number;
  /** Pause before protection is tried again after it could not begin, and between two looks at a migration. */
  readonly protectRetryMs: number;
  readonly announceCount: number;
  readonly announceEveryMs: number;
}

export interface PairParts {
  readonly name: string;
  readonly links: Readonly<Record<Side, Link>>;
  readonly qmp: { readonly primary: Address; readonly secondary: Address };
  /** Where the primary migrates to (the relay listens there), and where the secondary waits. */
  readonly migration: {
    readonly listen: Address;
    readonly connect: Address;
    readonly socket?: ListenOptions;
  };
  readonly dialect: Dialect;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: PairLimits;
  /** False: a VM's death is reported and nothing is promoted. */
  readonly failoverAuto: boolean;
  /** Keys the flow hash. */
  readonly flowSeed: number;
}

const CAUSE_OF_DIVERGENCE: Readonly<Partial<Record<DivergenceReason, CheckpointCause>>> = {
  'primary-only': 'one-sided',
  'secondary-only': 'one-sided',
  unknown: 'one-sided',
  limit: 'limit',
};

export class Pair {
  readonly dataPlane: DataPlane;
  readonly primary: Vm;
  readonly secondary: Vm;
  readonly relay: Relay;
  readonly coordinator: Coordinator;
  readonly history = new PairHistory();
  readonly #parts: PairParts;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #announcer: Announcer;
  readonly #divergenceLines: LineLimiter;
  readonly #loopLines: LineLimiter;

  #state: ProtectionState = 'unprotected';
  /** The first LOADED of this secondary was committed: it may be promoted. */
  #promotable = false;
  /** The secondary was seen waiting for a state to load, and has not been used yet. */
  #secondaryFresh = false;
  #stopping = false;
  #protectTimer: Timer | null = null;
  #channelOpen = false;
  #channelWaiters: (() => void)[] = [];
  readonly #linkProblems: Partial<Record<Side, string>> = {};
  #steps: Promise<void> = Promise.resolve();

  constructor(parts: PairParts) {
    this.#parts = parts;
    this.#log = parts.log;
    this.#clock = parts.clock;
    const { clock, limits, migration } = parts;
    this.dataPlane = new DataPlane({
      links: parts.links,
      clock,
      limits: limits.dataPlane,
      flowSeed: parts.flowSeed,
      events: {
        diverged: (divergence) => this.#diverged(divergence),
        linkChanged: (side, state, reason) => this.#linkChanged(side, state, reason),
        looped: (frames) => this.#looped(frames),
      },
    });
    this.primary = this.#vm('primary');
    this.secondary = this.#vm('secondary');
    this.relay = new Relay({
      listen: migration.listen,
      connect: migration.connect,
      clock,
      dialect: parts.dialect,
      transport: parts.transport,
      ...(migration.socket === undefined ? {} : { socket: migration.socket }),
      onWord: (direction, word) => this.coordinator.wordSeen(direction, word),
      onChannel: (event, detail) => this.#channelChanged(event, detail),
      onViolation: (error) => this.#log.error({ code: error.code }, `migration channel: ${error.message}`),
    });
    this.coordinator = new Coordinator({
      gate: this.dataPlane,
      trigger: () => this.primary.requestCheckpoint(),
      clock,
      limits: limits.checkpoint,
      primaryBytes: () => this.relay.counters.primaryBytes,
      events: {
        phaseChanged: (phase) => this.#phaseChanged(phase),
        protectedBegan: () => this.#protectedBegan(),
        checkpointDone: (record) => {
          this.history.checkpointDone(record);
          this.#log.debug({ ...record }, 'checkpoint done');
        },
        checkpointFailed: (phase, reason, waitedMs) =>
          this.#log.warn(
            { phase, waitedMs: Math.round(waitedMs), code: reason.code },
            `checkpoint not completed: ${reason.message}`,
          ),
        phaseLimit: (phase, waitedMs) => this.#phaseLimit(phase, waitedMs),
      },
    });
    this.#announcer = new Announcer(
      { clock, count: limits.announceCount, everyMs: limits.announceEveryMs },
      (frame) => this.dataPlane.announce(frame),
    );
    this.#divergenceLines = new LineLimiter(clock, { burstLines: 10, linesPerSecond: 1 });
    this.#loopLines = new LineLimiter(clock, { burstLines: 1, linesPerSecond: 0.1 });
  }

  /** Opens links, monitors and the relay; what is absent is waited for. Rejects when something can never work. */
  async start(): Promise<void> {
    await this.relay.start();
    await this.dataPlane.open();
    this.primary.start();
    this.secondary.start();
  }

  /**
   * Ends cleanly. Protection ends as if the secondary were lost: the primary goes on (resumed if a checkpoint had
   * paused it), the secondary is void and told to quit, and the held output leaves in order.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#protectTimer?.cancel();
    await this.#steps;
    if (this.#isProtecting()) await this.#primaryGoesOn('the proxy stops', false);
    this.#announcer.stop();
    this.coordinator.stop();
    await this.relay.stop();
    this.primary.stop();
    this.secondary.stop();
    await this.dataPlane.close();
  }

  /** Asks for a checkpoint now; ignored without protection. */
  requestCheckpoint(cause: CheckpointCause): void {
    this.coordinator.request(cause);
  }

  get state(): ProtectionState {
    return this.#state;
  }

  status(): PairStatus {
    return snapshot(this, this.#parts.name, this.#parts.links);
  }

  // --- protection -------------------------------------------------------------------------------------------

  async #vmConnected(role: 'primary' | 'secondary'): Promise<void> {
    if (role === 'secondary' && this.dataPlane.carrier === 'primary' && !this.#isProtecting()) {
      const { status } = await this.secondary.status();
      this.#secondaryFresh = status === 'inmigrate';
      if (!this.#secondaryFresh) {
        this.#log.warn(
          { status },
          'the secondary does not wait for a state: start it anew with -incoming defer',
        );
      }
    }
    if (role === 'primary' && !this.#isProtecting() && (await this.primary.coloMode()) === 'primary') {
      this.#log.warn({}, 'the primary is still under COLO from before: it goes on alone');
      await this.primary.leaveColo();
    }
    this.#considerProtecting();
  }

  #considerProtecting(): void {
    const isIdle = this.#state === 'unprotected' || this.#state === 'failed-over';
    if (!isIdle || this.#stopping || this.dataPlane.carrier !== 'primary') return;
    if (!this.#secondaryFresh || !this.primary.isConnected || !this.secondary.isConnected) return;
    this.#serially('protect', () => this.#protect());
  }

  async #protect(): Promise<void> {
    if (this.#isProtecting() || !this.#secondaryFresh || this.#stopping) return;
    const { listen, connect } = this.#parts.migration;
    this.#setState(this.#state === 'failed-over' ? 'resyncing' : 'starting', 'a fresh secondary is there');
    this.#secondaryFresh = false;
    try {
      const bandwidth = this.#parts.limits.bandwidthBytesPerSecondMax;
      await this.secondary.enableColo(bandwidth);
      await this.primary.enableColo(bandwidth);
      await this.secondary.listenForState(showAddress(connect));
      await this.primary.migrateTo(showAddress(listen));
      this.#watchMigration();
    } catch (error) {
      const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', 'protection could not begin');
      this.#log.error({ code: reason.code }, reason.message);
      await this.#primaryGoesOn(reason.message, false);
    }
  }

  /** A migration may fail, or end silently as a plain one: QMP tells. */
  #watchMigration(): void {
    this.#protectTimer = this.#clock.after(this.#parts.limits.protectRetryMs, () => {
      this.#serially('watch migration', async () => {
        if (!this.#isProtecting() || this.coordinator.coupled) return;
        const { status, errorText } = await this.primary.migration();
        if (status === 'failed' || status === 'completed' || status === 'cancelled') {
          const what = status === 'completed' ? 'ended as a plain migration, not as COLO' : status;
          await this.#primaryGoesOn(`the migration ${what} ${errorText}`.trim(), false);
        } else {
          this.#watchMigration();
        }
      });
    });
  }

  #protectedBegan(): void {
    this.#promotable = true;
    this.#setState('protected', 'the first checkpoint has been loaded');
  }

  #phaseChanged(phase: Phase): void {
    if (!this.#promotable) return;
    if (this.#state === 'protected' || this.#state === 'checkpointing') {
      this.#state = phase === 'idle' ? 'protected' : 'checkpointing';
    }
  }

  #isProtecting(): boolean {
    return this.#state !== 'unprotected' && this.#state !== 'failed-over';
  }

  // --- what ends it -----------------------------------------------------------------------------------------

  #channelChanged(event: ChannelEvent, detail: string): void {
    this.#log.info({ channel: event }, detail);
    switch (event) {
      case 'opened':
        this.#channelOpen = true;
        this.coordinator.channelOpened();
        return;
      case 'colo':
        return;
      case 'primary-lost':
        this.#serially('primary side lost', () => this.#protectionBroke(detail));
        return;
      case 'closed':
        this.#channelOpen = false;
        this.coordinator.channelClosed();
        for (const wake of this.#channelWaiters.splice(0)) wake();
        this.#serially('channel closed', () => this.#protectionBroke(detail));
    }
  }

  #phaseLimit(phase: Phase, waitedMs: number): void {
    const detail = `phase ${phase} ran out of time`;
    this.#log.warn({ code: 'COLO_ERR_PHASE_LIMIT', phase, waitedMs: Math.round(waitedMs) }, detail);
    this.#serially('phase limit', () => this.#protectionBroke(detail));
  }

  /** Protection is over and it is not known yet who is to blame: only a dead process is a death. */
  async #protectionBroke(detail: string): Promise<void> {
    if (!this.#isProtecting() || this.#stopping) return;
    if ((await this.primary.liveness()) === 'refused') return this.#vmDied('primary');
    const secondaryDied = (await this.secondary.liveness()) === 'refused';
    await this.#primaryGoesOn(secondaryDied ? 'the secondary died' : detail, secondaryDied);
  }

  async #vmDied(role: 'primary' | 'secondary'): Promise<void> {
    if (this.#stopping) return;
    if (role === 'secondary') {
      this.#secondaryFresh = false;
      if (this.dataPlane.carrier === 'secondary')
        this.#log.error({}, 'the secondary died: the service is down');
      if (this.#isProtecting()) await this.#primaryGoesOn('the secondary died', true);
      return;
    }
    if (this.dataPlane.carrier !== 'primary') return;
    if (this.#isProtecting()) await this.#primaryLost();
    else this.#log.error({}, 'the primary died without a secondary: the service is down');
  }

  async #primaryLost(): Promise<void> {
    const { phase } = this.coordinator;
    const rule = primaryLostRule(phase, this.#promotable);
    this.#log.warn({ phase, rule }, 'the primary died');
    if (rule === 'no-replica' || !this.#parts.failoverAuto) {
      const why = rule === 'no-replica' ? 'no checkpoint was loaded yet' : 'failover.auto is off';
      this.#log.error({}, `the secondary is not promoted: ${why}; the service is down`);
      return this.#primaryGoesOn('the primary died', false);
    }
    // The relay keeps the secondary's side open until LOADED, the secondary's own close, or its time limit.
    if (rule !== 'old-state') await this.#channelClosed();
    this.#promotable = false;
    this.#protectTimer?.cancel();
    this.relay.closeChannel();
    this.dataPlane.continueOnSecondary();
    await this.coordinator.abandon();
    this.history.failovers['primary-lost']++;
    this.#setState('failed-over', 'the secondary carries the traffic');
    this.#announcer.start(this.dataPlane.guest.addresses);
    try {
      await this.secondary.leaveColo();
    } catch (error) {
      const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', 'x-colo-lost-heartbeat on the secondary');
      this.#log.error({ code: reason.code }, reason.message);
    }
  }

  /**
   * The primary carries the traffic alone. Before the first held frame leaves, the old secondary is void for good:
   * channel closed, told to quit, its frames ignored; only a secondary that loads a new state may take part again.
   */
  async #primaryGoesOn(reason: string, secondaryDied: boolean): Promise<void> {
    this.#promotable = false;
    this.#secondaryFresh = false;
    this.#protectTimer?.cancel();
    this.relay.closeChannel();
    if (!secondaryDied) await this.secondary.quit();
    const left = this.primary.leaveColo().catch((error: unknown) => {
      const problem = asColoError(error, 'COLO_ERR_QMP_COMMAND', 'x-colo-lost-heartbeat on the primary');
      this.#log.error({ code: problem.code }, problem.message);
    });
    this.dataPlane.continueOnPrimary();
    await this.coordinator.abandon();
    if (secondaryDied) this.history.failovers['secondary-lost']++;
    this.#setState(secondaryDied ? 'failed-over' : 'unprotected', reason);
    await left;
  }

  #channelClosed(): Promise<void> {
    if (!this.#channelOpen) return Promise.resolve();
    return new Promise((resolve) => this.#channelWaiters.push(resolve));
  }

  #coloExited(role: 'primary' | 'secondary', reason: string): void {
    this.relay.leave(role);
    this.#serially('COLO_EXIT', () => this.#protectionBroke(`COLO_EXIT of the ${role}: ${reason}`));
  }

  // --- plumbing ---------------------------------------------------------------------------------------------

  #vm(role: 'primary' | 'secondary'): Vm {
    const { clock, log, transport, limits, qmp } = this.#parts;
    return new Vm({
      role,
      address: qmp[role],
      transport,
      clock,
      log,
      limits: limits.vm,
      events: {
        connected: () => this.#serially(`${role} connected`, () => this.#vmConnected(role)),
        died: () => this.#serially(`${role} died`, () => this.#vmDied(role)),
        coloExit: (reason) => this.#coloExited(role, reason),
      },
    });
  }

  #diverged(divergence: Divergence): void {
    this.history.lastDivergence = divergence;
    const leftOut = this.#divergenceLines.take();
    if (leftOut >= 0) {
      const { reason, flow, offset } = divergence;
      this.#log.info({ reason, flow, offset, leftOut }, 'the VMs diverged: asking for a checkpoint');
    }
    this.coordinator.request(CAUSE_OF_DIVERGENCE[divergence.reason] ?? 'divergence');
  }

  #looped(frames: number): void {
    const leftOut = this.#loopLines.take();
    if (leftOut < 0) return;
    const text =
      "frames with the guest's own MAC came from the client side and were dropped: a loop, or a second guest";
    this.#log.warn({ frames, leftOut }, text);
  }

  /** What a link waits for, for people; empty when it is up. */
  linkProblem(side: Side): string {
    return this.#linkProblems[side] ?? '';
  }

  /** A link that is waited for says why once, not at every attempt. */
  #linkChanged(side: Side, state: LinkState, reason: ColoError | undefined): void {
    const { url } = this.#parts.links[side];
    if (state === 'up') {
      delete this.#linkProblems[side];
      this.#log.info({ side, url, state }, 'link up');
    } else if (reason !== undefined && this.#linkProblems[side] !== reason.message) {
      this.#linkProblems[side] = reason.message;
      this.#log.warn({ side, url, state, code: reason.code }, reason.message);
    }
  }

  #setState(state: ProtectionState, reason: string): void {
    if (state === this.#state) return;
    this.#log.info({ from: this.#state, to: state, epoch: this.history.epoch }, `${state}: ${reason}`);
    this.#state = state;
  }

  /** Runs `step` after all earlier ones. A step that fails is logged; it never stops the next. */
  #serially(name: string, step: () => Promise<void>): void {
    this.#steps = this.#steps.then(step).catch((error: unknown) => {
      const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', name);
      this.#log.error({ code: reason.code }, reason.message);
    });
  }
}
