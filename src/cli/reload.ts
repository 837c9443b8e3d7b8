/**
 * The configuration read again while running. A file with anything wrong changes nothing. Of a right one, what can be
 * changed while running is; what needs a restart is named, and stays as it was.
 */
import type { Config } from '../config/derive.js';
import { type ConfigChange, configChanges } from '../config/diff.js';
import { ColoError } from '../errors.js';
import type { Log } from '../system/log.js';

/** Keys whose new value is in effect at once. */
export const HOT_KEYS: ReadonlySet<string> = new Set([
  'log.level',
  'rules',
  ...['holdMsMin', 'holdMsMax', 'reorderMsMax', 'heldBytesPerFlowMax'].map((key) => `compare.${key}`),
  ...['distanceMsMin', 'periodMsMax', 'periodicMs', 'mode', 'quiesceMsMax'].map((key) => `checkpoint.${key}`),
  ...['request', 'suspend', 'save', 'transfer', 'load', 'migrate'].map((phase) => `checkpoint.${phase}MsMax`),
]);

export interface Reloaded {
  readonly applied: readonly ConfigChange[];
  readonly needRestart: readonly ConfigChange[];
}

export interface ReloadParts {
  /** Reads file, environment and flags anew. Throws COLO_ERR_CONFIG. */
  readonly load: () => Config;
  readonly log: Log;
  /** Puts the hot keys of this configuration into effect. */
  readonly apply: (config: Config) => void;
}

export class Reloader {
  readonly #parts: ReloadParts;
  #current: Config;

  constructor(config: Config, parts: ReloadParts) {
    this.#current = config;
    this.#parts = parts;
  }

  /** Throws COLO_ERR_CONFIG when the new configuration is wrong; nothing has changed then. */
  reload(): Reloaded {
    const { load, log, apply } = this.#parts;
    let fresh: Config;
    try {
      fresh = load();
    } catch (error) {
      if (error instanceof ColoError)
        log.error({ code: error.code }, `configuration not reloaded: ${error.message}`);
      throw error;
    }
    const changes = configChanges(this.#current, fresh);
    const applied = changes.filter(({ path }) => HOT_KEYS.has(path));
    const needRestart = changes.filter(({ path }) => !HOT_KEYS.has(path));
    apply(fresh);
    this.#current = withHotKeys(this.#current, applied);
    log.info(
      { applied: applied.map(shown), needRestart: needRestart.map(shown) },
      summary(applied, needRestart),
    );
    return { applied, needRestart };
  }
}

function withHotKeys(config: Config, applied: readonly ConfigChange[]): Config {
  const next = structuredClone(config) as unknown as Record<string, unknown>;
  for (const { path, after } of applied) {
    const names = path.split('.');
    const key = names.pop()!;
    const group = names.reduce((node, name) => node[name] as Record<string, unknown>, next);
    group[key] = after;
  }
  return next as unknown as Config;
}

function shown({ path, before, after }: ConfigChange): string {
  return `${path}: ${JSON.stringify(before)} -> ${JSON.stringify(after)}`;
}

function summary(applied: readonly ConfigChange[], needRestart: readonly ConfigChange[]): string {
  if (applied.length + needRestart.length === 0) return 'configuration reloaded: nothing has changed';
  const restart = needRestart.map(({ path }) => path).join(', ');
  return `configuration reloaded: ${applied.length} changed${restart === '' ? '' : `; a restart is needed for ${restart}`}`;
}
