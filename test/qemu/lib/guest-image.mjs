/**
 * The guest: Debian's cloud kernel, taken from its package without installing it, and an initramfs of busybox, the
 * modules of virtio network cards and disks, and our services.
 */
import fs from 'node:fs';
import path from 'node:path';
import { buildOnce, fingerprint, forgetOthers } from './build-once.mjs';
import { run } from './command.mjs';
import { CACHE, LAB } from './paths.mjs';
import { updatePackageLists } from './requirements.mjs';

const KERNEL_METAPACKAGE = 'linux-image-cloud-amd64';
const MODULES = ['virtio_pci', 'virtio_net', 'virtio_blk'];
const BUSYBOX = '/bin/busybox';

/** @returns {Promise<{kernel: string, initrd: string}>} paths */
export async function guestImage() {
  const packageName = await kernelPackage();
  const unpacked = await buildOnce(packageName, (target, scratch) =>
    unpackKernel(packageName, target, scratch),
  );
  forgetOthers('linux-image-', unpacked);
  const [bootFile] = fs
    .readdirSync(path.join(unpacked, 'boot'))
    .filter((name) => name.startsWith('vmlinuz-'));
  const release = bootFile.slice('vmlinuz-'.length);

  const sources = ['init', 'services.c'].map((name) => fs.readFileSync(path.join(LAB, 'guest', name)));
  const name = `initrd-${fingerprint(packageName, MODULES.join(), fs.readFileSync(BUSYBOX), ...sources)}.gz`;
  const initrd = await buildOnce(name, (target, scratch) => buildInitrd(unpacked, release, target, scratch));
  forgetOthers('initrd-', initrd);
  return { kernel: path.join(unpacked, 'boot', bootFile), initrd };
}

/** The newest kernel that apt offers; without apt's answer, one that was unpacked before. */
async function kernelPackage() {
  const offered =
    (await offeredKernelPackage()) ??
    (await updatePackageLists().then(offeredKernelPackage, () => undefined));
  if (offered) return offered;
  const cached = fs.existsSync(CACHE)
    ? fs.readdirSync(CACHE).filter((name) => /^linux-image-.*amd64$/.test(name))
    : [];
  if (cached.length > 0) return cached[0];
  throw new Error(`apt offers no ${KERNEL_METAPACKAGE}`);
}

async function offeredKernelPackage() {
  const text = await run('apt-cache', ['depends', KERNEL_METAPACKAGE]).catch(() => '');
  return /Depends: (linux-image-\S+)/.exec(text)?.[1];
}

async function unpackKernel(packageName, target, scratch) {
  const download = () => run('apt-get', ['download', packageName], { cwd: scratch, timeoutMs: 300_000 });
  await download().catch(() => updatePackageLists().then(download));
  const [file] = fs.readdirSync(scratch).filter((name) => name.endsWith('.deb'));
  await run('dpkg-deb', ['--extract', path.join(scratch, file), target]);
}

async function buildInitrd(unpackedKernel, release, target, scratch) {
  for (const folder of ['bin', 'modules']) fs.mkdirSync(path.join(scratch, folder));
  fs.copyFileSync(BUSYBOX, path.join(scratch, 'bin/busybox'));
  fs.symlinkSync('busybox', path.join(scratch, 'bin/sh'));
  fs.copyFileSync(path.join(LAB, 'guest/init'), path.join(scratch, 'init'));
  fs.chmodSync(path.join(scratch, 'init'), 0o755);
  const source = path.join(LAB, 'guest/services.c');
  await run('gcc', ['-O2', '-static', '-o', path.join(scratch, 'bin/services'), source]);

  const order = await moduleFiles(unpackedKernel, release);
  for (const file of order) fs.copyFileSync(file, path.join(scratch, 'modules', path.basename(file)));
  fs.writeFileSync(
    path.join(scratch, 'modules/order'),
    order.map((file) => `${path.basename(file)}\n`).join(''),
  );
  const archive = `find . | cpio --quiet -o -H newc | gzip -1 > "${target}"`;
  await run('sh', ['-c', archive], { cwd: scratch });
}

/** The wanted modules after those they depend on, as paths. */
async function moduleFiles(unpackedKernel, release) {
  await run('depmod', ['-b', unpackedKernel, release]);
  const root = path.join(unpackedKernel, 'lib/modules', release);
  const needs = new Map();
  for (const line of fs.readFileSync(path.join(root, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest] = line.split(':');
    if (rest !== undefined) needs.set(file, rest.trim().split(/\s+/).filter(Boolean));
  }
  const ordered = new Set();
  const add = (file) => {
    for (const need of needs.get(file) ?? []) add(need);
    ordered.add(file);
  };
  for (const name of MODULES) {
    const file = [...needs.keys()].find((candidate) => path.basename(candidate) === `${name}.ko`);
    if (file) add(file); // else it is built in
  }
  return [...ordered].map((file) => path.join(root, file));
}
