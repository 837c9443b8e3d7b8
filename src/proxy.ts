/** The composition root: a configuration becomes one running pair. */
import { randomInt } from 'node:crypto';
import { compileRules } from './compare/rules.js';
import type { CompareLimits } from './compare/verdict.js';
import { allNics, type Config, type NicConfig, runtimeMode } from './config/derive.js';
import { ColoError } from './errors.js';
import { CaptureRing, EVIDENCE_INTERFACES } from './evidence/capture-ring.js';
import { EvidenceLog } from './evidence/evidence-log.js';
import { eventFrame, RECORDING_INTERFACES, RecordedComparator } from './evidence/recorder.js';
import { createArbiter } from './failover/create-arbiter.js';
import { addressProbe, guestProbe, type ProbeOptions } from './failover/probe.js';
import { type RunProgram, runProgram } from './failover/program.js';
import { ProgramThread } from './failover/program-thread.js';
import { firstState, StateFile } from './failover/state-file.js';
import { createLink, type LinkRole } from './link/factory.js';
import { interfaceMtus, mtuProblems } from './link/interface-mtus.js';
import type { Link } from './link/link.js';
import {
  DEFAULT_LINK_OPTIONS,
  DEFAULT_MTU_BYTES,
  FRAME_OVERHEAD_BYTES,
  type LinkOptions,
} from './link/options.js';
import { type ActionArguments, runAction } from './pair/actions.js';
import type { Handover, PairDescriptors, PairInheritance } from './pair/handover.js';
import { LiveLimits } from './pair/live-limits.js';
import { type NicLinks, Pair, type PairParts } from './pair/pair.js';
import type { PairStatus } from './pair/status.js';
import { type TopFlow, topFlows } from './pair/top-flows.js';
import { dialectChoice } from './protocol/dialects.js';
import { groupId, userId } from './system/accounts.js';
import { busyPoll } from './system/busy-poll.js';
import { type Address, parseAddress } from './system/channel.js';
import { realClock } from './system/clock.js';
import type { Log } from './system/log.js';
import { makeRuntimeDirectory } from './system/runtime-directory.js';
import { streamTransport } from './system/stream-channel.js';

export interface RunningProxy {
  status(): PairStatus;
  /** Latest explained divergences. */
  readonly evidence: EvidenceLog;
  /** Those with most bytes held, then those that spoke last. */
  flows(): TopFlow[];
  /** Does what an operator asks for: see pair/actions.ts. */
  act(verb: string, args: ActionArguments): Promise<Readonly<Record<string, unknown>>>;
  /** Puts into effect what can be changed while running (HOT_KEYS of cli/reload.ts, apart from the log's). */
  reconfigure(config: Config): void;
  readonly handover: Handover;
  /** A successor goes on: what only one process can have is let go of, and nothing of the pair is ended. */
  letGo(): Promise<void>;
  /** Ends protection in the primary's favour, releases what is held, closes and undoes everything. */
  stop(): Promise<void>;
}

/** A process that hands the pair over: see pair/handover.ts. */
export interface Predecessor {
  /** Inherited, by their numbers in this process. */
  readonly descriptors: PairDescriptors;
  /** Tells it that this process is there, and resolves with what it says then. */
  draft(): Promise<PairInheritance>;
  /** Tells it that this process stands by; resolves when both VMs wait. */
  inheritance(): Promise<PairInheritance>;
  /** Tells it that this process goes on; resolves when it has let go of everything. */
  end(): Promise<void>;
}

export interface ProxyOptions {
  readonly log: Log;
  readonly predecessor?: Predecessor | undefined;
}

const FLOWS_SHOWN = 20;
/** Between two attempts to begin protection, and between two looks at a migration that runs. */
const PROTECT_RETRY_MS = 500;
/** How long a VM may take to answer when it must be told whether it lives. */
const LIVENESS_MS_MAX = 500;
/** What the secondary may send between its restart and LOADED; it has had no client frames since. */
const PARKED_LIMITS = { framesMax: 4096, bytesMax: 16 * 1024 * 1024 };
/** Sockets that QEMU must reach: owner and group. */
const SOCKET_MODE = 0o660;

/** Starts a pair as configured. Rejects with a ColoError when something can never work; waits for what is absent. */
export async function startProxy(config: Config, options: ProxyOptions): Promise<RunningProxy> {
  const { log, predecessor } = options;
  const { group } = config.runtime;
  await makeRuntimeDirectory({
    path: config.runtime.directory,
    mode: runtimeMode(config),
    ...(group === undefined ? {} : { group }),
  });
  const interfaces = interfaceMtus(config);
  for (const problem of mtuProblems(interfaces)) log.error({ code: 'COLO_ERR_MTU' }, problem);
  const mtuBytes = interfaces.find((one) => one.mtuBytes !== null)?.mtuBytes ?? DEFAULT_MTU_BYTES;
  busyPoll(config.links.busyPollUs);
  const linkOptions = linkOptionsOf(config, mtuBytes);
  const evidence = evidenceOf(config, log);
  const live = new LiveLimits(config);
  let comparingNow = JSON.stringify([live.compare, config.rules]);
  const [first, ...moreNics] = allNics(config).map((nic) => nicLinks(config, nic, linkOptions));
  const pair = new Pair({
    name: config.name,
    links: first!,
    moreNics,
    qmp: { primary: addressOf(config.primary.qmp), secondary: addressOf(config.secondary.qmp) },
    migration: {
      listen: addressOf(config.migration.listen),
      connect: {
        primary: addressOf(config.migration.connectBack),
        secondary: addressOf(config.migration.connect),
      },
      socket: { mode: SOCKET_MODE, ...(group === undefined ? {} : { group }) },
    },
    ...disksOf(config),
    dialect: dialectChoice(config.checkpoint.dialect),
    transport: streamTransport,
    clock: realClock,
    log,
    limits: {
      dataPlane: {
        gate: { framesMax: config.gate.framesMax, bytesMax: config.gate.bytesMax },
        parked: PARKED_LIMITS,
        broadcastPerSecondMax: config.gate.broadcastPerSecondMax,
        compare: live.compare,
        rules: compileRules(config.rules),
      },
      checkpoint: live.checkpoint,
      vm: { ...config.qmp, livenessMsMax: LIVENESS_MS_MAX },
      bandwidthBytesPerSecondMax: config.checkpoint.bandwidthBytesPerSecondMax,
      protectRetryMs: PROTECT_RETRY_MS,
      detector: config.failover,
      mandate: { claimMsMax: config.failover.arbiter.claimMsMax, retryMs: config.failover.arbiter.retryMs },
      announceCount: config.failover.announceCount,
      announceEveryMs: config.failover.announceEveryMs,
    },
    failoverAuto: config.failover.auto,
    protectAuto: config.failover.protectAuto,
    ...survival(config, predecessor !== undefined),
    flowSeed: randomInt(2 ** 31),
    evidence,
    ...recorderOf(config, live.compare, log, evidence),
  });
  // one that does not get so far leaves everything to the other process
  if (predecessor !== undefined) await takeOver(pair, predecessor, log);
  try {
    if (predecessor === undefined) await pair.start();
    else await pair.secure();
  } catch (error) {
    await pair.stop().catch(() => undefined);
    throw error;
  }
  return {
    status: () => pair.status(),
    evidence,
    flows: () => topFlowsOf(pair),
    act: (verb, args) => runAction(pair, verb, args),
    reconfigure: (fresh) => {
      const plan = live.take(fresh);
      if (plan !== null) pair.chooseCheckpoints(plan);
      const comparing = JSON.stringify([live.compare, fresh.rules]);
      if (comparing !== comparingNow) pair.reconfigureComparing(compileRules(fresh.rules));
      comparingNow = comparing;
    },
    handover: pair.handover,
    letGo: () => pair.letGo(),
    stop: async () => {
      await pair.stop();
      await evidence.close();
    },
  };
}

async function takeOver(pair: Pair, predecessor: Predecessor, log: Log): Promise<void> {
  await pair.handover.standBy(await predecessor.draft(), predecessor.descriptors);
  const holdMs = pair.handover.goOn(await predecessor.inheritance());
  await predecessor.end();
  log.info({ holdMs: Math.round(holdMs * 10) / 10 }, 'this process goes on; nothing moved for that long');
}

function topFlowsOf(pair: Pair): TopFlow[] {
  const nowMs = realClock.now();
  return pair.nics.planes
    .flatMap((plane) => topFlows(plane.flows, nowMs, FLOWS_SHOWN))
    .sort((a, b) => b.heldBytes - a.heldBytes || a.idleMs - b.idleMs)
    .slice(0, FLOWS_SHOWN);
}

/** What outlives this process, and who is asked before another side could go on. Throws COLO_ERR_STATE. */
function survival(
  config: Config,
  isSuccessor: boolean,
): Pick<PairParts, 'state' | 'arbiter' | 'fence' | 'probes'> {
  const { stateFile, arbiter, fenceProgram, fenceMsMax } = config.failover;
  const file = new StateFile(stateFile);
  const found = file.load() ?? firstState();
  if (!isSuccessor) file.save(found); // what cannot be written is told now, not in the middle of a failover
  const run = programsOf(config);
  const claimant = { pair: config.name, owner: found.owner, process: `${found.owner}-${randomInt(2 ** 47)}` };
  return {
    state: { file, found },
    arbiter: createArbiter(arbiter, claimant, realClock, run),
    probes: probesOf(config, run),
    ...(fenceProgram === undefined ? {} : { fence: { program: fenceProgram, msMax: fenceMsMax, run } }),
  };
}

/** The thread is there before it is needed. */
function programsOf({ failover }: Config): RunProgram {
  const { arbiter, fenceProgram, probeProgram, probeAddress } = failover;
  const isNeeded = arbiter.kind === 'exec' || (fenceProgram ?? probeProgram ?? probeAddress) !== undefined;
  return isNeeded ? new ProgramThread().run : runProgram;
}

function probesOf({ name, failover }: Config, run: RunProgram): ProbeOptions[] {
  const { probeProgram, probeAddress, probeEveryMs: everyMs, probeMsMax: msMax } = failover;
  const probes: ProbeOptions[] = [];
  if (probeProgram !== undefined) {
    probes.push({ sign: 'guest-probe-failed', everyMs, msMax, look: guestProbe(probeProgram, name, run) });
  }
  if (probeAddress !== undefined) {
    probes.push({ sign: 'address-silent', everyMs, msMax, look: addressProbe(probeAddress, run) });
  }
  return probes;
}

/** A cancelled mirror ends after its requests in flight. */
const MIRROR_CANCEL_MS_MAX = 5000;

function disksOf({ disks, migration }: Config): Pick<PairParts, 'disks'> {
  if (disks.length === 0) return {};
  const nbd = { primary: addressOf(migration.nbdBack), secondary: addressOf(migration.nbd) };
  return { disks: { disks, nbd, cancelMsMax: MIRROR_CANCEL_MS_MAX } };
}

function evidenceOf(config: Config, log: Log): EvidenceLog {
  const { directory, bytesMax, ageMsMax, keptMax } = config.evidence;
  const ring =
    bytesMax === 0
      ? null
      : new CaptureRing({
          directory,
          interfaces: EVIDENCE_INTERFACES,
          prefix: 'divergence',
          application: `colo-proxy ${config.name}`,
          limits: { bytesMax, ageMsMax },
          clock: realClock,
          failed: (error) => log.error({ code: error.code }, `evidence pauses: ${error.message}`),
        });
  return new EvidenceLog(realClock, { keptMax }, ring);
}

function recorderOf(
  config: Config,
  limits: CompareLimits,
  log: Log,
  evidence: EvidenceLog,
): Pick<PairParts, 'makeComparator'> {
  const { directory, bytesMax, ageMsMax } = config.record;
  if (directory === undefined) return {};
  const wallBaseMs = Math.round(realClock.wallMs() - realClock.now());
  return {
    makeComparator: (nic, flows, _limits, sink, rules) => {
      const ring = new CaptureRing({
        directory,
        interfaces: RECORDING_INTERFACES,
        opening: () =>
          eventFrame(
            { event: 'start', format: 1, nic, limits, rules: comparator.rules.configs, wallBaseMs },
            realClock.wallMs(),
          ),
        gap: (frames) => eventFrame({ event: 'gap', frames }, realClock.wallMs()),
        prefix: `record-nic${nic}`,
        application: `colo-proxy ${config.name}`,
        limits: { bytesMax, ageMsMax },
        clock: realClock,
        failed: (error) => log.error({ code: error.code }, `the recording pauses: ${error.message}`),
      });
      evidence.addRecording(ring);
      const comparator = new RecordedComparator(flows, limits, sink, rules, ring, wallBaseMs);
      return comparator;
    },
  };
}

/** `mtuBytes`: of the first interface that exists (the client side's bridge, as a rule); the VMs' side follows it. */
function linkOptionsOf(config: Config, mtuBytes: number): LinkOptions {
  const { group } = config.runtime;
  const { busyPollUs: _, ...links } = config.links;
  return {
    ...DEFAULT_LINK_OPTIONS,
    ...links,
    clock: realClock,
    frameBytesMax: mtuBytes + FRAME_OVERHEAD_BYTES,
    socketMode: SOCKET_MODE,
    ...(group === undefined ? {} : { socketGroup: groupId(group) }),
  };
}

function nicLinks(config: Config, nic: NicConfig, options: LinkOptions): NicLinks {
  return {
    client: createLink(nic.client, options),
    primary: vmLink(config, nic, 'primary', options),
    secondary: vmLink(config, nic, 'secondary', options),
  };
}

/** A VM's interface is the proxy's alone; only one that the configuration says so is created. */
function vmLink(config: Config, nic: NicConfig, side: 'primary' | 'secondary', options: LinkOptions): Link {
  const { owner, group, isolate } = config.tap;
  const vmInterface: NonNullable<LinkRole['vmInterface']> = {
    instance: config.name,
    create: nic.createTap[side],
    isolate,
    ...(owner === undefined ? {} : { owner: userId(owner) }),
    ...(group === undefined ? {} : { group: groupId(group) }),
  };
  return createLink(nic[side], options, { vmInterface });
}

function addressOf(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined)
    throw new ColoError('COLO_ERR_CONFIG', `${text} is not unix:PATH or tcp:HOST:PORT`);
  return address;
}
