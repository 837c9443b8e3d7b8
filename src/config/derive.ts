/** What the file leaves out because it follows from other keys. */
import type { ParsedConfig } from './schema.js';

type Vm = ParsedConfig['primary'] & { link: string; qmp: string };

/** The whole configuration: every key has a value, apart from those that may be left to the system. */
export type Config = ParsedConfig & {
  primary: Vm;
  secondary: Vm;
  runtime: { directory: string };
  migration: { listen: string; connect: string };
  evidence: { directory: string };
};

export const RUNTIME_DIRECTORY_PARENT = '/run/colo-proxy';

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
    },
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
