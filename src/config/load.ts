/**
 * The configuration from its three places: flags over environment over file. Everything wrong is reported at
 * once, each problem as `file:line:column: key: what`.
 */
import { ColoError } from '../errors.js';
import { type ConfigCheck, type ConfigProblem, ownChecks } from './checks.js';
import { type Config, deriveConfig } from './derive.js';
import { describeIssue } from './describe-issue.js';
import { CONFIG_KEYS, configKey, nearest, valueFromText } from './keys.js';
import { configSchema } from './schema.js';
import { type ConfigSource, parseConfigSource, readConfigSource } from './source.js';

/** One value from the command line. */
export interface ConfigFlag {
  /** As typed, for messages: `--primary-tap`. */
  readonly flag: string;
  /** `primary.link`. */
  readonly path: string;
  readonly value: string | number | boolean;
}

export interface ConfigInput {
  /** Path of a YAML file; must exist. */
  readonly file?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly flags?: readonly ConfigFlag[];
  /** Judgements of the layers above, made when every key is right by itself. */
  readonly checks?: readonly ConfigCheck[];
  /** The links may be missing: only where the proxy can be reached matters. */
  readonly withoutLinks?: boolean;
}

/** Variables that the command line reads itself. */
const OWN_VARIABLES = new Set(['COLO_PROXY_CONFIG']);
const PROBLEMS_MAX = 50;
const GROUPS = new Set(
  CONFIG_KEYS.filter((key) => key.path.includes('.')).map((key) => key.path.split('.')[0]!),
);

/** Throws COLO_ERR_CONFIG with one line for each problem. */
export function loadConfig(input: ConfigInput): Config {
  const source = openSource(input.file);
  if (source.problems.length > 0) refuse(source.problems);

  const problems: string[] = [];
  const tree = withoutEmptyGroups(source.data);
  const origins = new Map<string, string>();
  for (const override of overrides(input, problems)) {
    if (!setAt(tree, override.path.split('.'), override.value)) continue;
    origins.set(override.path, override.origin);
  }

  const where = (path: readonly PropertyKey[], at: 'keyAt' | 'valueAt'): string =>
    origins.get(path.map(String).join('.')) ?? (input.file === undefined ? '' : source[at](path));

  const parsed = configSchema.safeParse(tree);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      if (issue.code === 'unrecognized_keys') {
        for (const key of issue.keys) problems.push(unknownKey([...issue.path, key], where));
      } else {
        const what = describeIssue(issue, valueAt(tree, issue.path));
        problems.push(line(where(issue.path, 'valueAt'), issue.path, what));
      }
    }
    refuse(problems);
  }

  for (const side of ['primary', 'secondary'] as const) {
    if (parsed.data[side].link === undefined && !input.withoutLinks) {
      const what = `is missing; give --${side}-tap NAME, --${side} URL or this key`;
      problems.push(line(where([side], 'valueAt'), [side, 'link'], what));
    }
  }
  if (problems.length > 0) refuse(problems);

  const config = deriveConfig(parsed.data);
  if (input.withoutLinks) return config;
  for (const check of [ownChecks, ...(input.checks ?? [])]) {
    for (const problem of check(config)) problems.push(checkLine(problem, where));
  }
  if (problems.length > 0) refuse(problems);
  return config;
}

function openSource(file: string | undefined): ConfigSource {
  if (file === undefined) return parseConfigSource('', '');
  try {
    return readConfigSource(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ColoError('COLO_ERR_CONFIG', `${file}: cannot be read: ${code}`, { cause: error });
  }
}

interface Override {
  readonly path: string;
  readonly value: unknown;
  readonly origin: string;
}

/** Environment first, then flags, so that the later wins. */
function* overrides(input: ConfigInput, problems: string[]): Generator<Override> {
  const keyOfVariable = new Map(CONFIG_KEYS.map((key) => [key.variable, key]));
  for (const [variable, text] of Object.entries(input.env ?? {})) {
    if (!variable.startsWith('COLO_PROXY_') || OWN_VARIABLES.has(variable) || text === undefined) continue;
    const key = keyOfVariable.get(variable);
    if (key === undefined) {
      problems.push(
        `${shown(variable)}: unknown variable${didYouMean(nearest(variable, keyOfVariable.keys()))}`,
      );
      continue;
    }
    yield { path: key.path, value: valueFromText(key, text), origin: variable };
  }
  for (const { flag, path, value } of input.flags ?? []) {
    const key = configKey(path);
    if (key === undefined) {
      problems.push(`${flag}: ${path}: unknown key${didYouMean(nearest(path, pathsOfKeys()))}`);
      continue;
    }
    yield { path, value: typeof value === 'string' ? valueFromText(key, value) : value, origin: flag };
  }
}

function pathsOfKeys(): string[] {
  return CONFIG_KEYS.map((key) => key.path);
}

function unknownKey(
  path: readonly PropertyKey[],
  where: (path: readonly PropertyKey[], at: 'keyAt') => string,
): string {
  const parent = path.slice(0, -1).map(String).join('.');
  const depth = path.length - 1;
  const siblings = new Set(
    pathsOfKeys()
      .filter((known) => parent === '' || known.startsWith(`${parent}.`))
      .map((known) => known.split('.')[depth]!),
  );
  return line(where(path, 'keyAt'), path, `unknown key${didYouMean(nearest(String(path.at(-1)), siblings))}`);
}

function checkLine(
  problem: ConfigProblem,
  where: (path: readonly PropertyKey[], at: 'valueAt') => string,
): string {
  return line(where(problem.path, 'valueAt'), problem.path, problem.what);
}

/** `place: key: what`, without what is empty. */
function line(place: string, path: readonly PropertyKey[], what: string): string {
  return [place, path.map((part) => shown(String(part))).join('.'), what]
    .filter((part) => part !== '')
    .join(': ');
}

/** A key as it may be printed on a terminal. */
function shown(key: string): string {
  return /^[\w.-]{1,64}$/.test(key) ? key : JSON.stringify(key.slice(0, 64));
}

function didYouMean(word: string | undefined): string {
  return word === undefined ? '' : `; did you mean ${word}?`;
}

function refuse(problems: readonly string[]): never {
  const listed = problems.slice(0, PROBLEMS_MAX);
  if (problems.length > PROBLEMS_MAX) listed.push(`and ${problems.length - PROBLEMS_MAX} more`);
  throw new ColoError('COLO_ERR_CONFIG', listed.join('\n'));
}

/** A group whose keys are all commented out is the same as none. */
function withoutEmptyGroups(data: unknown): unknown {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return data ?? {};
  const isEmptyGroup = ([name, value]: [string, unknown]): boolean => value === null && GROUPS.has(name);
  return Object.fromEntries(Object.entries(data).filter((entry) => !isEmptyGroup(entry)));
}

/** Copies what it changes: YAML aliases share objects. False when `path` leads through something else than groups. */
function setAt(tree: unknown, path: readonly string[], value: unknown): boolean {
  let node = tree;
  for (const [index, name] of path.entries()) {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return false;
    const group = node as Record<string, unknown>;
    if (index === path.length - 1) group[name] = value;
    else if (typeof (group[name] ?? {}) === 'object' && !Array.isArray(group[name])) {
      group[name] = { ...(group[name] as object) };
    }
    node = group[name];
  }
  return true;
}

function valueAt(tree: unknown, path: readonly PropertyKey[]): unknown {
  let node = tree;
  for (const name of path) {
    if (typeof node !== 'object' || node === null) return undefined;
    node = (node as Record<PropertyKey, unknown>)[name];
  }
  return node;
}
