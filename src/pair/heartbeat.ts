import type { Phase } from '../checkpoint/ports.js';
import { Detector, type DetectorLimits, type Sign } from '../failover/detector.js';
import { Probe, type ProbeOptions } from '../failover/probe.js';
import type { Clock, Timer } from '../system/clock.js';
import type { Pair } from './pair.js';
import type { Vm } from './vm.js';

/** The secondary has stopped and the primary's word is due: vmstate-send, or its state. Its monitor answers meanwhile. */
const OWING_PHASES: ReadonlySet<Phase> = new Set(['suspended', 'transferring']);
/** While the secondary loads, and during the commit, nothing is expected of the primary. */
const WATCHED_PHASES: ReadonlySet<Phase> = new Set(['idle', 'quiescing', 'suspending', ...OWING_PHASES]);

/** Asks today's primary whether it is there, and tells protection when the signs say that it is not. */
export class Heartbeat {
  readonly #pair: Pair;
  readonly #clock: Clock;
  readonly #limits: DetectorLimits;
  readonly #detector: Detector;
  readonly #probes: readonly Probe[];
  #watched: Vm | null = null;
  #timer: Timer | null = null;

  constructor(pair: Pair, clock: Clock, limits: DetectorLimits, probes: readonly ProbeOptions[]) {
    this.#pair = pair;
    this.#clock = clock;
    this.#limits = limits;
    this.#detector = new Detector(limits);
    this.#probes = probes.map((options) => new Probe(options, clock));
  }

  start(): void {
    for (const probe of this.#probes) probe.start();
    this.#timer = this.#clock.every(this.#limits.heartbeatEveryMs, () => this.#look());
  }

  stop(): void {
    for (const probe of this.#probes) probe.stop();
    this.#timer?.cancel();
  }

  /** Those of today's primary now, for the status. */
  get signs(): readonly Sign[] {
    return this.#watched === null ? [] : this.#detector.signs();
  }

  /** The secondary alone has sent something, for as long as the hold timer waits. */
  outputIsMissing(): void {
    this.#detector.outputIsMissing();
  }

  #look(): void {
    const { protection, coordinator, nics, primary } = this.#pair;
    // Without a survivor nobody is helped.
    const counts = protection.isProtected && WATCHED_PHASES.has(coordinator.phase);
    if (!counts || primary !== this.#watched) {
      this.#watched = counts ? primary : null;
      this.#detector.reset();
      for (const probe of this.#probes) probe.reset();
      return;
    }
    const nowMs = this.#clock.now();
    const links = nics.planes.map((plane) => plane.links[nics.carrier]);
    const untaken = links.reduce((sum, link) => sum + link.untaken(), 0);
    this.#detector.look(
      nowMs,
      untaken,
      links.every((link) => link.state === 'up'),
      OWING_PHASES.has(coordinator.phase),
      this.#probes.filter(({ isFailing }) => isFailing).map(({ sign }) => sign),
    );
    if (this.#detector.mayAsk()) {
      void primary.status().then(
        () => primary === this.#watched && this.#detector.answered(true),
        () => primary === this.#watched && this.#detector.answered(false),
      );
    }
    if (!this.#detector.isLost()) return;
    const signs = this.#detector.signs().join(', ');
    this.#detector.reset();
    this.#watched = null;
    protection.primarySilent(signs);
  }
}
