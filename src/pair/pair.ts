/** One protected pair: composed of its parts, and what may be asked of it. What protection does is in protection.ts. */
import { type CheckpointPlan, Coordinator } from '../checkpoint/coordinator.js';
import type { CheckpointCause, CheckpointMode, CheckpointRecord } from '../checkpoint/ports.js';
import { Relay } from '../checkpoint/relay.js';
import type { RuleSet } from '../compare/rules.js';
import type { Divergence, DivergenceFrame, DivergenceReason } from '../compare/verdict.js';
import { DataPlane, type Seat } from '../dataplane/data-plane.js';
import type { ClientFrames } from '../evidence/client-frames.js';
import { EvidenceLog } from '../evidence/evidence-log.js';
import type { Sign } from '../failover/detector.js';
import type { Log } from '../system/log.js';
import { Authority } from './authority.js';
import { DiskReplication } from './disk-replication.js';
import { Handover } from './handover.js';
import { Heartbeat } from './heartbeat.js';
import { PairHistory } from './history.js';
import { Keeper } from './keeper.js';
import { Narrator } from './narrator.js';
import { Nics } from './nics.js';
import type { NicLinks, PairParts } from './parts.js';
import { Protection } from './protection.js';
import { snapshot } from './snapshot.js';
import type { PairStatus, ProtectionState } from './status.js';
import { Vm } from './vm.js';

export type { NicLinks, PairLimits, PairParts } from './parts.js';

/** Without a configured log of evidence. */
const EVIDENCE_KEPT_MAX = 50;

const CAUSE_OF_DIVERGENCE: Readonly<Partial<Record<DivergenceReason, CheckpointCause>>> = {
  'primary-only': 'one-sided',
  'secondary-only': 'one-sided',
  unknown: 'one-sided',
  limit: 'limit',
};

export class Pair {
  readonly nics: Nics;
  readonly authority: Authority;
  readonly #keeper: Keeper;
  /** By seat; `primary` and `secondary` are those of today. */
  readonly vms: Readonly<Record<Seat, Vm>>;
  readonly relay: Relay;
  readonly coordinator: Coordinator;
  readonly protection: Protection;
  readonly handover: Handover;
  readonly history = new PairHistory();
  readonly evidence: EvidenceLog;
  readonly #parts: PairParts;
  readonly #log: Log;
  readonly #narrator: Narrator;
  readonly #heartbeat: Heartbeat;
  readonly #rightToSpeak: { readonly heldUntilMs: number };

  constructor(parts: PairParts) {
    this.#parts = parts;
    this.#log = parts.log;
    const { clock, limits, migration } = parts;
    this.evidence = parts.evidence ?? new EvidenceLog(clock, { keptMax: EVIDENCE_KEPT_MAX }, null);
    this.#narrator = new Narrator(clock, parts.log);
    this.authority = new Authority(parts, (generation) => this.#keeper.generation(generation));
    this.#rightToSpeak = rightToSpeak(this.authority.mandate, () => this.#keeper.isBehind);
    const planes = [parts.links, ...(parts.moreNics ?? [])].map((links, nic) => this.#dataPlane(links, nic));
    const announce = { clock, count: limits.announceCount, everyMs: limits.announceEveryMs };
    this.nics = new Nics(planes, announce);
    this.#keeper = new Keeper(parts, this.nics);
    this.vms = { primary: this.#vm('primary'), secondary: this.#vm('secondary') };
    this.relay = new Relay({
      listen: migration.listen,
      connect: () => migration.connect[this.secondary.seat],
      clock,
      dialect: parts.dialect,
      transport: parts.transport,
      ...(migration.socket === undefined ? {} : { socket: migration.socket }),
      onWord: (direction, word) => {
        this.#narrator.syncPoint(direction, word, this.coordinator.phase);
        return this.coordinator.wordSeen(direction, word);
      },
      onDialect: (name) => this.#log.info({ dialect: name }, `the VMs speak ${name}`),
      onChannel: (event, detail) => this.protection.channelChanged(event, detail),
      onViolation: (error) => this.#log.error({ code: error.code }, `migration channel: ${error.message}`),
    });
    this.coordinator = new Coordinator({
      gate: this.nics,
      trigger: () => this.primary.requestCheckpoint(),
      clock,
      limits: limits.checkpoint,
      primaryBytes: () => this.relay.counters.primaryBytes,
      events: {
        phaseChanged: (phase) => this.protection.phaseChanged(phase),
        protectedBegan: () => this.protection.protectedBegan(),
        checkpointDone: (record) => {
          this.history.checkpointDone(record);
          this.#log.debug({ ...record }, 'checkpoint done');
        },
        checkpointFailed: (phase, reason, waitedMs) =>
          this.#narrator.checkpointFailed(phase, reason, waitedMs),
        modeChanged: (plan, why) => this.#narrator.modeChanged(plan, why),
        guestShutDown: () =>
          this.protection.guestShutDown(this.primary.seat, 'guest-shutdown on the migration channel'),
        phaseLimit: (phase, waitedMs) => this.protection.phaseLimit(phase, waitedMs),
      },
    });
    const { vms, nics, relay, coordinator, authority, history } = this;
    const keeper = this.#keeper;
    const disks = parts.disks === undefined ? null : new DiskReplication(parts.disks, clock, parts.log);
    this.protection = new Protection({
      ...{ parts, vms, nics, relay, coordinator, authority, keeper, history, disks },
    });
    this.#heartbeat = new Heartbeat(this, clock, limits.detector, parts.probes ?? []);
    this.handover = new Handover({
      ...{ parts, vms, nics, relay, coordinator, authority, keeper, history, disks, clock },
      protection: this.protection,
      machineMs: () => Number(process.hrtime.bigint()) / 1e6,
    });
  }

  /** Opens links, monitors and the relay; what is absent is waited for. Rejects when something can never work. */
  async start(): Promise<void> {
    this.#keeper.restore();
    this.#keeper.start();
    await this.relay.start();
    this.authority.mandate.start(this.nics.carrier);
    await this.nics.open();
    this.#watchVms();
  }

  /** In place of `start`, after `handover.goOn`: another process has let go of everything. */
  async secure(): Promise<void> {
    await this.handover.secure();
    this.#watchVms();
  }

  /** Another process goes on: nothing of the pair is ended. */
  async letGo(): Promise<void> {
    this.#heartbeat.stop();
    await this.handover.release();
  }

  #watchVms(): void {
    this.vms.primary.start();
    this.vms.secondary.start();
    this.#heartbeat.start();
  }

  /**
   * Ends cleanly. Protection ends as if the secondary were lost: the primary goes on (resumed if a checkpoint had
   * paused it), the secondary is void and told to quit, and the held output leaves in order.
   */
  async stop(): Promise<void> {
    this.#heartbeat.stop();
    await this.protection.stop();
    this.#keeper.stop();
    this.coordinator.stop();
    await this.relay.stop();
    this.vms.primary.stop();
    this.vms.secondary.stop();
    await this.nics.close();
    await this.authority.mandate.stop();
  }

  /** Takes a checkpoint now. Rejects with COLO_ERR_CHECKPOINT when there can be none, or it was given up. */
  checkpoint(): Promise<CheckpointRecord> {
    return this.coordinator.take();
  }

  /** Changes how checkpoints are taken from the next one on, which follows at once. Throws COLO_ERR_USAGE. */
  chooseCheckpoints(change: { readonly mode?: CheckpointMode; readonly periodMs?: number }): CheckpointPlan {
    return this.coordinator.choose(change);
  }

  /**
   * Other rules, and limits of comparing that were changed in place. The rules hold from the next checkpoint on: one
   * follows at once.
   */
  reconfigureComparing(rules: RuleSet): void {
    for (const { comparator } of this.nics.planes) comparator.reconfigure(rules);
    this.checkpoint().catch(() => undefined); // unprotected: the pair's first checkpoint brings them
  }

  /** The VM that carries the traffic. */
  get primary(): Vm {
    return this.protection.primary;
  }

  /** The VM on the other seat: protects, is to protect, or is void. */
  get secondary(): Vm {
    return this.protection.secondary;
  }

  /** Of the first network interface. */
  get dataPlane(): DataPlane {
    return this.nics.planes[0]!;
  }

  /**
   * Planned: a checkpoint, so that both VMs are the same, then the other VM goes on and this one is told to quit. No
   * connection breaks. Rejects with COLO_ERR_FAILOVER or COLO_ERR_CHECKPOINT when it cannot be had.
   */
  async switchover(): Promise<void> {
    const { seat } = this.secondary;
    await this.coordinator.take();
    await this.protection.failover(seat, 'switchover');
  }

  /** Why the state file lags behind the roles, so that nothing leaves; empty when it does not. */
  get stateProblem(): string {
    return this.#keeper.isBehind ? this.#keeper.problem : '';
  }

  get state(): ProtectionState {
    return this.protection.state;
  }

  /** Signs that today's primary may be lost; see failover/detector.ts. */
  get signs(): readonly Sign[] {
    return this.#heartbeat.signs;
  }

  status(): PairStatus {
    return snapshot(this, this.#parts.name);
  }

  // --- plumbing ---------------------------------------------------------------------------------------------

  #dataPlane(links: NicLinks, nic: number): DataPlane {
    const { clock, limits, flowSeed, makeComparator } = this.#parts;
    const clients = this.evidence.keepClientFrames();
    return new DataPlane({
      links,
      clock,
      limits: limits.dataPlane,
      flowSeed,
      mandate: this.#rightToSpeak,
      ...(makeComparator === undefined
        ? {}
        : { makeComparator: (...needs) => makeComparator(nic, ...needs) }),
      ...(clients === null ? {} : { clientWitness: clients }),
      events: {
        diverged: (divergence, frames) => this.#diverged(divergence, frames, clients),
        linkChanged: (side, state, reason) => {
          this.#narrator.linkChanged(side, links[side].url, state, reason);
          if (state === 'up' && side !== 'client') this.protection.linkUp();
        },
        looped: (frames) => this.#narrator.looped(frames),
        signedUntranslated: (segments) => this.#narrator.signedUntranslated(segments),
      },
    });
  }

  #vm(seat: Seat): Vm {
    const { clock, log, transport, limits, qmp } = this.#parts;
    return new Vm({
      seat,
      address: qmp[seat],
      transport,
      clock,
      log,
      limits: limits.vm,
      events: {
        connected: () => this.protection.vmConnected(seat),
        died: () => this.protection.vmDied(seat),
        coloExit: (reason) => this.protection.coloExited(seat, reason),
        guestShutDown: (reason) => this.protection.guestShutDown(seat, reason),
        guestRebooted: () => this.protection.guestRebooted(seat),
      },
    });
  }

  #diverged(divergence: Divergence, frames: () => DivergenceFrame[], clients: ClientFrames | null): void {
    this.history.lastDivergence = divergence;
    if (divergence.reason === 'secondary-only') this.#heartbeat.outputIsMissing();
    const explained = this.evidence.record(divergence, frames, clients);
    if (this.coordinator.plan.mode === 'compare') this.#narrator.diverged(divergence, explained?.summary);
    this.coordinator.request(CAUSE_OF_DIVERGENCE[divergence.reason] ?? 'divergence');
  }

  /** What the link with this URL waits for, for people; empty when it is up. */
  linkProblem(url: string): string {
    return this.#narrator.linkProblem(url);
  }
}

/** The arbiter's word, and a state file that knows who carries the traffic. */
function rightToSpeak(
  mandate: { readonly heldUntilMs: number },
  isBehind: () => boolean,
): { readonly heldUntilMs: number } {
  return {
    get heldUntilMs() {
      return isBehind() ? Number.NEGATIVE_INFINITY : mandate.heldUntilMs;
    },
  };
}
