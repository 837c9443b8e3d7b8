import { describe, expect, it } from 'vitest';
import { flagsOf } from '../../../src/cli/config-options.js';
import { HOT_KEYS, Reloader } from '../../../src/cli/reload.js';
import type { Config } from '../../../src/config/derive.js';
import { configChanges } from '../../../src/config/diff.js';
import { CONFIG_KEYS } from '../../../src/config/keys.js';
import { loadConfig } from '../../../src/config/load.js';
import { ruleSchema } from '../../../src/config/rule-schema.js';
import { ColoError } from '../../../src/errors.js';
import { LiveLimits } from '../../../src/pair/live-limits.js';
import { silentLog } from '../../../src/system/log.js';

function configWith(...set: string[]): Config {
  return loadConfig({ flags: flagsOf({ primaryTap: 'tap0', secondaryTap: 'tap1', isolate: true, set }) });
}

describe('reload', () => {
  function reloaderOf(load: () => Config) {
    const applied: Config[] = [];
    const apply = (config: Config): void => void applied.push(config);
    return { applied, reloader: new Reloader(configWith(), { load, log: silentLog, apply }) };
  }

  it('applies what can change while running and names what needs a restart, until it has been restarted', () => {
    const fresh = configWith('log.level=debug', 'http.listen=127.0.0.1:1', 'checkpoint.distanceMsMin=7');
    const { reloader, applied } = reloaderOf(() => fresh);
    const first = reloader.reload();
    expect(first.applied).toEqual([
      { path: 'checkpoint.distanceMsMin', before: 100, after: 7 },
      { path: 'log.level', before: 'info', after: 'debug' },
    ]);
    expect(first.needRestart.map(({ path }) => path)).toEqual(['http.listen']);
    expect(applied).toEqual([fresh]);
    const second = reloader.reload();
    expect(second.applied).toEqual([]);
    expect(second.needRestart.map(({ path }) => path)).toEqual(['http.listen']);
  });

  it('rules and a value in a group are both remembered as applied', () => {
    const rules = [ruleSchema.parse({ why: 'they ask again', action: 'waive', protocol: 'udp' })];
    const fresh: Config = { ...configWith('compare.holdMsMin=9'), rules };
    const { reloader } = reloaderOf(() => fresh);
    expect(reloader.reload().applied.map(({ path }) => path)).toEqual(['compare.holdMsMin', 'rules']);
    expect(reloader.reload()).toEqual({ applied: [], needRestart: [] });
  });

  it('a configuration with anything wrong changes nothing', () => {
    const { reloader, applied } = reloaderOf(() => {
      throw new ColoError('COLO_ERR_CONFIG', 'x.yaml:1:1: wrong');
    });
    expect(() => reloader.reload()).toThrow('x.yaml:1:1: wrong');
    expect(applied).toEqual([]);
  });

  it('hot keys exist', () => {
    const known = new Set(CONFIG_KEYS.map(({ path }) => path));
    expect([...HOT_KEYS].filter((path) => !known.has(path))).toEqual([]);
  });
});

describe('what differs', () => {
  it('key by key, lists whole, keys that come and go', () => {
    const before = { a: { b: 1, c: [1, 2] }, d: 4 };
    const after = { a: { b: 1, c: [2, 1] }, e: 5 };
    expect(configChanges(before, after)).toEqual([
      { path: 'a.c', before: [1, 2], after: [2, 1] },
      { path: 'd', before: 4, after: undefined },
      { path: 'e', before: undefined, after: 5 },
    ]);
    expect(configChanges(after, structuredClone(after))).toEqual([]);
  });
});

describe('live limits', () => {
  it('every hot key but the log is taken over, what sized something is not', () => {
    const live = new LiveLimits(configWith());
    const fresh = configWith(
      ...['compare.reorderMsMax=3', 'compare.heldFramesMax=64', 'checkpoint.saveMsMax=77'],
      ...['checkpoint.distanceMsMin=8', 'compare.holdMsMin=7', 'compare.holdMsMax=9'],
    );
    expect(live.take(fresh)).toBeNull();
    expect(live.compare).toMatchObject({
      reorderMsMax: 3,
      heldFramesMax: 65_536,
      holdMsMin: 7,
      holdMsMax: 9,
    });
    expect(live.checkpoint).toMatchObject({ saveMsMax: 77, distanceMsMin: 8 });
  });

  it('a plan of checkpoints is told once, so that an operator may choose another', () => {
    const live = new LiveLimits(configWith());
    const fresh = configWith('checkpoint.mode=periodic', 'checkpoint.periodicMs=40');
    expect(live.take(fresh)).toEqual({ mode: 'periodic', periodMs: 40 });
    expect(live.take(fresh)).toBeNull();
  });
});
