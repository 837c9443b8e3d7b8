/** What users install: the npm tarball without a compiler under several Node.js versions, the .deb, its unit. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const NODE_PACKAGE = `node-linux-${process.arch}`;
const has = (command: string): boolean => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'colo-package-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A Node.js of that major version from npm, kept in .cache; undefined when it cannot be had. */
function nodeOf(major: number): string | undefined {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath;
  const cache = resolve('.cache', `node-${major}`);
  const binary = join(cache, 'node_modules', NODE_PACKAGE, 'bin', 'node');
  if (!existsSync(binary)) {
    mkdirSync(cache, { recursive: true });
    const words = [
      'install',
      '--silent',
      '--no-save',
      '--no-audit',
      '--prefix',
      cache,
      `${NODE_PACKAGE}@${major}`,
    ];
    spawnSync('npm', words);
  }
  return existsSync(binary) ? binary : undefined;
}

function demo(node: string, entry: string): void {
  const out = execFileSync(node, [entry, 'demo', '--once', '--http', 'off'], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  expect(out).toContain('Every byte was right and no connection broke.');
}

describe('npm tarball', () => {
  let entry: string;

  it('installs without a compiler: the addon is inside, nothing is built', () => {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const tarball = join(folder, `colo-proxy-${version}.tgz`);
    const listed = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).split('\n');
    expect(listed).toContain('package/native/build/Release/colo_native.node');
    expect(
      listed.filter((name) => /^package\/(src|test|\.cache|\.git|node_modules|test-output)\//.test(name)),
    ).toEqual([]);
    const place = join(folder, 'installed');
    const env = { ...process.env, CXX: '/bin/false', CC: '/bin/false', PYTHON: '/bin/false' };
    const words = [
      'install',
      '--silent',
      '--no-audit',
      '--no-fund',
      '--prefer-offline',
      '--prefix',
      place,
      tarball,
    ];
    mkdirSync(place);
    execFileSync('npm', words, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    entry = join(place, 'node_modules', 'colo-proxy', 'bin', 'colo-proxy.js');
    const command = join(place, 'node_modules', '.bin', 'colo-proxy');
    expect(execFileSync(command, ['version'], { encoding: 'utf8' })).toBe(`${version}\n`);
  });

  it.for([20, 22, 24])('runs the demo under Node.js %i', (major, { skip }) => {
    const node = nodeOf(major);
    if (node === undefined) skip(`Node.js ${major} cannot be had from npm`);
    else demo(node, entry);
  });
});

describe.skipIf(!has('dpkg-deb'))('.deb', () => {
  let root: string;

  it('has everything in its place, and runs from there', () => {
    execFileSync('npm', ['run', '--silent', 'package:deb'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const file = readdirSync('dist-packages').find((name) => name.endsWith('.deb'));
    root = join(folder, 'root');
    execFileSync('dpkg-deb', ['-x', join('dist-packages', file!), root]);
    for (const path of [
      'usr/share/man/man8/colo-proxy.8.gz',
      'usr/share/bash-completion/completions/colo-proxy',
      'usr/share/zsh/vendor-completions/_colo-proxy',
      'usr/share/fish/vendor_completions.d/colo-proxy.fish',
      'usr/share/doc/colo-proxy/examples/colo-proxy.yaml',
      'usr/lib/systemd/system/colo-proxy@.service',
      'etc/colo-proxy',
    ]) {
      expect(existsSync(join(root, path)), path).toBe(true);
    }
    demo(process.execPath, join(root, 'usr/bin/colo-proxy'));
  });

  it.skipIf(!has('systemd-analyze'))('its unit is right, and little exposed', () => {
    const unit = join(folder, 'colo-proxy@web.service');
    const text = readFileSync('packaging/systemd/colo-proxy@.service', 'utf8');
    execFileSync('sh', ['-c', `cat > ${unit}`], { input: text.replace('/usr/bin/colo-proxy', '/bin/true') });
    const verified = spawnSync('systemd-analyze', ['verify', '--man=no', unit], { encoding: 'utf8' });
    expect(verified.stderr.split('\n').filter((line) => line.includes('colo-proxy'))).toEqual([]);
    const security = spawnSync('systemd-analyze', ['security', '--offline=true', unit], { encoding: 'utf8' });
    const level = Number(/Overall exposure level for .*: ([\d.]+)/.exec(security.stdout)?.[1]);
    process.stderr.write(`systemd-analyze security: ${level}\n`);
    expect(level).toBeLessThan(3);
  });
});
