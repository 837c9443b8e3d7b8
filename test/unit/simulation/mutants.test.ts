import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

interface Mutant {
  readonly name: string;
  readonly in: string;
  readonly find: string;
  readonly put: string;
  readonly nth?: number;
}

const SOURCES = new URL('../../../src/', import.meta.url);
const modulePath = '../../simulation/mutant-list.mjs';
const { MUTANTS } = (await import(/* @vite-ignore */ modulePath)) as { MUTANTS: readonly Mutant[] };

test.each(MUTANTS)('the place of the mutant $name is in the source', (mutant) => {
  const source = readFileSync(new URL(mutant.in.replace(/\.js$/, '.ts'), SOURCES), 'utf8');
  expect(source.split(mutant.find).length - 1).toBeGreaterThanOrEqual(mutant.nth ?? 1);
});

test('each mutant changes something and has a name of its own', () => {
  for (const { find, put } of MUTANTS) expect(put).not.toBe(find);
  expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
});
