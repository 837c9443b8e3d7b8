/** What the file leaves out because it follows from other keys. */
import type { ParsedConfig } from './schema.js';

type Vm = ParsedConfig['primary'] & { link: string; qmp: string };

/** The whole configuration: every key has a value, apart from those that may be left to the system. */
export type Config = ParsedConfig & {
  primary: Vm;
  secondary: Vm;
  runtime: { directory: string };
  migration: { listen: string; connect: string; connectBack: string; nbd: string; nbdBack: string };
  evidence: { directory: string };
  failover: { stateFile: string };
};

const RUNTIME_DIRECTORY_PARENT = '/run/colo-proxy';

/** `parsed` must have both VMs' links. */
export function deriveConfig(parsed: ParsedConfig): Config {
  const directory = parsed.runtime.directory ?? `${RUNTIME_DIRECTORY_PARENT}/${parsed.name}`;
  const inDirectory = (file: string): string => `unix:${directory}/${file}`;
  return {
    ...parsed,
    primary: {
      ...parsed.primary,
      link: parsed.primary.link!,
      qmp: parsed.primary.qmp ?? inDirectory('primary.qmp'),
    },
    secondary: {
      ...parsed.secondary,
      link: parsed.secondary.link!,
      qmp: parsed.secondary.qmp ?? inDirectory('secondary.qmp'),
    },
    runtime: { ...parsed.runtime, directory },
    migration: {
      listen: parsed.migration.listen ?? inDirectory('migrate.sock'),
      connect: parsed.migration.connect ?? inDirectory('incoming.sock'),
      connectBack: parsed.migration.connectBack ?? inDirectory('incoming-back.sock'),
      nbd: parsed.migration.nbd ?? inDirectory('nbd.sock'),
      nbdBack: parsed.migration.nbdBack ?? inDirectory('nbd-back.sock'),
    },
    failover: { ...parsed.failover, stateFile: parsed.failover.stateFile ?? `${directory}/state.json` },
    evidence: { ...parsed.evidence, directory: parsed.evidence.directory ?? `${directory}/evidence` },
  };
}

/** The client link with the bridge it joins, as one URL. */
export function clientLinkUrl(config: Config): string {
  const { link, bridge } = config.client;
  return bridge === undefined || link.includes(',bridge=') ? link : `${link},bridge=${bridge}`;
}

/** `runtime.mode` as chmod(2) takes it. */
export function runtimeMode(config: Config): number {
  return Number.parseInt(config.runtime.mode, 8);
}

/** One network interface of the VMs: its links, and the key each comes from. */
export interface NicConfig {
  readonly client: string;
  readonly primary: string;
  readonly secondary: string;
  /** The interfaces of packet: links are made when they are absent. */
  readonly createTap: { readonly primary: boolean; readonly secondary: boolean };
  keyOf(side: 'client' | 'primary' | 'secondary'): readonly string[];
}

/** The interface of the top-level keys, then those of `nics`. */
export function allNics(config: Config): NicConfig[] {
  const { primary, secondary } = config;
  const first: NicConfig = {
    client: clientLinkUrl(config),
    primary: primary.link,
    secondary: secondary.link,
    createTap: { primary: primary.createTap, secondary: secondary.createTap },
    keyOf: (side) => [side, 'link'],
  };
  const more = config.nics.map(({ createTap, ...links }, index) => ({
    ...links,
    createTap: { primary: createTap, secondary: createTap },
    keyOf: (side: string) => ['nics', `${index}`, side],
  }));
  return [first, ...more];
}
