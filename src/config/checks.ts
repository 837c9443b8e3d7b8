/** What one key cannot say alone: pairs of keys that contradict each other. */
import { allNics, type Config } from './derive.js';
import { SOCKET_PATH_BYTES_MAX } from './fields.js';

/** Something wrong with a configuration whose keys are each right. `path` names the key to blame. */
export interface ConfigProblem {
  readonly path: readonly string[];
  readonly what: string;
}

/** Layers above add what only they can judge, such as the schemes of link URLs. */
export type ConfigCheck = (config: Config) => ConfigProblem[];

export const ownChecks: ConfigCheck = (config) => {
  const problems: ConfigProblem[] = [];
  const refuse = (path: string, what: string): void => {
    problems.push({ path: path.split('.'), what });
  };

  const { compare, gate, links, qmp } = config;
  if (compare.holdMsMin > compare.holdMsMax) {
    refuse('compare.holdMsMin', `must not be above compare.holdMsMax (${compare.holdMsMax})`);
  }
  if (compare.heldBytesPerFlowMax > compare.heldBytesMax) {
    refuse('compare.heldBytesPerFlowMax', `must not be above compare.heldBytesMax (${compare.heldBytesMax})`);
  }
  if (links.reconnectMsMin > links.reconnectMsMax) {
    refuse('links.reconnectMsMin', `must not be above links.reconnectMsMax (${links.reconnectMsMax})`);
  }
  if (qmp.reconnectMsMin > qmp.reconnectMsMax) {
    refuse('qmp.reconnectMsMin', `must not be above qmp.reconnectMsMax (${qmp.reconnectMsMax})`);
  }
  if (gate.bytesMax < gate.framesMax * ETHERNET_HEADER_BYTES) {
    refuse('gate.bytesMax', `cannot hold gate.framesMax (${gate.framesMax}) frames of the smallest size`);
  }

  const { kind, program, directory, leaseMs, marginMs } = config.failover.arbiter;
  if (kind === 'exec' && program === undefined) refuse('failover.arbiter.program', 'is what kind exec asks');
  if (kind === 'file' && directory === undefined)
    refuse('failover.arbiter.directory', 'is what kind file uses');
  if (2 * marginMs >= leaseMs) {
    refuse('failover.arbiter.marginMs', `must be below half of failover.arbiter.leaseMs (${leaseMs})`);
  }

  const sides = ['primary', 'secondary', 'client'] as const;
  const linksByKey = allNics(config).flatMap((nic) =>
    sides.map((side) => [nic.keyOf(side).join('.'), nic[side]] as const),
  );
  refuseEqual(linksByKey, 'a link belongs to one side', refuse);
  const addresses = [
    ['primary.qmp', config.primary.qmp],
    ['secondary.qmp', config.secondary.qmp],
    ['migration.listen', config.migration.listen],
    ['migration.connect', config.migration.connect],
    ['migration.connectBack', config.migration.connectBack],
    ['migration.nbd', config.migration.nbd],
    ['migration.nbdBack', config.migration.nbdBack],
  ] as const;
  refuseEqual(addresses, 'each needs an address of its own', refuse);

  const drives = config.disks.map(({ drive }, index) => [`disks.${index}.drive`, drive] as const);
  refuseEqual(drives, 'each drive is replicated once', refuse);

  for (const side of ['primary', 'secondary'] as const) {
    if (config[side].createTap && !config[side].link.startsWith('packet:')) {
      refuse(`${side}.createTap`, `needs a packet: link; ${side}.link is ${config[side].link}`);
    }
  }
  if (config.client.bridge !== undefined) {
    const inUrl = /,bridge=([^,]*)/.exec(config.client.link)?.[1];
    if (!config.client.link.startsWith('tap:')) {
      refuse('client.bridge', `needs a tap: link; client.link is ${config.client.link}`);
    } else if (inUrl !== undefined && inUrl !== config.client.bridge) {
      refuse('client.bridge', `contradicts client.link, which says bridge=${inUrl}`);
    }
  }

  for (const file of ['secondary.qmp', 'incoming.sock']) {
    const pathBytes = Buffer.byteLength(`${config.runtime.directory}/${file}`);
    if (pathBytes > SOCKET_PATH_BYTES_MAX) {
      const what = `is too long: ${file} in it would have ${pathBytes} bytes, a unix socket takes ${SOCKET_PATH_BYTES_MAX}`;
      refuse('runtime.directory', what);
      break;
    }
  }
  return problems;
};

const ETHERNET_HEADER_BYTES = 14;

/** Of values that must all differ, the second of two that are equal is to blame. */
function refuseEqual(
  values: readonly (readonly [path: string, value: string])[],
  why: string,
  refuse: (path: string, what: string) => void,
): void {
  const seen = new Map<string, string>();
  for (const [path, whole] of values) {
    const value = whole.replace(/,.*$/, '');
    const first = seen.get(value);
    if (first === undefined) seen.set(value, path);
    else refuse(path, `is the same as ${first} (${value}); ${why}`);
  }
}
