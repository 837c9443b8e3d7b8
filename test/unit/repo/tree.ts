import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** The files of the project that git knows or would take, as paths from the root. */
export function projectFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    encoding: 'utf8',
  });
  return listed.split('\n').filter((file) => file !== '' && existsSync(file));
}

export function read(file: string): string {
  return readFileSync(file, 'utf8');
}

export interface Import {
  readonly file: string;
  readonly specifier: string;
}

/** Static and dynamic imports and re-exports of a TypeScript file, types included. */
export function importsOf(file: string, text = read(file)): Import[] {
  const pattern =
    /(?:^|[\s;}])(?:import|export)\s[^'"()]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]|^import\s+['"]([^'"]+)['"]/gm;
  return Array.from(text.matchAll(pattern), (match) => ({
    file,
    specifier: (match[1] ?? match[2] ?? match[3])!,
  }));
}
