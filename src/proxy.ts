/** The composition root: a configuration becomes one running pair. */
import { randomInt } from 'node:crypto';
import { DEFAULT_CHECKPOINT_LIMITS } from './checkpoint/limits.js';
import { compileRules } from './compare/rules.js';
import { type Config, clientLinkUrl, runtimeMode } from './config/derive.js';
import { ColoError } from './errors.js';
import { CaptureRing } from './evidence/capture-ring.js';
import { EvidenceLog } from './evidence/evidence-log.js';
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
import { Pair } from './pair/pair.js';
import type { PairStatus } from './pair/status.js';
import { dialectChoice } from './protocol/dialects.js';
import { groupId, userId } from './system/accounts.js';
import { type Address, parseAddress } from './system/channel.js';
import { realClock } from './system/clock.js';
import type { Log } from './system/log.js';
import { makeRuntimeDirectory } from './system/runtime-directory.js';
import { socketTransport } from './system/socket-channel.js';

export interface RunningProxy {
  status(): PairStatus;
  /** Latest explained divergences. */
  readonly evidence: EvidenceLog;
  /** Does what an operator asks for: see pair/actions.ts. */
  act(verb: string, args: ActionArguments): Promise<Readonly<Record<string, unknown>>>;
  /** Ends protection in the primary's favour, releases what is held, closes and undoes everything. */
  stop(): Promise<void>;
}

/** Between two attempts to begin protection, and between two looks at a migration that runs. */
const PROTECT_RETRY_MS = 500;
/** How long a VM may take to answer when it must be told whether it lives. */
const LIVENESS_MS_MAX = 500;
/** What the secondary may send between its restart and LOADED; it has had no client frames since. */
const PARKED_LIMITS = { framesMax: 4096, bytesMax: 16 * 1024 * 1024 };
/** Sockets that QEMU must reach: owner and group. */
const SOCKET_MODE = 0o660;

/** Starts a pair as configured. Rejects with a ColoError when something can never work; waits for what is absent. */
export async function startProxy(config: Config, options: { log: Log }): Promise<RunningProxy> {
  const { log } = options;
  const { group } = config.runtime;
  await makeRuntimeDirectory({
    path: config.runtime.directory,
    mode: runtimeMode(config),
    ...(group === undefined ? {} : { group }),
  });
  const interfaces = interfaceMtus(config);
  for (const problem of mtuProblems(interfaces)) log.error({ code: 'COLO_ERR_MTU' }, problem);
  const mtuBytes = interfaces.find((one) => one.mtuBytes !== null)?.mtuBytes ?? DEFAULT_MTU_BYTES;
  const linkOptions = linkOptionsOf(config, mtuBytes);
  const evidence = evidenceOf(config, log);
  const pair = new Pair({
    name: config.name,
    links: {
      client: createLink(clientLinkUrl(config), linkOptions),
      primary: vmLink(config, 'primary', linkOptions),
      secondary: vmLink(config, 'secondary', linkOptions),
    },
    qmp: { primary: addressOf(config.primary.qmp), secondary: addressOf(config.secondary.qmp) },
    migration: {
      listen: addressOf(config.migration.listen),
      connect: addressOf(config.migration.connect),
      socket: { mode: SOCKET_MODE, ...(group === undefined ? {} : { group }) },
    },
    dialect: dialectChoice(config.checkpoint.dialect),
    transport: socketTransport,
    clock: realClock,
    log,
    limits: {
      dataPlane: {
        gate: { framesMax: config.gate.framesMax, bytesMax: config.gate.bytesMax },
        parked: PARKED_LIMITS,
        broadcastPerSecondMax: config.gate.broadcastPerSecondMax,
        compare: config.compare,
        rules: compileRules(config.rules),
      },
      checkpoint: { ...DEFAULT_CHECKPOINT_LIMITS, ...config.checkpoint },
      vm: { ...config.qmp, livenessMsMax: LIVENESS_MS_MAX },
      bandwidthBytesPerSecondMax: config.checkpoint.bandwidthBytesPerSecondMax,
      protectRetryMs: PROTECT_RETRY_MS,
      announceCount: config.failover.announceCount,
      announceEveryMs: config.failover.announceEveryMs,
    },
    failoverAuto: config.failover.auto,
    flowSeed: randomInt(2 ** 31),
    evidence,
  });
  try {
    await pair.start();
  } catch (error) {
    await pair.stop().catch(() => undefined);
    throw error;
  }
  return {
    status: () => pair.status(),
    evidence,
    act: (verb, args) => runAction(pair, verb, args),
    stop: async () => {
      await pair.stop();
      await evidence.close();
    },
  };
}

function evidenceOf(config: Config, log: Log): EvidenceLog {
  const { directory, bytesMax, ageMsMax, keptMax } = config.evidence;
  const ring =
    bytesMax === 0
      ? null
      : new CaptureRing({
          directory,
          prefix: 'divergence',
          application: `colo-proxy ${config.name}`,
          limits: { bytesMax, ageMsMax },
          clock: realClock,
          failed: (error) => log.error({ code: error.code }, `evidence pauses: ${error.message}`),
        });
  return new EvidenceLog(realClock, { keptMax }, ring);
}

/** `mtuBytes`: of the first interface that exists (the client side's bridge, as a rule); the VMs' side follows it. */
function linkOptionsOf(config: Config, mtuBytes: number): LinkOptions {
  const { group } = config.runtime;
  return {
    ...DEFAULT_LINK_OPTIONS,
    ...config.links,
    clock: realClock,
    frameBytesMax: mtuBytes + FRAME_OVERHEAD_BYTES,
    socketMode: SOCKET_MODE,
    ...(group === undefined ? {} : { socketGroup: groupId(group) }),
  };
}

/** A VM's interface is the proxy's alone; only one that the configuration says so is created. */
function vmLink(config: Config, side: 'primary' | 'secondary', options: LinkOptions): Link {
  const { owner, group, isolate } = config.tap;
  const vmInterface: NonNullable<LinkRole['vmInterface']> = {
    instance: config.name,
    create: config[side].createTap,
    isolate,
    ...(owner === undefined ? {} : { owner: userId(owner) }),
    ...(group === undefined ? {} : { group: groupId(group) }),
  };
  return createLink(config[side].link, options, { vmInterface });
}

function addressOf(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined)
    throw new ColoError('COLO_ERR_CONFIG', `${text} is not unix:PATH or tcp:HOST:PORT`);
  return address;
}
