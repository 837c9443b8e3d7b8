/** What differs between two configurations, key by key. */

export interface ConfigChange {
  /** `checkpoint.distanceMsMin`. */
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

export function configChanges(before: object, after: object): ConfigChange[] {
  const old = new Map(leaves(before, ''));
  const fresh = new Map(leaves(after, ''));
  return [...new Set([...old.keys(), ...fresh.keys()])]
    .filter((path) => JSON.stringify(old.get(path)) !== JSON.stringify(fresh.get(path)))
    .sort()
    .map((path) => ({ path, before: old.get(path), after: fresh.get(path) }));
}

/** Lists are compared whole. */
function* leaves(value: unknown, path: string): Generator<[string, unknown]> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    yield [path, value];
    return;
  }
  for (const [name, child] of Object.entries(value))
    yield* leaves(child, path === '' ? name : `${path}.${name}`);
}
