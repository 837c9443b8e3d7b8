/** A YAML file as plain data, with the place of every key and value. */
import { readFileSync } from 'node:fs';
import { isMap, isScalar, isSeq, type Node, parseDocument, type Range } from 'yaml';

/** A configuration is a few kilobytes; anything larger is not one. */
const FILE_BYTES_MAX = 1024 * 1024;

export interface ConfigSource {
  readonly data: unknown;
  /** Errors of the YAML itself, each with its place: the data is unusable then. */
  readonly problems: readonly string[];
  /** `file:line:column` of the value at `path`, or of the nearest thing around it that exists. */
  valueAt(path: readonly PropertyKey[]): string;
  /** `file:line:column` of the key itself. */
  keyAt(path: readonly PropertyKey[]): string;
}

/** Throws what the system said when the file cannot be read. */
export function readConfigSource(file: string): ConfigSource {
  const text = readFileSync(file);
  if (text.length > FILE_BYTES_MAX) {
    return unusable(file, `has ${text.length} bytes; a configuration has at most ${FILE_BYTES_MAX}`);
  }
  return parseConfigSource(file, text.toString('utf8'));
}

export function parseConfigSource(file: string, text: string): ConfigSource {
  const document = parseDocument(text, { prettyErrors: false, uniqueKeys: true });
  const place = (offset: number): string => {
    const before = text.slice(0, offset);
    return `${file}:${before.split('\n').length}:${offset - before.lastIndexOf('\n')}`;
  };
  const problems = [...document.errors, ...document.warnings].map(
    (problem) => `${place(problem.pos[0])}: ${firstLine(problem.message)}`,
  );

  let data: unknown = null;
  if (problems.length === 0) {
    try {
      data = document.toJS({ maxAliasCount: 100 });
    } catch (error) {
      problems.push(`${file}: ${firstLine(error instanceof Error ? error.message : String(error))}`);
    }
  }

  const root = document.contents as Node | null;
  const placeOf = (node: unknown): string => {
    const range = (node as { range?: Range | null } | null)?.range;
    return place(range ? range[0] : 0);
  };
  return {
    data,
    problems,
    valueAt: (path) => placeOf(walk(root, path).value),
    keyAt: (path) => placeOf(walk(root, path).key),
  };
}

/** The deepest node along `path` and the key node that led to it; an item of a list is its own. */
function walk(root: Node | null, path: readonly PropertyKey[]): { key: unknown; value: unknown } {
  let value: unknown = root;
  let key: unknown = root;
  for (const name of path) {
    if (isSeq(value)) {
      const item = value.items[Number(name)];
      if (item === undefined) break;
      key = item;
      value = item;
      continue;
    }
    if (!isMap(value)) break;
    const pair = value.items.find((item) => isScalar(item.key) && String(item.key.value) === String(name));
    if (pair === undefined) break;
    key = pair.key;
    value = pair.value ?? pair.key;
  }
  return { key, value };
}

function unusable(file: string, what: string): ConfigSource {
  return { data: null, problems: [`${file}: ${what}`], valueAt: () => file, keyAt: () => file };
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0]!;
}
