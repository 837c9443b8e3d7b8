/** What one key cannot say alone: pairs of keys that contradict each other. */
import type { Config } from './derive.js';
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

  refuseEqual(
    config,
    ['primary.link', 'secondary.link', 'client.link'],
    'a link belongs to one side',
    refuse,
  );
  refuseEqual(
    config,
    ['primary.qmp', 'secondary.qmp', 'migration.listen', 'migration.connect'],
    'each needs an address of its own',
    refuse,
  );

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

function refuseEqual(
  config: Config,
  paths: readonly string[],
  why: string,
  refuse: (path: string, what: string) => void,
): void {
  const seen = new Map<string, string>();
  for (const path of paths) {
    const [section, key] = path.split('.') as ['primary', 'link'];
    const value = config[section][key].replace(/,.*$/, '');
    const first = seen.get(value);
    if (first === undefined) seen.set(value, path);
    else refuse(path, `is the same as ${first} (${value}); ${why}`);
  }
}
