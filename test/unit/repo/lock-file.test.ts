import { describe, expect, it } from 'vitest';
import { read } from './tree.js';

interface Entry {
  readonly version?: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

describe('package-lock.json', () => {
  const packages = JSON.parse(read('package-lock.json')).packages as Record<string, Entry>;

  it('names the packages of other platforms too, else npm ci refuses it', () => {
    const missing = Object.entries(packages).flatMap(([path, entry]) =>
      Object.keys(entry.optionalDependencies ?? {}).filter((name) => {
        const nested = `${path === '' ? '' : `${path}/`}node_modules/${name}`;
        return packages[nested] === undefined && packages[`node_modules/${name}`] === undefined;
      }),
    );
    expect(missing).toEqual([]);
  });

  it('has a version for each and names no registry host', () => {
    const entries = Object.entries(packages).filter(([path]) => path !== '');
    expect(entries.filter(([, entry]) => entry.version === undefined).map(([path]) => path)).toEqual([]);
    const hosts = entries.flatMap(([, entry]) =>
      entry.resolved === undefined ? [] : [new URL(entry.resolved).host],
    );
    expect(hosts.filter((host) => host !== 'registry.npmjs.org')).toEqual([]);
  });
});
