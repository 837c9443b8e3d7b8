/** What the machine must have; as root, Debian packages that are missing are installed. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './command.mjs';

/** Program (or file) and the Debian package that brings it. */
const NEEDED = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['ip', 'iproute2'],
  ['ping', 'iputils-ping'],
  ['gcc', 'gcc'],
  ['cpio', 'cpio'],
  ['depmod', 'kmod'],
  ['dpkg-deb', 'dpkg'],
  ['apt-get', 'apt'],
  ['/usr/share/doc/busybox-static', 'busybox-static'],
  ['/usr/include/stdio.h', 'libc6-dev'],
];
const NEEDED_FOR_NEWER = [['debootstrap', 'debootstrap']];

const isRoot = () => process.getuid?.() === 0;

function isPresent(file) {
  if (file.startsWith('/')) return fs.existsSync(file);
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return folders.some((folder) => fs.existsSync(path.join(folder, file)));
}

const absentPackages = (needed) => [
  ...new Set(needed.filter(([file]) => !isPresent(file)).map(([, name]) => name)),
];

/**
 * @param {{qemu: string, log: (text: string) => void}} options
 * @returns {Promise<string[]>} what is missing, in words; empty when the laboratory can be had
 */
export async function missingRequirements({ qemu, log }) {
  if (process.platform !== 'linux' || process.arch !== 'x64') return ['Linux on x86-64'];
  if (!isRoot()) return ['root (network namespaces, TAPs)'];
  if (!isPresent('apt-get'))
    return ['a Debian system (apt-get: the guest kernel and busybox are Debian packages)'];
  const missing = fs.existsSync('/dev/net/tun') ? [] : ['/dev/net/tun'];

  const needed = qemu === '7' ? NEEDED : [...NEEDED, ...NEEDED_FOR_NEWER];
  const absent = absentPackages(needed);
  if (absent.length > 0) {
    log(`installing ${absent.join(' ')}`);
    await installPackages(absent).catch((error) => log(String(error.message)));
    missing.push(...absentPackages(needed).map((name) => `the Debian package ${name}`));
  }
  return missing;
}

async function installPackages(names) {
  const install = () =>
    run('apt-get', ['install', '-y', '--no-install-recommends', ...names], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
      timeoutMs: 300_000,
    });
  try {
    await install();
  } catch {
    await updatePackageLists();
    await install();
  }
}

export async function updatePackageLists() {
  await run('apt-get', ['update'], { timeoutMs: 120_000 });
}
