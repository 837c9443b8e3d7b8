/** The schema as a flat list of keys: for environment variables, `--set`, and the reference page. */
import type { z } from 'zod';
import { configSchema } from './schema.js';

export interface ConfigKey {
  /** `checkpoint.distanceMsMin`. */
  readonly path: string;
  /** `COLO_PROXY_CHECKPOINT_DISTANCE_MS_MIN`. */
  readonly variable: string;
  readonly kind: 'text' | 'number' | 'boolean' | 'choice' | 'account';
  readonly choices: readonly string[];
  /** Undefined when there is none or it follows from other keys. */
  readonly fallback: string | number | boolean | undefined;
  readonly min: number | undefined;
  readonly max: number | undefined;
  readonly description: string;
}

const VARIABLE_PREFIX = 'COLO_PROXY_';

export const CONFIG_KEYS: readonly ConfigKey[] = [...keysOf(configSchema, [])];

const keyByPath = new Map(CONFIG_KEYS.map((key) => [key.path, key]));

export function configKey(path: string): ConfigKey | undefined {
  return keyByPath.get(path);
}

/** A value given as text (environment, flags), in the key's own type; text that does not fit stays text. */
export function valueFromText(key: ConfigKey, text: string): unknown {
  switch (key.kind) {
    case 'number':
      return numberFromText(text);
    case 'account':
      return /^\d+$/.test(text) ? Number(text) : text;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    default:
      return text;
  }
}

function numberFromText(text: string): unknown {
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/** The known word that `word` was probably meant to be, or undefined. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best;
}

/** Levenshtein distance; words longer than a key ever is are cut. */
function editDistance(left: string, right: string): number {
  const a = left.slice(0, 64);
  const b = right.slice(0, 64);
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}

function* keysOf(schema: z.ZodType, path: readonly string[]): Generator<ConfigKey> {
  const { inner, fallback, description } = unwrap(schema);
  if (inner.def.type === 'object') {
    const shape = (inner as z.ZodObject).shape as Record<string, z.ZodType>;
    for (const [name, child] of Object.entries(shape)) yield* keysOf(child, [...path, name]);
    return;
  }
  const number = inner.def.type === 'number' ? (inner as z.ZodNumber) : undefined;
  yield {
    path: path.join('.'),
    variable: VARIABLE_PREFIX + path.map(screamingSnake).join('_'),
    kind: kindOf(inner),
    choices: inner.def.type === 'enum' ? ((inner as z.ZodEnum).options as string[]) : [],
    fallback: fallback as ConfigKey['fallback'],
    min: number?.minValue ?? undefined,
    max: number?.maxValue ?? undefined,
    description: description ?? '',
  };
}

/** The schema under `optional`, `default` and `prefault`, and what those said. */
function unwrap(schema: z.ZodType): { inner: z.ZodType; fallback: unknown; description: string | undefined } {
  let inner = schema;
  let fallback: unknown;
  let description = inner.description;
  for (;;) {
    const def = inner.def as { type: string; innerType?: z.ZodType; defaultValue?: unknown };
    if (def.type === 'default') fallback = def.defaultValue;
    if (def.innerType === undefined) return { inner, fallback, description };
    inner = def.innerType;
    description ??= inner.description;
  }
}

function kindOf(schema: z.ZodType): ConfigKey['kind'] {
  switch (schema.def.type) {
    case 'number':
      return 'number';
    case 'boolean':
      return 'boolean';
    case 'enum':
      return 'choice';
    case 'union':
      return 'account';
    default:
      return 'text';
  }
}

function screamingSnake(name: string): string {
  return name.replace(/([A-Z])/g, '_$1').toUpperCase();
}
