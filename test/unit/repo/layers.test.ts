import { posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { importsOf, projectFiles } from './tree.js';

/** docs/design/layers.md says why. A file imports only from its own folder, errors.ts, and lower layers. */
const LAYERS: readonly (readonly string[])[] = [
  ['wire', 'config'],
  ['system'],
  ['link', 'qmp', 'flow'],
  ['compare', 'translate', 'protocol'],
  ['dataplane', 'checkpoint', 'failover', 'evidence'],
  ['pair'],
  ['observe', 'simulation'],
  ['proxy.ts', 'cli'],
];
/** Types that neighbours of one layer meet at; importing them creates no dependence on what implements them. */
const CONTRACTS = new Set(['src/checkpoint/ports.js']);
const MAY_USE_ADDON = new Set(['link', 'wire', 'system']);

const layerOf = new Map(LAYERS.flatMap((names, layer) => names.map((name) => [name, layer] as const)));

/** Why this import is not allowed, or null. */
function problemOf(file: string, specifier: string): string | null {
  const from = file.split('/')[1]!;
  if (from === 'errors.ts')
    return specifier.startsWith('.') ? 'errors.ts imports nothing of the project' : null;
  if (!layerOf.has(from)) return `src/${from} has no layer`;
  if (specifier.startsWith('node:')) return from === 'wire' ? 'wire/ never imports node:' : null;
  if (!specifier.startsWith('.')) return null;
  const target = posix.join(posix.dirname(file), specifier);
  if (target.startsWith('native/'))
    return MAY_USE_ADDON.has(from) ? null : 'only link/, wire/ and system/ use the addon';
  if (!target.startsWith('src/')) return 'outside src/';
  const to = target.split('/')[1]!.replace(/\.js$/, '.ts');
  if (to === 'errors.ts' || to === from) return null;
  if (from === 'cli' && to === 'proxy.ts') return null; // the commands start what proxy.ts composes
  if (!layerOf.has(to)) return `src/${to} has no layer`;
  const isAtMost = CONTRACTS.has(target) ? layerOf.get(from)! : layerOf.get(from)! - 1;
  if (layerOf.get(to)! <= isAtMost) return null;
  return `${from} (layer ${layerOf.get(from)}) must not know ${to} (layer ${layerOf.get(to)})`;
}

describe('layers', () => {
  const sources = projectFiles().filter((file) => /^src\/.*\.ts$/.test(file));

  it('no file imports from a sibling folder or upwards', () => {
    const problems = sources
      .flatMap((file) => importsOf(file))
      .map(({ file, specifier }) => ({ file, specifier, problem: problemOf(file, specifier) }))
      .filter(({ problem }) => problem !== null)
      .map(({ file, specifier, problem }) => `${file}: ${specifier}: ${problem}`);
    expect(problems).toEqual([]);
  });

  it.each([
    ['src/wire/a.ts', '../link/b.js', /must not know link/],
    ['src/wire/a.ts', 'node:fs', /never imports node:/],
    ['src/compare/a.ts', '../translate/b.js', /must not know translate/],
    ['src/checkpoint/a.ts', '../simulation/b.js', /must not know simulation/],
    ['src/pair/a.ts', '../observe/b.js', /must not know observe/],
    ['src/compare/a.ts', '../../native/index.js', /only link/],
    ['src/other/a.ts', '../errors.js', /no layer/],
  ])('%s importing %s is a problem', (file, specifier, problem) => {
    expect(problemOf(file, specifier)).toMatch(problem);
  });

  it('imports are found in every form', () => {
    const text = [
      "import '../a.js';",
      "import { b,\n c } from '../b.js';",
      "import type { D } from '../d.js';",
      "export { e } from '../e.js';",
      "export * from '../f.js';",
      "const g = await import('../g.js');",
      "let h: import('../h.js').H;",
    ].join('\n');
    expect(importsOf('x.ts', text).map((one) => one.specifier)).toEqual(
      ['a', 'b', 'd', 'e', 'f', 'g', 'h'].map((n) => `../${n}.js`),
    );
  });
});
