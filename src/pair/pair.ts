/**
 * One protected pair: who carries the traffic, when protection begins and ends, what the death of a VM leads to.
 *
 * Events come from four places (QMP of both VMs, the relay, the coordinator, the data plane) in any order. What
 * changes the pair's state runs one step at a time (`#serially`), and every step looks at the state anew.
 */
import { type CheckpointPlan, Coordinator } from '../checkpoint/coordinator.js';
import type { CheckpointCause, CheckpointMode, CheckpointRecord, Phase } from '../checkpoint/ports.js';
import { type ChannelEvent, Relay } from '../checkpoint/relay.js';
import type { Divergence, DivergenceFrame, DivergenceReason } from '../compare/verdict.js';
import { DataPlane, type Side } from '../dataplane/data-plane.js';
import { asColoError } from '../errors.js';
import { EvidenceLog } from '../evidence/evidence-log.js';
import { Announcer } from '../failover/announce.js';
import { primaryLostRule } from '../failover/rules.js';
import { showAddress } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';
import type { Log } from '../system/log.js';
import { PairHistory } from './history.js';
import { Narrator } from './narrator.js';
import type { PairParts } from './parts.js';
import { snapshot } from './snapshot.js';
import type { PairStatus, ProtectionState } from './status.js';
import { Vm } from './vm.js';

export type { PairLimits, PairParts } from './parts.js';

/** Without a configured log of evidence. */
const EVIDENCE_KEPT_MAX = 50;

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
  readonly evidence: EvidenceLog;
  readonly #parts: PairParts;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #announcer: Announcer;
  readonly #narrator: Narrator;

  #state: ProtectionState = 'unprotected';
  /** The first LOADED of this secondary was committed: it may be promoted. */
  #promotable = false;
  /** The secondary was seen waiting for a state to load, and has not been used yet. */
  #secondaryFresh = false;
  #stopping = false;
  #protectTimer: Timer | null = null;
  #channelOpen = false;
  #channelWaiters: (() => void)[] = [];
  /** The carrying VM's guest has shut down: what ends now was meant to end (trap T32). */
  #guestIsDown = false;
  #steps: Promise<void> = Promise.resolve();

  constructor(parts: PairParts) {
    this.#parts = parts;
    this.#log = parts.log;
    this.#clock = parts.clock;
    const { clock, limits, migration } = parts;
    this.evidence = parts.evidence ?? new EvidenceLog(clock, { keptMax: EVIDENCE_KEPT_MAX }, null);
    this.#narrator = new Narrator(clock, parts.log);
    this.dataPlane = new DataPlane({
      links: parts.links,
      clock,
      limits: limits.dataPlane,
      flowSeed: parts.flowSeed,
      events: {
        diverged: (divergence, frames) => this.#diverged(divergence, frames),
        linkChanged: (side, state, reason) =>
          this.#narrator.linkChanged(side, parts.links[side].url, state, reason),
        looped: (frames) => this.#narrator.looped(frames),
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
      onWord: (direction, word) => {
        this.#narrator.syncPoint(direction, word, this.coordinator.phase);
        return this.coordinator.wordSeen(direction, word);
      },
      onDialect: (name) => this.#log.info({ dialect: name }, `the VMs speak ${name}`),
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
          this.#narrator.checkpointFailed(phase, reason, waitedMs),
        modeChanged: (plan, why) => this.#narrator.modeChanged(plan, why),
        guestShutDown: () => this.#guestShutDown('primary', 'guest-shutdown on the migration channel'),
        phaseLimit: (phase, waitedMs) => this.#phaseLimit(phase, waitedMs),
      },
    });
    this.#announcer = new Announcer(
      { clock, count: limits.announceCount, everyMs: limits.announceEveryMs },
      (frame) => this.dataPlane.announce(frame),
    );
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

  /** Takes a checkpoint now. Rejects with COLO_ERR_CHECKPOINT when there can be none, or it was given up. */
  checkpoint(): Promise<CheckpointRecord> {
    return this.coordinator.take();
  }

  /** Changes how checkpoints are taken from the next one on, which follows at once. Throws COLO_ERR_USAGE. */
  chooseCheckpoints(change: { readonly mode?: CheckpointMode; readonly periodMs?: number }): CheckpointPlan {
    return this.coordinator.choose(change);
  }

  get state(): ProtectionState {
    return this.#state;
  }

  status(): PairStatus {
    return snapshot(this, this.#parts.name, this.#parts.links);
  }

  // --- protection -------------------------------------------------------------------------------------------

  async #vmConnected(role: 'primary' | 'secondary'): Promise<void> {
    if (role === this.dataPlane.carrier) this.#guestIsDown = false;
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
    if (this.#guestIsDown && role === this.dataPlane.carrier) return this.#guestEnded();
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
    // A guest that is down stays down: leaving COLO would run it again.
    const leaving = this.#guestIsDown ? Promise.resolve() : this.primary.leaveColo();
    const left = leaving.catch((error: unknown) => {
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

  /**
   * A guest that shuts itself down is no failure. The primary's decides for both: the secondary ends with it, and
   * nobody is promoted. The secondary's alone has run ahead, or has diverged: a checkpoint decides.
   */
  #guestShutDown(role: 'primary' | 'secondary', reason: string): void {
    this.#log.info({ vm: role, reason }, `the guest of the ${role} has shut down`);
    if (role !== this.dataPlane.carrier) {
      this.coordinator.request('vm');
      return;
    }
    this.#guestIsDown = true;
    this.#serially('guest shutdown', () => this.#guestEnded());
  }

  async #guestEnded(): Promise<void> {
    if (this.#isProtecting() && !this.#stopping) await this.#primaryGoesOn('the guest has shut down', false);
  }

  /** The other VM follows by loading a checkpoint. */
  #guestRebooted(role: 'primary' | 'secondary'): void {
    this.#log.info({ vm: role }, `the guest of the ${role} reboots`);
    if (role === this.dataPlane.carrier) this.#guestIsDown = false;
    this.coordinator.request('vm');
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
        guestShutDown: (reason) => this.#guestShutDown(role, reason),
        guestRebooted: () => this.#guestRebooted(role),
      },
    });
  }

  #diverged(divergence: Divergence, frames: () => DivergenceFrame[]): void {
    this.history.lastDivergence = divergence;
    const explained = this.evidence.record(divergence, frames);
    if (this.coordinator.plan.mode === 'compare') this.#narrator.diverged(divergence, explained?.summary);
    this.coordinator.request(CAUSE_OF_DIVERGENCE[divergence.reason] ?? 'divergence');
  }

  /** What a link waits for, for people; empty when it is up. */
  linkProblem(side: Side): string {
    return this.#narrator.linkProblem(this.#parts.links[side].url);
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
