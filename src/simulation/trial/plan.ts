import type { Phase } from '../../checkpoint/ports.js';
import type { Random } from '../random.js';
import { below, chance, SeededRandom } from '../random.js';
import type { GuestManners, WorldOptions } from '../world.js';

/** Everything that can go wrong in a trial; each is chosen by name. */
export const FAULTS = [
  'loss',
  'duplication',
  'reordering',
  'delay',
  'corruption',
  'partition',
  'stall-primary',
  'stall-secondary',
  'burst-primary',
  'burst-secondary',
  'loss-primary',
  'loss-secondary',
  'crash-primary',
  'crash-secondary',
  'cut-channel',
  'cut-primary-qmp',
  'cut-secondary-qmp',
  'crash-unprotected',
  'crash-proxy',
  'freeze-primary',
  'freeze-secondary',
  'freeze-proxy',
  'crash-arbiter',
  'disk-full',
  'wall-jump',
  'storm',
  'checkpoint',
] as const;
export type FaultName = (typeof FAULTS)[number];

/** These end protection; one at a time, since the promise is about single failures. */
export const DISRUPTIVE: ReadonlySet<FaultName> = new Set<FaultName>([
  'crash-primary',
  'crash-secondary',
  'cut-channel',
  'cut-primary-qmp',
  'cut-secondary-qmp',
  'crash-proxy',
  'freeze-primary',
  'freeze-secondary',
  'freeze-proxy',
  'crash-arbiter',
  'disk-full',
]);

/** Of these, the ones that go on for a while. */
export const LASTING: ReadonlySet<FaultName> = new Set<FaultName>([
  'crash-proxy',
  'freeze-primary',
  'freeze-secondary',
  'freeze-proxy',
  'crash-arbiter',
  'disk-full',
]);

/** No client frame is lost by these: every datagram must be answered. */
export const HARMLESS: ReadonlySet<FaultName> = new Set<FaultName>([
  'duplication',
  'reordering',
  'delay',
  'stall-secondary',
  'burst-secondary',
  'loss-secondary',
  'crash-secondary',
  'wall-jump',
  'checkpoint',
]);

/** What these do is the same for both VMs. */
export const ALIKE: ReadonlySet<FaultName> = new Set<FaultName>([
  'loss',
  'duplication',
  'reordering',
  'delay',
  'corruption',
  'partition',
  'storm',
  'wall-jump',
  'checkpoint',
]);

/** Phases of a checkpoint at whose beginning a fault may strike. */
export const STRUCK_PHASES: readonly Phase[] = [
  'quiescing',
  'suspending',
  'suspended',
  'transferring',
  'loading',
  'committing',
];

/** After the beginning of protection, or when that phase begins for the n-th time, and then so long after. */
export type Moment =
  | { readonly atMs: number }
  | { readonly phase: Phase; readonly nth: number; readonly afterMs: number };

export interface PlannedFault {
  readonly name: FaultName;
  readonly when: Moment;
  readonly durationMs: number;
}

export const TASKS = [
  'download',
  'upload',
  'count',
  'think',
  'short',
  'rand',
  'time',
  'call-back',
  'udp',
  'big-udp',
  'ping',
] as const;
export type TaskName = (typeof TASKS)[number];

export interface PlannedTask {
  readonly name: TaskName;
  readonly ipVersion: 4 | 6;
  readonly atMs: number;
  /** Bytes, requests or probes, as fits the task. */
  readonly size: number;
  /** Interface of the guest; the first when there are fewer. */
  readonly nic: number;
}

/** A copy of a world is failed over: the same run to the same step, where a VM dies. */
export interface PlannedDeath {
  readonly step: number;
  readonly victim: 'carrier' | 'other';
  /** Of the run up to there, so that it is the same world; absent while a plan is cut down. */
  readonly fingerprint?: number;
}

/** A whole trial as plain data: it can be printed, cut down and run again. */
export interface Plan {
  readonly seed: number;
  readonly world: Omit<WorldOptions, 'seed' | 'log' | 'limits' | 'pair'>;
  /** Small limits of held memory, so that they are reached. */
  readonly tight: boolean;
  readonly tasks: readonly PlannedTask[];
  readonly faults: readonly PlannedFault[];
  readonly death?: PlannedDeath;
}

export interface PlanOptions {
  /** Only these faults; all when absent. */
  readonly faults?: readonly FaultName[];
  /** How many tasks and faults at most. */
  readonly steps?: number;
}

/** None for most; one tag; two. */
const VLANS = [0, 0, 0, 7, 100 * 4096 + 7];
const STEPS_DEFAULT = 12;
const LIGHT_REQUESTS = 1000;
/** Protection has returned by then. */
const SECOND_FAULT_MS = 1600;
const FAULTS_WITHIN_MS = 1500;

const SIZES: Readonly<Record<TaskName, (random: Random) => number>> = {
  download: (random) => 1000 + below(random, 300_000),
  upload: (random) => 1000 + below(random, 150_000),
  count: (random) => 10 + below(random, 150),
  think: (random) => 1 + below(random, 4),
  short: (random) => 2 + below(random, 12),
  rand: () => 1,
  time: () => 1,
  'call-back': () => 1,
  udp: (random) => 5 + below(random, 40),
  'big-udp': (random) => 3 + below(random, 15),
  ping: (random) => 5 + below(random, 20),
};

/** The trial of a seed: always the same for the same seed and options. */
export function makePlan(seed: number, options: PlanOptions = {}): Plan {
  const random = new SeededRandom(seed).fork('plan');
  const steps = options.steps ?? STEPS_DEFAULT;
  const names = options.faults ?? FAULTS;
  const isLight = chance(random, 0.15);
  const faults = isLight || names.length === 0 ? 0 : 1 + below(random, Math.max(1, steps / 2));
  return {
    seed,
    world: {
      wire: { delayMs: pick(random, [0.1, 0.5, 5]), jitterMs: pick(random, [0, 0, 0.5]) },
      primary: manners(random),
      secondary: manners(random),
      clientTcp: {
        delayedAckMs: pick(random, [0, 40]),
        sack: chance(random, 0.8),
        wrapSoon: pick(random, [0, 0.5]),
      },
      costs: { saveMs: pick(random, [0, 1, 10]), loadMs: pick(random, [0, 1, 20]) },
      linkDelayMs: pick(random, [0.05, 0.05, 1, 4]),
      channelDelayMs: pick(random, [0.02, 0.02, 1.5]),
      ...(chance(random, 0.1) ? { linkBytesMax: 32 * 1024 } : {}),
      nics: pick(random, [1, 1, 1, 2, 3]),
      vlan: pick(random, VLANS),
      leased: chance(random, 0.3),
    },
    tight: chance(random, 0.2),
    tasks: Array.from({ length: 1 + below(random, Math.max(1, steps - faults)) }, () => task(random)),
    faults: Array.from({ length: faults }, () => fault(random, names)),
  };
}

function manners(random: Random): GuestManners {
  return {
    tcp: {
      segmentJitter: pick(random, [0, 0, 0.2]),
      delayedAckMs: pick(random, [0, 0, 40]),
      sack: true,
      wrapSoon: pick(random, [0, 0.5]),
    },
    services: { thinkMs: pick(random, [0, 0, 3]), thinkJitterMs: pick(random, [0, 0, 2]) },
    lagMs: pick(random, [0, 0, 1, 8]),
    lagJitterMs: pick(random, [0, 0, 2]),
    clockRate: pick(random, [1, 1, 0.9, 1.1]),
  };
}

function task(random: Random): PlannedTask {
  const name = pick(random, TASKS);
  const ipVersion = chance(random, 0.7) ? 4 : 6;
  const size = SIZES[name](random);
  return { name, ipVersion, atMs: below(random, FAULTS_WITHIN_MS), size, nic: below(random, 3) };
}

function fault(random: Random, names: readonly FaultName[]): PlannedFault {
  const name = pick(random, names);
  const when: Moment = chance(random, 0.5)
    ? { atMs: below(random, FAULTS_WITHIN_MS * 10) / 10 }
    : { phase: pick(random, STRUCK_PHASES), nth: 1 + below(random, 4), afterMs: below(random, 30) / 10 };
  return { name, when, durationMs: 1 + below(random, 400) };
}

/** One connection with a request a second, nothing else: how fast a quiet world goes. */
export function lightPlan(seed: number): Plan {
  const task: PlannedTask = { name: 'think', ipVersion: 4, atMs: 0, size: LIGHT_REQUESTS, nic: 0 };
  return { seed, world: {}, tight: false, tasks: [task], faults: [] };
}

/** The traffic of the directed trials. */
const DIRECTED_TASKS: readonly PlannedTask[] = [
  { name: 'count', ipVersion: 4, atMs: 0, size: 200, nic: 0 },
  { name: 'download', ipVersion: 6, atMs: 0, size: 200_000, nic: 1 },
  { name: 'upload', ipVersion: 4, atMs: 5, size: 150_000, nic: 0 },
  ...[10, 150, 300, 450].map((atMs): PlannedTask => ({ name: 'rand', ipVersion: 4, atMs, size: 1, nic: 0 })),
];

/** Each fault that leaves protection as it is at each sync-point in turn. */
export function directedHarmlessPlans(seed: number): Plan[] {
  const base = { ...makePlan(seed, { faults: [] }), tight: false, tasks: DIRECTED_TASKS };
  const names = FAULTS.filter((name) => !DISRUPTIVE.has(name) && name !== 'crash-unprotected');
  return names.flatMap((name) =>
    STRUCK_PHASES.map((phase): Plan => {
      return { ...base, faults: [{ name, when: { phase, nth: 2, afterMs: 0.03 }, durationMs: 50 }] };
    }),
  );
}

/** Each disruptive fault at each sync-point in turn, under the same traffic; and each as the second of two. */
export function directedPlans(seed: number): Plan[] {
  const base = makePlan(seed, { faults: [] });
  const tasks = DIRECTED_TASKS;
  const plans: Plan[] = [repeatedSyns(base), crowded(base)];
  const long: PlannedTask = { name: 'count', ipVersion: 4, atMs: 0, size: 900, nic: 0 };
  for (const name of DISRUPTIVE) {
    const faults: PlannedFault[] = [
      { name: 'crash-primary', when: { atMs: 100 }, durationMs: 50 },
      { name, when: { atMs: SECOND_FAULT_MS }, durationMs: 50 },
    ];
    // Frames are still on their way when a checkpoint is over.
    const world = { ...base.world, linkDelayMs: 4, costs: { saveMs: 0, loadMs: 0 } };
    plans.push({ ...base, world, tight: false, tasks: [long, ...tasks], faults });
  }
  for (const name of DISRUPTIVE) {
    for (const phase of STRUCK_PHASES) {
      // The first checkpoint ends the translation of the connections, the second finds it ended.
      for (const [nth, afterMs] of [
        [1, 0],
        [2, 0.03],
        [1, 0.5],
      ] as const) {
        const when = { phase, nth, afterMs };
        plans.push({ ...base, tight: false, tasks, faults: [{ name, when, durationMs: 50 }] });
      }
    }
  }
  return plans;
}

/** The guest opens connections into a cable that has just gone: its SYNs are repeated, by each VM in its own time. */
function repeatedSyns(base: Plan): Plan {
  const tasks = Array.from({ length: 12 }, (_, index): PlannedTask => {
    return { name: 'call-back', ipVersion: index % 2 === 0 ? 4 : 6, atMs: 2 * index, size: 1, nic: 0 };
  });
  const world = { wire: { delayMs: 5 }, primary: { clockRate: 1.1 } };
  const faults: PlannedFault[] = [{ name: 'partition', when: { atMs: 30 }, durationMs: 300 }];
  return { ...base, tight: false, world, tasks, faults };
}

/** Little memory, many connections both ways, and a secondary that takes nothing for a while. */
function crowded(base: Plan): Plan {
  const tasks = Array.from({ length: 16 }, (_, index): PlannedTask => {
    const name = index % 4 === 3 ? 'upload' : 'download';
    return { name, ipVersion: index % 2 === 0 ? 4 : 6, atMs: index, size: 150_000, nic: 0 };
  });
  const faults: PlannedFault[] = [
    { name: 'stall-secondary', when: { atMs: 70 }, durationMs: 400 },
    { name: 'checkpoint', when: { atMs: 600 }, durationMs: 1 },
  ];
  return {
    ...base,
    tight: true,
    world: { wire: { delayMs: 10 }, costs: { saveMs: 30, loadMs: 30 } },
    tasks,
    faults,
  };
}

function pick<T>(random: Random, values: readonly T[]): T {
  return values[below(random, values.length)]!;
}
