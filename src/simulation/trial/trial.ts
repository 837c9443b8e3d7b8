/** Runs one plan in one world and says whether the promise held. */
import { DEFAULT_COMPARE_LIMITS } from '../../compare/verdict.js';
import type { Log } from '../../system/log.js';
import type { ClientTask } from '../client/task.js';
import { below, hashText, SeededRandom } from '../random.js';
import { World } from '../world.js';
import { Faults } from './faults.js';
import { ALIKE, type FaultName, HARMLESS, type Plan, type PlannedTask } from './plan.js';
import { seats } from './seats.js';
import type { Violation } from './violation.js';
import { Watch } from './watch.js';

export interface TrialResult {
  readonly violation: Violation | null;
  readonly simulatedMs: number;
  readonly steps: number;
  /** How often each fault really struck. */
  readonly faults: Readonly<Record<string, number>>;
  /** Longest silence of any task while something was due. */
  readonly gapMsMax: number;
  /** What happened, a line each, with the simulated time. */
  readonly timeline: readonly string[];
  /** A hash of the run: equal for equal runs. */
  readonly fingerprint: number;
  /** Steps at which a VM may die alone, some of them: where a copy of this world can be failed over. */
  readonly moments: readonly Moment[];
}

export interface Moment {
  readonly step: number;
  readonly fingerprint: number;
}

const MOMENTS_KEPT = 2;
const PROTECTED_WITHIN_MS = 30_000;
/** With the faults over, everything must be done within this. */
const COMPLETE_WITHIN_MS = 90_000;
const SETTLE_TRIES = 50;
const DOWN_LOOK_MS = 3000;
/** Between two requests of a client that thinks. */
const THINK_MS = 1000;
/** Longer than any hold timer. */
const EMPTY_WITHIN_MS = 10_000;
/** Three fragments. */
const BIG_BYTES = 3500;
const TIMELINE_LINES_MAX = 2000;
/** A fresh secondary is started this long after protection was lost, as an operator's supervisor would. */
const REPLACE_AFTER_MS = 300;
const REPLACE_EVERY_MS = 1000;

const GENEROUS = { held: 32 * 1024 * 1024, gate: 4 * 1024 * 1024 };
const TIGHT = { held: 64 * 1024, gate: 16 * 1024 };

export async function runTrial(plan: Plan): Promise<TrialResult> {
  const trial = new Trial(plan);
  try {
    await trial.run();
  } catch (error) {
    trial.watch.fail('crash', error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return trial.end();
}

class Trial {
  readonly #plan: Plan;
  readonly #world: World;
  readonly watch: Watch;
  readonly #faults: Faults;
  readonly #tasks: ClientTask[] = [];
  readonly #timeline: string[] = [];
  readonly #moments: Moment[] = [];
  readonly #momentRandom: SeededRandom;
  #momentsSeen = 0;
  #lastState = '';
  #lastPhase = '';
  #unprotectedSinceMs = -1;
  #replacedAtMs = Number.NEGATIVE_INFINITY;
  #opening: Promise<void> = Promise.resolve();
  /** Tasks that have ended. */
  #done = 0;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#momentRandom = new SeededRandom(plan.seed ^ 0x6d6f6d65);
    const memory = plan.tight ? TIGHT : GENEROUS;
    const compare = { ...DEFAULT_COMPARE_LIMITS, flowsMax: 4096, heldBytesMax: memory.held };
    this.#world = new World({
      seed: plan.seed,
      ...plan.world,
      log: this.#log(),
      limits: {
        dataPlane: {
          gate: { framesMax: 4096, bytesMax: memory.gate },
          parked: { framesMax: 4096, bytesMax: 4 * 1024 * 1024 },
          broadcastPerSecondMax: 1000,
          compare,
        },
      },
    });
    this.watch = new Watch(this.#world, memory);
    this.#faults = new Faults(this.#world, plan, (text) => this.#say(text));
  }

  async run(): Promise<void> {
    const world = this.#world;
    await world.open();
    await world.openSecondary();
    if (!(await this.#until(PROTECTED_WITHIN_MS, () => world.pair.state === 'protected'))) {
      this.watch.fail('progress', `not protected after ${PROTECTED_WITHIN_MS} ms`);
      return;
    }
    for (const planned of this.#plan.tasks) {
      world.clock.after(planned.atMs, () => this.#begin(planned));
    }
    this.#faults.begin();
    const isOver = (): boolean => this.#faults.isDown || (this.#faults.isOver && this.#allDone());
    await this.#until(this.#faults.overAfterMs, isOver);
    if (this.#faults.isDown) {
      await this.#until(DOWN_LOOK_MS, () => false); // nobody may speak for the dead
      return;
    }
    this.#faults.stop();
    this.#say('the faults are over');
    await this.#complete();
    if (this.watch.violation === null) await this.#protectionReturns();
    if (this.watch.violation === null) await this.#nothingStays();
    if (this.watch.violation === null) await this.#metricsAgree();
    if (this.watch.violation === null) this.#nothingWasLost();
  }

  async #complete(): Promise<void> {
    const thinks = this.#plan.tasks.filter(({ name }) => name === 'think');
    const withinMs = COMPLETE_WITHIN_MS + thinks.reduce((sum, { size }) => sum + 2 * THINK_MS * size, 0);
    if (await this.#until(withinMs, () => this.#allDone())) return;
    const open = this.#tasks.filter((task) => task.report === null);
    if (!seats(this.#world).carrier.alive) {
      this.watch.fail('progress', 'nobody carries the traffic');
    }
    const names = open.map((task) => `${task.name} at ${JSON.stringify(task.progress)}`);
    this.watch.fail('progress', `unfinished ${withinMs} ms after the faults: ${names.join(', ')}`);
  }

  async #protectionReturns(): Promise<void> {
    const { pair } = this.#world;
    if (await this.#until(COMPLETE_WITHIN_MS, () => pair.state === 'protected')) return;
    this.watch.fail('progress', `protection has not returned: ${pair.state}`);
  }

  async #metricsAgree(): Promise<void> {
    let problem: string | null = 'never looked';
    for (let round = 0; round < SETTLE_TRIES && problem !== null; round++) {
      await this.#until(0.2, () => false);
      problem = this.watch.metricsProblem();
    }
    problem ??= this.#vmsAgree() ? this.watch.divergenceProblem(this.#differingAnswers()) : null;
    if (problem !== null) this.watch.fail('metrics', problem);
  }

  /** Nothing came to one VM that did not come to the other. */
  #vmsAgree(): boolean {
    const { tight, world } = this.#plan;
    const isAlike = Object.keys(this.#faults.struck).every((name) => ALIKE.has(name as FaultName));
    return isAlike && !tight && world.linkBytesMax === undefined && this.#plan.death === undefined;
  }

  #differingAnswers(): number {
    return this.#plan.tasks.filter(({ name }) => name === 'rand' || name === 'time').length;
  }

  /** With nobody talking any more, nothing may stay held. */
  async #nothingStays(): Promise<void> {
    const { nics } = this.#world.pair;
    const isEmpty = (): boolean => nics.planes.every(({ comparator }) => comparator.heldFrames === 0);
    if (await this.#until(EMPTY_WITHIN_MS, isEmpty)) return;
    const held = nics.planes.map(({ comparator }) => comparator.heldFrames);
    this.watch.fail(
      'progress',
      `${held.join(' + ')} frames are still held ${EMPTY_WITHIN_MS} ms after the last`,
    );
  }

  /** A datagram is sent once: without a fault that loses one, each must have been answered. */
  #nothingWasLost(): void {
    const { tight, world, death } = this.#plan;
    const isHarmless = Object.keys(this.#faults.struck).every((name) => HARMLESS.has(name as FaultName));
    if (tight || world.linkBytesMax !== undefined || death?.victim === 'carrier' || !isHarmless) return;
    for (const { name, report } of this.#tasks) {
      if (report!.lost > 0)
        this.watch.fail('transcript', `${name}: ${report!.lost} datagrams were not answered`);
    }
  }

  #allDone(): boolean {
    return this.#done === this.#plan.tasks.length;
  }

  /** Runs on; every step is looked at. Also ends at a violation. */
  async #until(limitMs: number, done: () => boolean): Promise<boolean> {
    let isDone = false;
    await this.#world.run(limitMs, () => {
      this.#step();
      if (this.watch.check()) return true;
      this.#perhapsDie();
      isDone = done();
      return isDone;
    });
    return isDone || this.watch.violation !== null;
  }

  /** Keeps a few of the steps at which a VM may die, each as likely as the others; dies at the one of the plan. */
  #perhapsDie(): void {
    const { death } = this.#plan;
    const { steps, released } = this.watch;
    if (death?.step === steps) {
      const { fingerprint = released.fingerprint } = death;
      if (fingerprint !== released.fingerprint) this.watch.fail('crash', 'the copy is another world');
      this.#faults.kill(death.victim);
    }
    if (!this.#faults.isQuiet) return;
    const nth = this.#momentsSeen++;
    const place = nth < MOMENTS_KEPT ? nth : below(this.#momentRandom, nth + 1);
    if (place < MOMENTS_KEPT) this.#moments[place] = { step: steps, fingerprint: released.fingerprint };
  }

  #step(): void {
    const { pair, clock } = this.#world;
    const { phase } = pair.coordinator;
    if (pair.state !== this.#lastState || phase !== this.#lastPhase) {
      this.#lastState = pair.state;
      this.#lastPhase = phase;
      this.#say(`${pair.state} ${phase}`);
      this.#faults.phaseIs(phase);
    }
    const isAlone = pair.state === 'unprotected' || pair.state === 'failed-over';
    if (!isAlone || !this.#world.proxyIsAlive || this.#faults.isDown) this.#unprotectedSinceMs = -1;
    else if (this.#unprotectedSinceMs < 0) this.#unprotectedSinceMs = clock.now();
    else if (
      clock.now() - this.#unprotectedSinceMs >= REPLACE_AFTER_MS &&
      clock.now() - this.#replacedAtMs >= REPLACE_EVERY_MS
    ) {
      this.#replacedAtMs = clock.now();
      this.#say('a fresh secondary is started');
      this.#opening = this.#opening
        .then(() => this.#world.openSecondary())
        .catch((error: unknown) => this.watch.fail('crash', `a fresh secondary: ${String(error)}`));
    }
  }

  #begin({ name, ipVersion, size, nic }: PlannedTask): void {
    const network = nic % this.#world.networks.length;
    const { client } = this.#world.networks[network]!;
    const { ipv4, ipv6 } = this.#world.guestHost(network);
    const server = ipVersion === 4 ? ipv4 : ipv6;
    const number = this.#tasks.length;
    const probes = { count: size, everyMs: 7, answerMsMax: 2000 };
    const start = {
      download: () => client.download(server, `t${number}-${size}.bin`),
      upload: () => client.upload(server, `t${number}`, size),
      count: () => client.count(server, size, 3),
      think: () => client.count(server, size, THINK_MS),
      short: () => client.shortConnections(server, size),
      rand: () => client.divergent(server, 'rand'),
      time: () => client.divergent(server, 'time'),
      'call-back': () => client.callBack(server),
      udp: () => client.udpEcho(server, probes),
      'big-udp': () => client.udpEcho(server, { ...probes, payloadBytes: BIG_BYTES }),
      ping: () => client.ping(server, probes),
    };
    const task = start[name]();
    this.#tasks.push(task);
    this.#say(`task ${number}: ${task.name} over IPv${ipVersion} begins`);
    // (2) Every task checks its own bytes; the first thing it found wrong is a violation.
    void task.done.then((report) => {
      this.#done++;
      if (report.problem !== null) this.watch.fail('transcript', `${task.name}: ${report.problem}`);
      this.#say(
        `task ${number}: ${report.problem ?? 'right'}, longest silence ${report.gapMsMax.toFixed(0)} ms`,
      );
    });
  }

  #log(): Log {
    const line = (_fields: object, message: string): void => this.#say(`  log: ${message}`);
    return { debug() {}, info: line, warn: line, error: line };
  }

  #say(text: string): void {
    const line = `${this.#world === undefined ? '0' : this.#world.clock.now().toFixed(3)} ${text}`;
    this.#timeline.push(line);
    if (this.#timeline.length > TIMELINE_LINES_MAX) this.#timeline.splice(0, TIMELINE_LINES_MAX / 2);
  }

  async end(): Promise<TrialResult> {
    const { watch } = this;
    const world = this.#world;
    const simulatedMs = world.clock.now();
    const { violation } = watch;
    if (violation !== null) this.#say(`VIOLATION of ${violation.invariant}: ${violation.what}`);
    const timeline = [...this.#timeline];
    await world.close();
    this.#faults.close();
    watch.close();
    return {
      violation,
      simulatedMs,
      steps: watch.steps,
      faults: this.#faults.struck,
      gapMsMax: Math.max(0, ...this.#tasks.map((task) => task.report?.gapMsMax ?? 0)),
      timeline,
      moments: this.#moments,
      fingerprint: hashText([...timeline, watch.steps, watch.released.fingerprint].join('\n')),
    };
  }
}
