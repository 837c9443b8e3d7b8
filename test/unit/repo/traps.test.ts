/** Every trap of proxying COLO is written down once, and those of frames have tests named after them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const TRAPS = 33;
/** Those about the protocol, the processes and the guest's life have tests under what they are about. */
const ELSEWHERE = new Set([22, 24, 26, 27, 28, 29, 32, 33]);
/** A title: `describe('T17, T18: ...'`, `it(\`T5: ...\``. */
const TITLE = /\b(?:describe|it|test)(?:\.\w+)?\(\s*(?:'([^'\n]*)'|`([^`]*)`)/g;

function named(): Set<number> {
  const found = new Set<number>();
  const folder = join(ROOT, 'test', 'unit');
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.test.ts') || name.startsWith('repo')) continue;
    for (const [, quoted, ticked] of readFileSync(join(folder, name), 'utf8').matchAll(TITLE)) {
      for (const [, trap] of (quoted ?? ticked ?? '').matchAll(/\bT(\d+)\b/g)) found.add(Number(trap));
    }
  }
  return found;
}

it('every trap of frames has a test that is named after it', () => {
  const known = named();
  const all = Array.from({ length: TRAPS }, (_, index) => index + 1);
  expect(all.filter((trap) => !ELSEWHERE.has(trap) && !known.has(trap))).toEqual([]);
});

it('the table of traps has each once, in order, and the folders that it names are there', () => {
  const text = readFileSync(join(ROOT, 'docs', 'design', 'traps.md'), 'utf8');
  const rows = [...text.matchAll(/^\| T(\d+) \|(?:[^|]*\|){2} ([^|]*) \|$/gm)];
  expect(rows.map(([, trap]) => Number(trap))).toEqual(
    Array.from({ length: TRAPS }, (_, index) => index + 1),
  );
  const folders = rows.flatMap(([, , where]) =>
    [...where!.matchAll(/`([^`]+)`/g)].map(([, folder]) => folder!),
  );
  expect(folders.length).toBeGreaterThan(TRAPS);
  expect(folders.filter((folder) => !existsSync(join(ROOT, 'src', folder)))).toEqual([]);
});
