// Builds dist-packages/colo-proxy_VERSION_ARCH.deb: everything but Node.js inside, nothing compiled at installation.
//   node packaging/deb.mjs
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { setup } from '../bin/setup.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUTPUT = join(ROOT, 'dist-packages');
const STAGE = join(OUTPUT, 'stage');
const LIBRARY = 'usr/lib/colo-proxy';
const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' };

const { version, description, dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const architecture = ARCHITECTURES[process.arch];
if (architecture === undefined) throw new Error(`no Debian name for ${process.arch}`);

await setup();
rmSync(STAGE, { recursive: true, force: true });

place('package.json', `${LIBRARY}/package.json`);
place('bin/colo-proxy.js', `${LIBRARY}/bin/colo-proxy.js`, 0o755);
place('dist', `${LIBRARY}/dist`);
place('assets', `${LIBRARY}/assets`);
place('native/index.js', `${LIBRARY}/native/index.js`);
place('native/build/Release/colo_native.node', `${LIBRARY}/native/build/Release/colo_native.node`);
for (const name of runtimePackages()) place(`node_modules/${name}`, `${LIBRARY}/node_modules/${name}`);
write('usr/bin/colo-proxy', null, `../lib/colo-proxy/bin/colo-proxy.js`);
place('packaging/systemd/colo-proxy@.service', 'usr/lib/systemd/system/colo-proxy@.service');
place('examples', 'usr/share/doc/colo-proxy/examples');
place('packaging/monitoring', 'usr/share/doc/colo-proxy/monitoring');
place('LICENSE', 'usr/share/doc/colo-proxy/copyright');
gzip('CHANGELOG.md', 'usr/share/doc/colo-proxy/changelog.gz');
gzip('docs/man/colo-proxy.8', 'usr/share/man/man8/colo-proxy.8.gz');
completion('bash', 'usr/share/bash-completion/completions/colo-proxy');
completion('zsh', 'usr/share/zsh/vendor-completions/_colo-proxy');
completion('fish', 'usr/share/fish/vendor_completions.d/colo-proxy.fish');
mkdirSync(join(STAGE, 'etc/colo-proxy'), { recursive: true });
write(
  'DEBIAN/control',
  [
    'Package: colo-proxy',
    `Version: ${version}`,
    `Architecture: ${architecture}`,
    'Maintainer: colo-proxy developers <colo-proxy@localhost>',
    'Section: net',
    'Priority: optional',
    'Depends: nodejs (>= 20), nftables, libc6 (>= 2.34), libstdc++6 (>= 12)',
    'Suggests: qemu-system-x86, wireshark',
    `Description: ${description.slice(0, 75)}`,
    ' Mirrors client frames to both copies of a virtual machine, releases output that',
    ' both have produced, checkpoints when they differ, and fails over when one dies.',
    '',
  ].join('\n'),
);

// A pair that runs is never restarted by an upgrade: that would end its protection unasked.
script('postinst', 'if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi');
script(
  'prerm',
  'if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl stop "colo-proxy@*.service" || true; fi',
);
script('postrm', 'if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi');

const file = join(OUTPUT, `colo-proxy_${version}_${architecture}.deb`);
execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', STAGE, file], { stdio: ['ignore', 2, 2] });
rmSync(STAGE, { recursive: true });
console.log(file);

/** The production dependencies and what they need, by name. */
function runtimePackages() {
  const found = new Set();
  const visit = (name) => {
    const manifest = join(ROOT, 'node_modules', name, 'package.json');
    if (found.has(name) || !existsSync(manifest)) return;
    found.add(name);
    for (const next of Object.keys(JSON.parse(readFileSync(manifest, 'utf8')).dependencies ?? {})) visit(next);
  };
  for (const name of Object.keys(dependencies)) visit(name);
  return [...found].sort();
}

function place(from, to, mode) {
  const target = join(STAGE, to);
  mkdirSync(dirname(target), { recursive: true });
  const isUnwanted = (path) => /\.map$|\.sources-hash$|\.tsbuildinfo$|\/(test|tests|docs|\.github)$/.test(path);
  cpSync(join(ROOT, from), target, { recursive: true, filter: (path) => !isUnwanted(path) });
  if (mode !== undefined) chmodSync(target, mode);
}

function write(to, text, linkTo) {
  const target = join(STAGE, to);
  mkdirSync(dirname(target), { recursive: true });
  if (linkTo !== undefined) symlinkSync(linkTo, target);
  else writeFileSync(target, text);
}

function script(name, command) {
  write(`DEBIAN/${name}`, `#!/bin/sh\nset -e\n${command}\n`);
  chmodSync(join(STAGE, 'DEBIAN', name), 0o755);
}

function gzip(from, to) {
  write(to, gzipSync(readFileSync(join(ROOT, from)), { level: 9 }));
}

function completion(shell, to) {
  const command = join(ROOT, 'bin', 'colo-proxy.js');
  write(to, execFileSync(process.execPath, [command, 'completion', shell]));
}
