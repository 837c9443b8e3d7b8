/** What this host offers: privileges, kernel, interfaces, directories. Reads only. */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { allNics, type Config } from '../../config/derive.js';
import { interfaceMtus, mtuProblems } from '../../link/interface-mtus.js';
import { type LinkUrl, parseLinkUrl } from '../../link/url.js';
import { addonProblem } from '../../system/addon.js';
import { type Finding, fail, pass, warn } from './finding.js';

/** Bits of linux/capability.h. */
const CAPABILITIES = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n } as const;
/** PACKET_IGNORE_OUTGOING (linux/if_packet.h) came with 4.20. */
const KERNEL_MIN = [4, 20] as const;

/** Where the facts come from, so that tests can stand in. */
export interface HostFacts {
  readonly processStatus: string;
  readonly kernelRelease: string;
  readonly nodeVersion: string;
  readonly addonProblem: string | null;
  exists(path: string): boolean;
  writable(path: string): boolean;
  list(path: string): readonly string[];
}

export function realHostFacts(): HostFacts {
  return {
    processStatus: readFileSync('/proc/self/status', 'utf8'),
    kernelRelease: release(),
    nodeVersion: process.versions.node,
    addonProblem: addonProblem(),
    exists: existsSync,
    writable: (path) => {
      try {
        accessSync(path, constants.W_OK);
        return true;
      } catch {
        return false;
      }
    },
    list: (path) => (existsSync(path) ? readdirSync(path) : []),
  };
}

export function hostFindings(config: Config, facts: HostFacts): Finding[] {
  const links = allNics(config).flatMap((nic) =>
    (['client', 'primary', 'secondary'] as const).map((role) => ({ role, link: parseLinkUrl(nic[role]) })),
  );
  const needsRoot = links.some(({ link }) => link.kind === 'packet' || link.kind === 'tap');
  return [
    nodeFinding(facts),
    addonFinding(facts),
    ...(needsRoot ? [...capabilityFindings(facts), kernelFinding(facts), tunFinding(facts)] : []),
    ...links.flatMap(({ role, link }) => linkFindings(config, role, link, facts)),
    mtuFinding(config),
    directoryFinding(config.runtime.directory, facts),
  ];
}

function nodeFinding({ nodeVersion }: HostFacts): Finding {
  const major = Number(nodeVersion.split('.')[0]);
  if (major >= 20) return pass('Node.js', nodeVersion);
  return fail('Node.js', nodeVersion, 'install Node.js 20 or newer');
}

function addonFinding(facts: HostFacts): Finding {
  if (facts.addonProblem === null) return pass('native addon', 'loads');
  return fail('native addon', facts.addonProblem, 'npm run setup, in a checkout');
}

function capabilityFindings({ processStatus }: HostFacts): Finding[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(processStatus)?.[1] ?? '0'}`);
  return Object.entries(CAPABILITIES).map(([name, bit]) =>
    (effective >> bit) & 1n
      ? pass(name, 'held')
      : fail(name, 'missing', `run as root, or under systemd with AmbientCapabilities=${name}`),
  );
}

function kernelFinding({ kernelRelease }: HostFacts): Finding {
  const [major = 0, minor = 0] = kernelRelease.split('.').map((part) => Number.parseInt(part, 10));
  const isNew = major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1]);
  if (isNew) return pass('kernel', kernelRelease);
  return fail('kernel', kernelRelease, `use ${KERNEL_MIN.join('.')} or newer`);
}

function tunFinding(facts: HostFacts): Finding {
  if (facts.exists('/dev/net/tun')) return pass('TAP devices', '/dev/net/tun is there');
  return fail('TAP devices', '/dev/net/tun is missing', 'modprobe tun');
}

function linkFindings(
  config: Config,
  role: 'client' | 'primary' | 'secondary',
  link: LinkUrl,
  facts: HostFacts,
): Finding[] {
  const what = `${role} link`;
  if (link.kind === 'stream' || link.kind === 'chardev') {
    if (link.address.family !== 'unix') return [pass(what, `tcp ${link.address.host}:${link.address.port}`)];
    const { path } = link.address;
    if (facts.exists(path)) return [pass(what, `${path} is there`)];
    if (link.server && facts.exists(dirname(path))) return [pass(what, `${path} will be made`)];
    return [
      warn(
        what,
        `${path} does not exist yet`,
        `start QEMU with its ${link.kind === 'stream' ? '-netdev stream' : 'chardev'}; the proxy waits`,
      ),
    ];
  }
  const name = link.interface;
  const folder = `/sys/class/net/${name}`;
  if (link.kind === 'tap') {
    const { bridge } = link;
    if (bridge === undefined) return [pass(what, `${name}, made by the proxy`)];
    if (facts.exists(`/sys/class/net/${bridge}/bridge`)) return [pass(what, `${name}, joins ${bridge}`)];
    return [
      fail(what, `${bridge} is no bridge`, `ip link add ${bridge} type bridge && ip link set ${bridge} up`),
    ];
  }
  if (!facts.exists(folder)) {
    const isMade = role !== 'client' && config[role].createTap;
    if (isMade) return [pass(what, `${name}, made by the proxy`)];
    return [warn(what, `${name} does not exist yet`, `make it, or use --${role}-tap ${name}`)];
  }
  const isVm = role !== 'client';
  if (isVm && facts.exists(`${folder}/brport`)) {
    return [fail(what, `${name} is a port of a bridge`, `ip link set ${name} nomaster`)];
  }
  if (isVm && !facts.exists(`${folder}/tun_flags`)) {
    return [warn(what, `${name} is no TAP`, 'a VM is attached by a tap of its own, as a rule')];
  }
  const queues = facts.list(`${folder}/queues`).filter((one) => one.startsWith('tx-')).length;
  return [pass(what, `${name} is there, ${queues} queue${queues === 1 ? '' : 's'}`)];
}

function mtuFinding(config: Config): Finding {
  const mtus = interfaceMtus(config);
  const [problem] = mtuProblems(mtus);
  if (problem !== undefined) {
    const [detail, cure] = problem.split('; make them equal: ');
    return fail('MTU', detail!, cure ?? 'make them equal');
  }
  const known = mtus.find(({ mtuBytes }) => mtuBytes !== null);
  return pass('MTU', known === undefined ? 'no interface to compare yet' : `${known.mtuBytes} everywhere`);
}

function directoryFinding(directory: string, facts: HostFacts): Finding {
  if (facts.exists(directory)) {
    if (facts.writable(directory)) return pass('runtime directory', directory);
    return fail('runtime directory', `${directory} is not writable`, 'run as its owner, or choose another');
  }
  let parent = dirname(directory);
  while (parent !== '/' && !facts.exists(parent)) parent = dirname(parent);
  if (facts.writable(parent)) return pass('runtime directory', `${directory}, made at start`);
  return fail('runtime directory', `${parent} is not writable`, 'run as root, or set --runtime-directory');
}
