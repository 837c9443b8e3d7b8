import type { Phase } from '../checkpoint/ports.js';
import { Detector, type DetectorLimits, type Sign } from '../failover/detector.js';
import { Probe, type ProbeOptions } from '../failover/probe.js';
import type { Clock, Timer } from '../system/clock.js';
import type { Pair } from './pair.js';
import type { Vm } from './vm.js';

/** The secondary has stopped and the primary's word is due: vmstate-send, or its state. Its monitor answers meanwhile. */
const OWING_PHASES: ReadonlySet<Phase> = new Set(['suspended', 'transferring']);
/** While the secondary loads, and during the commit, nothing is expected of the primary. */
const PRIMARY_PHASES: ReadonlySet<Phase> = new Set(['idle', 'quiescing', 'suspending', ...OWING_PHASES]);
const SECONDARY_PHASES: ReadonlySet<Phase> = new Set(['idle', 'quiescing', 'suspending']);
/** Then it takes the primary's state in under QEMU's lock: only what is asked out of band is answered meanwhile. */
const LOADING_PHASES: ReadonlySet<Phase> = new Set(['suspended', 'transferring', 'loading']);

/** Asks both VMs whether they are there, and tells protection when the signs say that one is not. */
export class Heartbeat {
  readonly #pair: Pair;
  readonly #clock: Clock;
  readonly #limits: DetectorLimits;
  readonly #probes: readonly Probe[];
  readonly #primary: Watch;
  readonly #secondary: Watch;
  #timer: Timer | null = null;

  constructor(pair: Pair, clock: Clock, limits: DetectorLimits, probes: readonly ProbeOptions[]) {
    this.#pair = pair;
    this.#clock = clock;
    this.#limits = limits;
    this.#primary = new Watch(limits);
    this.#secondary = new Watch(limits);
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
    return this.#primary.signs;
  }

  /** The secondary alone has sent something, for as long as the hold timer waits. */
  outputIsMissing(): void {
    this.#primary.detector.outputIsMissing();
  }

  #look(): void {
    const { protection, coordinator, primary, secondary } = this.#pair;
    const { phase } = coordinator;
    // Without a survivor nobody is helped.
    const { isProtected } = protection;
    if (this.#primary.isOf(isProtected && PRIMARY_PHASES.has(phase) ? primary : null)) {
      const failing = this.#probes.filter(({ isFailing }) => isFailing).map(({ sign }) => sign);
      this.#lookAt(this.#primary, primary, OWING_PHASES.has(phase), failing);
    } else for (const probe of this.#probes) probe.reset();
    const isLoading = LOADING_PHASES.has(phase) && secondary.answersOutOfBand;
    const isWatched = isProtected && (isLoading || SECONDARY_PHASES.has(phase));
    if (this.#secondary.isOf(isWatched ? secondary : null, isLoading)) {
      this.#lookAt(this.#secondary, secondary, isLoading || phase === 'suspending');
    }
  }

  #lookAt(watch: Watch, vm: Vm, owesWord: boolean, failing: readonly Sign[] = []): void {
    const { nics, protection } = this.#pair;
    const { detector } = watch;
    const links = nics.planes.map((plane) => plane.links[vm.seat]);
    const untaken = links.reduce((sum, link) => sum + link.untaken(), 0);
    const areUp = links.every((link) => link.state === 'up');
    detector.look(this.#clock.now(), untaken, areUp, owesWord, failing);
    watch.ask();
    if (!detector.isLost()) return;
    const signs = detector.signs().join(', ');
    watch.isOf(null);
    protection.vmSilent(vm.seat, signs);
  }
}

/** What is known of one VM for as long as it is watched. */
class Watch {
  readonly detector: Detector;
  #vm: Vm | null = null;
  #outOfBand = false;

  constructor(limits: DetectorLimits) {
    this.detector = new Detector(limits);
  }

  get signs(): readonly Sign[] {
    return this.#vm === null ? [] : this.detector.signs();
  }

  /** That VM is watched from now on, and asked in that way; or none is, which is false. */
  isOf(vm: Vm | null, outOfBand = false): boolean {
    if (vm === null || vm !== this.#vm || outOfBand !== this.#outOfBand) this.detector.reset();
    this.#vm = vm;
    this.#outOfBand = outOfBand;
    return vm !== null;
  }

  ask(): void {
    if (!this.detector.mayAsk()) return;
    const vm = this.#vm;
    const answered = (well: boolean) => (): void => {
      if (vm === this.#vm) this.detector.answered(well);
    };
    const answer = this.#outOfBand ? vm?.askOutOfBand() : vm?.status();
    void answer?.then(answered(true), answered(false));
  }
}
