import { existsSync } from 'node:fs';
import { posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildProgram } from '../../../src/cli/program.js';
import { projectFiles, read } from './tree.js';

const pages = projectFiles().filter((file) => file.endsWith('.md'));

describe('documentation', () => {
  it('links lead somewhere', () => {
    const broken = pages.flatMap((page) =>
      Array.from(read(page).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g), (match) => match[1]!)
        .filter((target) => !existsSync(posix.join(posix.dirname(page), target)))
        .map((target) => `${page}: ${target}`),
    );
    expect(broken).toEqual([]);
  });

  it('npm scripts it names exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const unknown = pages.flatMap((page) =>
      Array.from(read(page).matchAll(/npm run ([\w:-]+)/g), (match) => match[1]!)
        .filter((script) => scripts[script] === undefined)
        .map((script) => `${page}: npm run ${script}`),
    );
    expect(unknown).toEqual([]);
  });

  it('commands it names exist', () => {
    const known = new Set(
      buildProgram({ env: {}, out() {}, err() {} }, () => {}).commands.map((one) => one.name()),
    );
    const unknown = ['README.md', ...pages.filter((page) => page.startsWith('docs/reference/'))].flatMap(
      (page) =>
        Array.from(read(page).matchAll(/[`(\n]colo-proxy ([a-z][a-z-]*)/g), (match) => match[1]!)
          .filter((command) => !known.has(command))
          .map((command) => `${page}: colo-proxy ${command}`),
    );
    expect(unknown).toEqual([]);
  });

  it('scripts run files that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const missing = Object.values(scripts)
      .flatMap((script) => Array.from(script.matchAll(/node (\S+)/g), (match) => match[1]!))
      .filter((file) => !existsSync(file));
    expect(missing).toEqual([]);
  });
});
