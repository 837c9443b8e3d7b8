/** What the addon is built from, and whether the build fits it: by content, since a checkout or a copy changes the times. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const stamp = join(folder, 'build', 'Release', '.sources-hash');
export const binary = join(folder, 'build', 'Release', 'colo_native.node');

function sourcesHash() {
  const names = ['src', 'test-support'].flatMap((part) => readdirSync(join(folder, part)).map((name) => join(part, name)));
  const hash = createHash('sha256');
  for (const name of ['binding.gyp', ...names.sort()]) {
    hash.update(`${name}\0`).update(readFileSync(join(folder, name))).update('\0');
  }
  return hash.digest('hex');
}

export function isBuilt() {
  return existsSync(binary) && existsSync(stamp) && readFileSync(stamp, 'utf8') === sourcesHash();
}

/** Runs `build`, which throws or ends the process when it fails; what it was made from is noted only then. */
export function buildWith(build) {
  const hash = sourcesHash();
  build();
  writeFileSync(stamp, hash);
}
