/** The QEMUs that the laboratory can use: the installed one, or a newer one in a folder of its own. */
import fs from 'node:fs';
import path from 'node:path';
import { buildOnce, fingerprint, forgetOthers } from './build-once.mjs';
import { run } from './command.mjs';
import { CACHE, LAB } from './paths.mjs';

const DEBIAN_MIRROR = 'http://deb.debian.org/debian';

/**
 * @typedef {object} Qemu
 * @property {string} version as QEMU prints it
 * @property {string} memory `-m`
 * @property {(namespace: string, args: string[]) => string[]} command program and arguments that become QEMU's process
 */

/**
 * @param {'7' | '11'} wanted
 * @param {'tcg' | 'kvm'} accelerator
 * @returns {Promise<Qemu>}
 */
export async function findQemu(wanted, accelerator) {
  return wanted === '11' ? newerQemu() : installedQemu(accelerator);
}

/** QEMU 7.2 needs two workarounds under TCG; both are explained in README.md. */
async function installedQemu(accelerator) {
  const text = await run('qemu-system-x86_64', ['--version']);
  const preload = accelerator === 'tcg' ? [`LD_PRELOAD=${await shim()}`] : [];
  return {
    version: versionIn(text),
    memory: '131080K',
    command: (namespace, args) => [
      ...['ip', 'netns', 'exec', namespace],
      ...['env', ...preload, 'qemu-system-x86_64', ...args],
    ],
  };
}

async function shim() {
  const source = path.join(LAB, 'shim/cond-wait.c');
  const name = `cond-wait-${fingerprint(fs.readFileSync(source))}.so`;
  const built = await buildOnce(name, (target) =>
    run('gcc', ['-O2', '-shared', '-fPIC', '-o', target, source, '-ldl']),
  );
  forgetOthers('cond-wait-', built);
  return built;
}

/**
 * Debian trixie with the backported QEMU, in the cache. `ip netns exec` gives the process a mount namespace of its own
 * whose mounts reach nobody else, so the bind mounts end with QEMU.
 */
async function newerQemu() {
  const root = await buildOnce('qemu11', (target) => bootstrapNewerQemu(target));
  const text = await run('chroot', [root, 'qemu-system-x86_64', '--version']);
  const mounts = ['/dev', '/proc', '/tmp', CACHE].map(
    (folder) => `mount --rbind '${folder}' '${root}${folder}'`,
  );
  fs.mkdirSync(root + CACHE, { recursive: true });
  const script = `${mounts.join(' && ')} && exec chroot '${root}' qemu-system-x86_64 "$@"`;
  return {
    version: versionIn(text),
    memory: '128M',
    command: (namespace, args) => ['ip', 'netns', 'exec', namespace, 'sh', '-c', script, 'sh', ...args],
  };
}

async function bootstrapNewerQemu(target) {
  const options = { timeoutMs: 600_000, env: { DEBIAN_FRONTEND: 'noninteractive' } };
  await run('debootstrap', ['--variant=minbase', 'trixie', target, DEBIAN_MIRROR], options);
  fs.writeFileSync(
    path.join(target, 'etc/apt/sources.list.d/backports.list'),
    `deb ${DEBIAN_MIRROR} trixie-backports main\n`,
  );
  await run('chroot', [target, 'apt-get', 'update'], options);
  const install = ['install', '-y', '--no-install-recommends', '-t', 'trixie-backports', 'qemu-system-x86'];
  await run('chroot', [target, 'apt-get', ...install], options);
  await run('chroot', [target, 'apt-get', 'clean'], options);
}

const versionIn = (text) => /version (\S+)/.exec(text)?.[1] ?? 'unknown';
