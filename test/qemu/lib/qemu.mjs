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

/** Debian trixie's package is 10.0, the one in its backports newer. */
const NEWER = {
  10: { backported: false, needsShim: true },
  11: { backported: true, needsShim: false },
};
export const QEMUS = ['7', ...Object.keys(NEWER)];

/**
 * @param {string} wanted one of QEMUS
 * @param {'tcg' | 'kvm'} accelerator
 * @returns {Promise<Qemu>}
 */
export async function findQemu(wanted, accelerator) {
  return NEWER[wanted] === undefined
    ? installedQemu(accelerator)
    : newerQemu(`qemu${wanted}`, NEWER[wanted], accelerator);
}

/** Two workarounds under TCG, both explained in README.md: a RAM size that loses no dirty page, and the shim. */
const MEMORY = '131080K';

async function preload(accelerator) {
  return accelerator === 'tcg' ? [`LD_PRELOAD=${await shim()}`] : [];
}

async function installedQemu(accelerator) {
  const text = await run('qemu-system-x86_64', ['--version']);
  const environment = await preload(accelerator);
  return {
    version: versionIn(text),
    memory: MEMORY,
    command: (namespace, args) => [
      ...['ip', 'netns', 'exec', namespace],
      ...['env', ...environment, 'qemu-system-x86_64', ...args],
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
 * Debian trixie with its QEMU, in the cache. `ip netns exec` gives the process a mount namespace of its own whose
 * mounts reach nobody else, so the bind mounts end with QEMU.
 */
async function newerQemu(name, { backported, needsShim }, accelerator) {
  const root = await buildOnce(name, (target) => bootstrap(target, backported));
  const text = await run('chroot', [root, 'qemu-system-x86_64', '--version']);
  const mounts = ['/dev', '/proc', '/tmp', CACHE].map(
    (folder) => `mount --rbind '${folder}' '${root}${folder}'`,
  );
  fs.mkdirSync(root + CACHE, { recursive: true });
  const environment = needsShim ? await preload(accelerator) : [];
  const program = ['env', ...environment, 'qemu-system-x86_64'].join(' ');
  const script = `${mounts.join(' && ')} && exec chroot '${root}' ${program} "$@"`;
  return {
    version: versionIn(text),
    memory: MEMORY,
    command: (namespace, args) => ['ip', 'netns', 'exec', namespace, 'sh', '-c', script, 'sh', ...args],
  };
}

async function bootstrap(target, backported) {
  const options = { timeoutMs: 600_000, env: { DEBIAN_FRONTEND: 'noninteractive' } };
  await run('debootstrap', ['--variant=minbase', 'trixie', target, DEBIAN_MIRROR], options);
  if (backported) {
    const list = path.join(target, 'etc/apt/sources.list.d/backports.list');
    fs.writeFileSync(list, `deb ${DEBIAN_MIRROR} trixie-backports main\n`);
  }
  const apt = (args) => run('chroot', [target, 'apt-get', ...args], options);
  await apt(['update']);
  const from = backported ? ['-t', 'trixie-backports'] : [];
  await apt(['install', '-y', '--no-install-recommends', ...from, 'qemu-system-x86']);
  await apt(['clean']);
}

const versionIn = (text) => /version (\S+)/.exec(text)?.[1] ?? 'unknown';
