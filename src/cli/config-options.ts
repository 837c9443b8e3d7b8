/** The flags that change the configuration, and the configuration they give together with file and environment. */
import { existsSync, statSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { ruleChecks } from '../compare/rule-checks.js';
import type { ConfigCheck, ConfigProblem } from '../config/checks.js';
import { allNics, type Config } from '../config/derive.js';
import { type ConfigFlag, loadConfig } from '../config/load.js';
import { ColoError } from '../errors.js';
import { parseLinkUrl } from '../link/url.js';

const DEFAULT_CONFIG_FILE = '/etc/colo-proxy/colo-proxy.yaml';

/** Flags that set one key to what was typed. */
const KEY_FLAGS: readonly { flag: string; argument: string; path: string; help: string }[] = [
  {
    flag: '--name',
    argument: 'NAME',
    path: 'name',
    help: 'name of the protected pair; tells several proxies apart',
  },
  {
    flag: '--primary',
    argument: 'URL',
    path: 'primary.link',
    help: "the primary VM's link, such as stream:unix:/run/p.sock",
  },
  { flag: '--secondary', argument: 'URL', path: 'secondary.link', help: "the secondary VM's link" },
  {
    flag: '--client',
    argument: 'URL',
    path: 'client.link',
    help: "the clients' link, such as tap:colo0,bridge=br0",
  },
  {
    flag: '--primary-qmp',
    argument: 'ADDRESS',
    path: 'primary.qmp',
    help: "the primary's monitor: unix:PATH or tcp:HOST:PORT",
  },
  { flag: '--secondary-qmp', argument: 'ADDRESS', path: 'secondary.qmp', help: "the secondary's monitor" },
  { flag: '--runtime-directory', argument: 'DIR', path: 'runtime.directory', help: 'where the sockets live' },
  {
    flag: '--http',
    argument: 'ADDRESS',
    path: 'http.listen',
    help: 'admin address: HOST:PORT, unix:PATH or off',
  },
  {
    flag: '--record',
    argument: 'DIR',
    path: 'record.directory',
    help: 'flight recorder: keep everything compared and every verdict there, for replay',
  },
  { flag: '--log-level', argument: 'LEVEL', path: 'log.level', help: 'least level that is logged' },
  { flag: '--log-format', argument: 'FORMAT', path: 'log.format', help: 'auto, json or pretty' },
];

/** What commander hands over; every value as typed. */
export interface ConfigOptions {
  readonly config?: string;
  readonly primaryTap?: string;
  readonly secondaryTap?: string;
  /** False with --no-isolate. */
  readonly isolate: boolean;
  readonly set?: readonly string[];
  readonly [attribute: string]: unknown;
}

export function addConfigOptions(command: Command): Command {
  command.option('--config <FILE>', `configuration file (default: ${DEFAULT_CONFIG_FILE} when it exists)`);
  for (const side of ['primary', 'secondary'] as const) {
    command.addOption(
      new Option(`--${side}-tap <NAME>`, `the ${side} VM's tap; made, persistent, when absent`).conflicts(
        side,
      ),
    );
  }
  for (const { flag, argument, help } of KEY_FLAGS) command.option(`${flag} <${argument}>`, help);
  command.option('--no-isolate', "leave it to the operator to keep the host's stack off the VMs' taps");
  command.option('--set <KEY=VALUE>', 'any key of the configuration; may be repeated', collect);
  return command;
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** `withoutLinks`: for commands that only talk to a running proxy. Throws COLO_ERR_CONFIG with one line for each problem, COLO_ERR_USAGE for a malformed flag. */
export function configOf(
  options: ConfigOptions,
  env: NodeJS.ProcessEnv,
  { withoutLinks = false } = {},
): Config {
  const file = configFileOf(options, env);
  return loadConfig({ file, env, flags: flagsOf(options), checks: [linkChecks, ruleChecks], withoutLinks });
}

/** The file that is read; undefined when there is none. */
export function configFileOf(options: ConfigOptions, env: NodeJS.ProcessEnv): string | undefined {
  const named = options.config ?? env.COLO_PROXY_CONFIG;
  return named ?? (existsSync(DEFAULT_CONFIG_FILE) ? DEFAULT_CONFIG_FILE : undefined);
}

/**
 * A running proxy reads its configuration more than once: when it begins anew without root's privileges, at a reload, at
 * a hot restart. Throws COLO_ERR_CONFIG for a pipe, which would be empty then.
 */
export function refusePipe(file: string | undefined): void {
  const kind = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false });
  if (!kind?.isFIFO() && !kind?.isSocket()) return;
  throw new ColoError(
    'COLO_ERR_CONFIG',
    `${file}: a pipe can be read once, and run reads it again: use a file`,
  );
}

/** `--set` first: a flag with a name of its own says it more plainly. */
export function flagsOf(options: ConfigOptions): ConfigFlag[] {
  const flags: ConfigFlag[] = (options.set ?? []).map((text) => {
    const equals = text.indexOf('=');
    if (equals <= 0) throw new ColoError('COLO_ERR_USAGE', `--set ${text}: expected KEY=VALUE`);
    return { flag: '--set', path: text.slice(0, equals), value: text.slice(equals + 1) };
  });
  for (const { flag, path } of KEY_FLAGS) {
    const value = options[attributeOf(flag)];
    if (typeof value === 'string') flags.push({ flag, path, value });
  }
  for (const side of ['primary', 'secondary'] as const) {
    const tap = options[`${side}Tap`];
    if (tap === undefined) continue;
    const flag = `--${side}-tap`;
    flags.push({ flag, path: `${side}.link`, value: `packet:${tap}` });
    flags.push({ flag, path: `${side}.createTap`, value: true });
  }
  if (!options.isolate) flags.push({ flag: '--no-isolate', path: 'tap.isolate', value: false });
  return flags;
}

/** Commander's name for a flag: `--primary-qmp` is `primaryQmp`. */
function attributeOf(flag: string): string {
  return flag.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Link URLs are judged by the layer that opens them. One interface by two schemes is told here. */
const linkChecks: ConfigCheck = (config) => {
  const problems: ConfigProblem[] = [];
  const seen = new Map<string, { readonly key: string; readonly kind: string }>();
  const sides = ['primary', 'secondary', 'client'] as const;
  const all = allNics(config).flatMap((nic) => sides.map((side) => ({ nic, side })));
  for (const { nic, side } of all) {
    const path = nic.keyOf(side);
    try {
      const link = parseLinkUrl(nic[side]);
      if (side !== 'client' && link.kind === 'tap') {
        problems.push({ path, what: `QEMU holds a VM's tap itself; use packet:${link.interface}` });
      }
      if (link.kind !== 'packet' && link.kind !== 'tap') continue;
      const { interface: name, kind } = link;
      const other = seen.get(name);
      if (other === undefined) seen.set(name, { key: path.join('.'), kind });
      else if (other.kind !== kind) problems.push({ path, what: `${name} is the interface of ${other.key}` });
    } catch (error) {
      problems.push({ path, what: error instanceof Error ? error.message : String(error) });
    }
  }
  return problems;
};
