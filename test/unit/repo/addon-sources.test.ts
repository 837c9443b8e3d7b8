/** The addon is built again when what it is made from has changed, and only then. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));

const folder = mkdtempSync(join(tmpdir(), 'colo-addon-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('by content, not by time; a build that fails does not count', async () => {
  for (const part of ['sources.mjs', 'binding.gyp', 'src', 'test-support']) {
    cpSync(join(NATIVE, part), join(folder, part), { recursive: true });
  }
  const release = join(folder, 'build', 'Release');
  mkdirSync(release, { recursive: true });
  const { isBuilt, buildWith } = await import(/* @vite-ignore */ join(folder, 'sources.mjs'));
  const make = (): void => writeFileSync(join(release, 'colo_native.node'), '');

  expect(isBuilt()).toBe(false);
  buildWith(make);
  expect(isBuilt()).toBe(true);
  const later = new Date(Date.now() + 10_000);
  utimesSync(join(folder, 'src', 'tap.cc'), later, later);
  expect(isBuilt()).toBe(true);

  writeFileSync(join(folder, 'test-support', 'namespace.cc'), '// other');
  expect(isBuilt()).toBe(false);
  const failing = (): void => {
    throw new Error('no compiler');
  };
  expect(() => buildWith(failing)).toThrow('no compiler');
  expect(isBuilt()).toBe(false);
  buildWith(make);
  expect(isBuilt()).toBe(true);
});
