/** What a fuzzer found once is right for ever; and every target takes its own good inputs. */
import { existsSync, readdirSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';

interface Target {
  readonly seeds: readonly Buffer[];
  close?(): unknown;
}
interface Targets {
  readonly CORPUS: string;
  readonly TARGET_NAMES: readonly string[];
  loadTargets(
    load: (path: string) => Promise<unknown>,
    names?: readonly string[],
  ): Promise<{ targets: Record<string, Target> }>;
  readRegressions(name: string): Buffer[];
  run(target: Target, input: Buffer): Promise<void> | undefined;
}

const modulePath = '../../fuzz/targets.mjs';
const { CORPUS, TARGET_NAMES, loadTargets, readRegressions, run } = (await import(modulePath)) as Targets;
const fromSource = (path: string): Promise<unknown> =>
  import(/* @vite-ignore */ `../../../src/${path.replace(/\.js$/, '.ts')}`);
const { targets } = await loadTargets(fromSource);

afterAll(async () => {
  for (const target of Object.values(targets)) await target.close?.();
});

describe('fuzz targets', () => {
  it.each(TARGET_NAMES)('%s', async (name) => {
    const target = targets[name]!;
    const regressions = readRegressions(name);
    expect(target.seeds.length).toBeGreaterThan(0);
    for (const input of [...target.seeds, ...regressions]) await run(target, input);
  });

  it('every folder of the corpus belongs to a target', () => {
    const folders = existsSync(CORPUS) ? readdirSync(CORPUS) : [];
    expect(folders.filter((name) => !TARGET_NAMES.includes(name))).toEqual([]);
  });
});
