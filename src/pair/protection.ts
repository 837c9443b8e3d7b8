/**
 * When protection begins and ends, and what the death of a VM leads to.
 *
 * Events come from four places (QMP of both VMs, the relay, the coordinator, an operator) in any order. What changes the
 * state runs one step at a time (StepQueue), and every step looks at the state anew.
 */
import type { Phase } from '../checkpoint/ports.js';
import type { ChannelEvent } from '../checkpoint/relay.js';
import { otherSeat, type Seat } from '../dataplane/data-plane.js';
import { asColoError, ColoError } from '../errors.js';
import type { ClaimReason } from '../failover/arbiter.js';
import { primaryLostRule } from '../failover/rules.js';
import { sleep, type Timer } from '../system/clock.js';
import type { Log } from '../system/log.js';
import { InitialCopy } from './initial-copy.js';
import type { Protectors } from './protectors.js';
import type { ProtectionState } from './status.js';
import { StepQueue } from './step-queue.js';
import { Takeover } from './takeover.js';
import type { Vm } from './vm.js';

/** Between two looks at a checkpoint that must end first. */
const QUIET_LOOK_MS = 1;

export class Protection {
  readonly copy: InitialCopy;
  readonly #with: Protectors;
  readonly #log: Log;
  /** What changes the state. */
  readonly steps: StepQueue;
  readonly #takeover: Takeover;
  #state: ProtectionState = 'unprotected';
  /** The first LOADED of this secondary was committed: it may be promoted. */
  #promotable = false;
  /** Until the arbiter is asked again. */
  #again: Timer | null = null;
  /** The secondary was seen waiting for a state to load, and has not been used yet. */
  #secondaryFresh = false;
  #stopping = false;
  /** The last process died while it protected, perhaps in the middle of beginning to. */
  #recovers: boolean;
  /** The carrying VM's guest has shut down: what ends now was meant to end (trap T32). */
  #guestIsDown = false;

  constructor(protectors: Protectors) {
    this.#with = protectors;
    const { parts } = protectors;
    this.#log = parts.log;
    this.steps = new StepQueue(parts.log);
    this.#takeover = new Takeover(protectors);
    this.#recovers = protectors.keeper.found.protecting;
    this.copy = new InitialCopy(parts, protectors.disks);
  }

  get state(): ProtectionState {
    return this.#state;
  }

  /** A survivor is there that may be promoted. */
  get isProtected(): boolean {
    return this.#promotable && this.#isProtecting();
  }

  /** The VM that carries the traffic. */
  get primary(): Vm {
    return this.#with.vms[this.#with.nics.carrier];
  }

  /** The VM on the other seat: protects, is to protect, or is void. */
  get secondary(): Vm {
    return this.#with.vms[otherSeat(this.#with.nics.carrier)];
  }

  /** As if the secondary were lost: the primary goes on, the secondary is told to quit, what is held leaves. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.copy.end();
    this.#takeover.stop();
    this.#again?.cancel();
    await this.steps.idle();
    if (this.#isProtecting()) await this.#primaryGoesOn('the proxy stops', false);
  }

  /** What a survivor was told and did not take; empty when all is well. */
  get survivorProblem(): string {
    return this.#takeover.problem;
  }

  /** In place of everything that led there: an earlier process has handed the pair over. */
  inherit(state: ProtectionState): void {
    this.#recovers = false;
    this.#state = state === 'checkpointing' ? 'protected' : state;
    this.#promotable = this.#isProtecting();
  }

  // --- what an operator asks for ------------------------------------------------------------------------------

  /** Begins protection with the fresh secondary that is there. Rejects with COLO_ERR_FAILOVER when there is none. */
  protect(): Promise<void> {
    return this.steps.run('protect', async () => {
      if (this.#isProtecting()) throw refusal(`the pair is ${this.#state}`);
      if (!this.#secondaryFresh) {
        throw refusal(
          `no VM on the seat ${this.secondary.seat} waits for a state: start it with -incoming defer`,
        );
      }
      if (!this.#with.nics.secondaryIsLinked) throw refusal(`a link of the ${this.secondary.seat} is not up`);
      await this.#protect();
      if (!this.#isProtecting()) throw refusal('protection could not begin: the log says why');
    });
  }

  /** Gives the secondary up, protected or still being loaded. */
  unprotect(): Promise<void> {
    return this.steps.run('unprotect', async () => {
      if (!this.#isProtecting()) throw refusal(`the pair is ${this.#state}`);
      await this.#primaryGoesOn('given up by the operator', false);
    });
  }

  /** The VM on that seat goes on alone; the other one is void and told to quit. */
  failover(
    seat: Seat,
    reason: ClaimReason = seat === this.primary.seat ? 'continue-primary' : 'promote-secondary',
  ): Promise<void> {
    return this.steps.run('failover', async () => {
      if (seat === this.primary.seat) {
        if (!this.#isProtecting()) throw refusal(`the seat ${seat} carries the traffic already`);
        return this.#primaryGoesOn('given up by the operator', false);
      }
      if (!this.isProtected) throw refusal(`the VM on the seat ${seat} has loaded no checkpoint`);
      const rule = primaryLostRule(this.#with.coordinator.phase, true);
      if (rule !== 'old-state') await this.#channelQuiet();
      const { phase } = this.#with.coordinator;
      if (primaryLostRule(phase, true) !== 'old-state') {
        throw refusal(`the secondary has not loaded the checkpoint in time: phase ${phase}`);
      }
      if (!this.isProtected) throw refusal(`protection has ended meanwhile: ${this.#state}`);
      if (!(await this.#with.authority.allows(reason, seat))) {
        throw new ColoError('COLO_ERR_ARBITER', this.#with.authority.mandate.problem || 'fencing failed');
      }
      await this.#promote();
    });
  }

  /** The VM on that seat does not answer and takes nothing, though its process may be there. */
  vmSilent(seat: Seat, signs: string): void {
    this.steps.add(`${seat} silent`, async () => {
      if (!this.isProtected || this.#stopping) return;
      this.#log.warn({ vm: seat, signs }, `the ${this.#roleOf(seat)} is lost without having died`);
      if (this.#roleOf(seat) === 'primary') await this.#primaryLost();
      else await this.#primaryGoesOn('the secondary is silent', true);
    });
  }

  // --- protection ---------------------------------------------------------------------------------------------

  vmConnected(seat: Seat): void {
    this.steps.add(`${seat} connected`, () => this.#vmConnected(seat));
  }

  async #vmConnected(seat: Seat): Promise<void> {
    const role = this.#roleOf(seat);
    if (role === 'primary') this.#guestIsDown = false;
    if (role === 'secondary' && !this.#isProtecting()) {
      const { status } = await this.secondary.status();
      this.#secondaryFresh = status === 'inmigrate';
      if (!this.#secondaryFresh && (await this.secondary.coloMode()) === 'secondary') {
        this.#log.warn({}, 'a secondary of before is still there: it is void and told to quit');
        await this.secondary.quit();
      } else if (!this.#secondaryFresh) {
        this.#log.warn(
          { status },
          'the secondary does not wait for a state: start it anew with -incoming defer',
        );
      }
    }
    if (role === 'primary' && !this.#isProtecting() && (await this.primary.coloMode()) !== 'none') {
      this.#log.warn({}, 'the primary is still under COLO from before: it goes on alone');
      await this.#with.disks?.leaveOnPrimary(this.primary.monitor);
      await this.primary.leaveColo();
      this.#with.nics.announce();
    }
    if (role === 'primary' && !this.#isProtecting() && this.#recovers) {
      this.#recovers = false;
      await this.#with.disks?.recover(this.primary.monitor);
    }
    this.#considerProtecting();
  }

  #considerProtecting(): void {
    if (this.#with.parts.protectAuto === false) return;
    const isIdle = this.#state === 'unprotected' || this.#state === 'failed-over';
    if (!isIdle || this.#stopping) return;
    if (!this.#secondaryFresh || !this.primary.isConnected || !this.secondary.isConnected) return;
    // Without its link nothing could be fed to it or compared: all output would be held.
    if (!this.#with.nics.secondaryIsLinked) return;
    this.steps.add('protect', () => this.#protect());
  }

  /** A link of a VM has come up. */
  linkUp(): void {
    this.#considerProtecting();
  }

  async #protect(): Promise<void> {
    if (this.#isProtecting() || !this.#secondaryFresh || this.#stopping) return;
    this.#with.keeper.mustSave({ protecting: true });
    this.#setState(this.#state === 'failed-over' ? 'resyncing' : 'starting', 'a fresh secondary is there');
    this.#secondaryFresh = false;
    try {
      await this.copy.begin(this.primary, this.secondary);
      this.#watchCopy();
    } catch (error) {
      const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', 'protection could not begin');
      this.#log.error({ code: reason.code }, reason.message);
      await this.#primaryGoesOn(reason.message, false);
    }
  }

  #watchCopy(): void {
    this.copy.watch(() => {
      this.steps.add('watch the copy', async () => {
        const isOver = this.#promotable || this.#with.coordinator.coupled;
        if (!this.#isProtecting() || isOver) return this.copy.end();
        const problem = await this.#advanceCopy();
        if (problem === null) this.#watchCopy();
        else await this.#protectionBroke(problem);
      });
    });
  }

  async #advanceCopy(): Promise<string | null> {
    try {
      return await this.copy.advance(this.primary, this.secondary);
    } catch (error) {
      return asColoError(error, 'COLO_ERR_QMP_COMMAND', 'the initial copy').message;
    }
  }

  protectedBegan(): void {
    this.#with.disks?.coupled();
    this.#promotable = true;
    this.#setState('protected', 'the first checkpoint has been loaded');
  }

  phaseChanged(phase: Phase): void {
    if (!this.#promotable) return;
    if (this.#state === 'protected' || this.#state === 'checkpointing') {
      this.#state = phase === 'idle' ? 'protected' : 'checkpointing';
    }
  }

  #isProtecting(): boolean {
    return this.#state !== 'unprotected' && this.#state !== 'failed-over';
  }

  // --- what ends it -----------------------------------------------------------------------------------------

  channelChanged(event: ChannelEvent, detail: string): void {
    this.#log.info({ channel: event }, detail);
    switch (event) {
      case 'opened':
        this.#with.coordinator.channelOpened();
        return;
      case 'colo':
        return;
      case 'primary-lost':
        this.steps.add('primary side lost', () => this.#protectionBroke(detail));
        return;
      case 'closed':
        this.#with.coordinator.channelClosed();
        this.steps.add('channel closed', () => this.#protectionBroke(detail));
    }
  }

  phaseLimit(phase: Phase, waitedMs: number): void {
    const detail = `phase ${phase} ran out of time`;
    this.#log.warn({ code: 'COLO_ERR_PHASE_LIMIT', phase, waitedMs: Math.round(waitedMs) }, detail);
    this.steps.add('phase limit', () => this.#protectionBroke(detail));
  }

  /**
   * Protection is over and it is not known yet who is to blame. A dead process is a death; a primary that does not answer
   * either has two signs against it. Whenever both answer, or it cannot be known, the primary goes on.
   */
  async #protectionBroke(detail: string): Promise<void> {
    if (!this.#isProtecting() || this.#stopping) return;
    const primary = await this.primary.liveness();
    if (primary === 'refused') return this.#vmDied(this.primary.seat);
    let secondary = await this.secondary.liveness();
    if (primary === 'unknown' && secondary === 'unknown') {
      // A secondary that loads the state of a primary that hangs, hangs with it.
      this.#with.relay.closeChannel('primary');
      secondary = await this.secondary.liveness();
    }
    if (primary === 'unknown' && secondary === 'alive' && this.isProtected) {
      this.#log.warn({ detail }, 'the primary does not answer, and what it was asked for did not come');
      return this.#primaryLost();
    }
    const secondaryDied = secondary === 'refused';
    await this.#primaryGoesOn(secondaryDied ? 'the secondary died' : detail, secondaryDied);
  }

  vmDied(seat: Seat): void {
    this.steps.add(`${seat} died`, () => this.#vmDied(seat));
  }

  async #vmDied(seat: Seat): Promise<void> {
    if (this.#stopping) return;
    const role = this.#roleOf(seat);
    if (this.#guestIsDown && role === 'primary') return this.#guestEnded();
    if (role === 'secondary') {
      this.#secondaryFresh = false;
      if (this.#isProtecting()) await this.#primaryGoesOn('the secondary died', true);
      return;
    }
    if (this.#isProtecting()) await this.#primaryLost();
    else this.#serviceIsDown('the primary died without a secondary');
  }

  #serviceIsDown(why: string): void {
    this.#with.nics.stopAnnouncing();
    this.#log.error({}, `${why}; the service is down`);
  }

  async #primaryLost(): Promise<void> {
    const { phase } = this.#with.coordinator;
    const rule = primaryLostRule(phase, this.#promotable);
    this.#log.warn({ phase, rule }, 'the primary is lost');
    if (rule === 'no-replica' || !this.#with.parts.failoverAuto) {
      const why = rule === 'no-replica' ? 'no checkpoint was loaded yet' : 'failover.auto is off';
      this.#serviceIsDown(`the secondary is not promoted: ${why}`);
      return this.#primaryGoesOn('the primary died', false);
    }
    if (rule !== 'old-state') this.#with.relay.closeChannel('primary'); // it may hang without having died
    // The relay keeps the secondary's side open until LOADED, the secondary's own close, or its time limit.
    const [isAllowed] = await Promise.all([
      this.#with.authority.allows('promote-secondary', this.secondary.seat),
      rule === 'old-state' ? undefined : this.#with.relay.whenClosed(),
    ]);
    if (!isAllowed) return this.#tryAgain('promotion', () => this.#primaryLost());
    await this.#promote();
  }

  async #promote(): Promise<void> {
    this.#promotable = false;
    this.copy.end();
    await this.#takeover.promote(() =>
      this.#setState('failed-over', `the VM on the seat ${this.primary.seat} carries the traffic`),
    );
  }

  async #primaryGoesOn(reason: string, secondaryDied: boolean): Promise<void> {
    const { authority } = this.#with;
    // A secondary that never loaded a state cannot have gone on anywhere: then there is nothing to ask.
    if (this.#promotable) {
      const isHeld = await authority.mandate.claim('continue-primary', this.primary.seat);
      if (isHeld && !secondaryDied && this.#mayPromote && !(await this.#takeover.primaryLeaves())) {
        this.#log.warn({ reason }, 'the primary answers, but cannot go on');
        return this.#primaryLost();
      }
      if (!isHeld || !(await authority.fences(this.secondary.seat))) {
        if (!this.#stopping) this.#tryAgain('going on', () => this.#primaryGoesOn(reason, secondaryDied));
        return;
      }
    }
    this.#promotable = false;
    this.#secondaryFresh = false;
    this.copy.end();
    await this.#takeover.goOn({ secondaryDied, guestIsDown: this.#guestIsDown }, () =>
      this.#setState(secondaryDied ? 'failed-over' : 'unprotected', reason),
    );
  }

  /** The secondary could take the primary's place, which is therefore asked to go on before the secondary is void. */
  get #mayPromote(): boolean {
    const rule = primaryLostRule(this.#with.coordinator.phase, this.#promotable);
    const hasOldState = rule === 'old-state' || rule === 'wait-received';
    return hasOldState && this.#with.parts.failoverAuto && !this.#stopping && !this.#guestIsDown;
  }

  /** The arbiter said no, or nothing: output has stopped, and it is asked again as long as nothing else has come. */
  #tryAgain(what: string, step: () => Promise<void>): void {
    const { clock, limits } = this.#with.parts;
    this.#again?.cancel();
    this.#again = clock.after(limits.mandate.retryMs, () => {
      this.steps.add(what, async () => {
        if (this.#isProtecting() && !this.#stopping) await step();
      });
    });
  }

  /** A checkpoint that is under way has been loaded, or given up: then it is known which state the secondary has. */
  async #channelQuiet(): Promise<void> {
    const { coordinator, parts } = this.#with;
    const endMs = parts.clock.now() + parts.limits.checkpoint.loadMsMax;
    while (coordinator.phase !== 'idle' && parts.clock.now() < endMs) await sleep(parts.clock, QUIET_LOOK_MS);
  }

  coloExited(seat: Seat, reason: string): void {
    const role = this.#roleOf(seat);
    this.#with.relay.leave(role);
    this.steps.add('COLO_EXIT', async () => {
      if (this.#isProtecting()) return this.#protectionBroke(`COLO_EXIT of the ${role}: ${reason}`);
      // It came under COLO only after it had been given up, and now waits, stopped, to be told what to do.
      if (role === 'primary' && reason !== 'request') await this.primary.leaveColo();
    });
  }

  /**
   * A guest that shuts itself down is no failure. The primary's decides for both: the secondary ends with it, and
   * nobody is promoted. The secondary's alone has run ahead, or has diverged: a checkpoint decides.
   */
  guestShutDown(seat: Seat, reason: string): void {
    const role = this.#roleOf(seat);
    this.#log.info({ vm: seat, reason }, `the guest of the ${role} has shut down`);
    if (role === 'secondary') {
      this.#with.coordinator.request('vm');
      return;
    }
    this.#guestIsDown = true;
    this.steps.add('guest shutdown', () => this.#guestEnded());
  }

  async #guestEnded(): Promise<void> {
    if (this.#isProtecting() && !this.#stopping) await this.#primaryGoesOn('the guest has shut down', false);
  }

  /** The other VM follows by loading a checkpoint. */
  guestRebooted(seat: Seat): void {
    this.#log.info({ vm: seat }, `the guest of the ${this.#roleOf(seat)} reboots`);
    if (seat === this.#with.nics.carrier) this.#guestIsDown = false;
    this.#with.coordinator.request('vm');
  }

  #roleOf(seat: Seat): 'primary' | 'secondary' {
    return seat === this.#with.nics.carrier ? 'primary' : 'secondary';
  }

  #setState(state: ProtectionState, reason: string): void {
    if (state === this.#state) return;
    this.#log.info({ from: this.#state, to: state, epoch: this.#with.history.epoch }, `${state}: ${reason}`);
    this.#state = state;
  }
}

function refusal(what: string): ColoError {
  return new ColoError('COLO_ERR_FAILOVER', what);
}
