/** `colo-proxy qemu-args`: the QEMU arguments that fit a configuration. */
import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { allNics, type Config } from '../config/derive.js';
import { ColoError } from '../errors.js';
import { type LinkUrl, parseLinkUrl } from '../link/url.js';

export interface QemuArgsOptions {
  readonly role: 'primary' | 'secondary';
  /** Both VMs must have the same. Derived from the pair's name unless given. */
  readonly mac?: string | undefined;
  /** Started to be loaded, not to boot. Default: as the role says at first. */
  readonly fresh?: boolean | undefined;
  /** `7.2`, `11`: what differs between versions is chosen for it. */
  readonly qemuVersion?: string | undefined;
}

export interface QemuArgs {
  /** Option and value in turn, without the program's name. */
  readonly words: readonly string[];
  /** What the arguments alone do not do. */
  readonly hints: readonly string[];
}

/** What is known to work; older ones lack `-netdev stream`. */
const OLDEST_VERSION = { major: 7, minor: 2 };
/** `-netdev stream,reconnect=` came with 8.0 and became reconnect-ms with 9.2. */
const RECONNECT_SINCE = { major: 8, minor: 0 };
const RECONNECT_MS_SINCE = { major: 9, minor: 2 };

export function qemuArgs(config: Config, options: QemuArgsOptions): QemuArgs {
  const version = parseVersion(options.qemuVersion);
  const mac = options.mac ?? macOfName(config.name);
  if (!/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(mac)) {
    throw new ColoError(
      'COLO_ERR_USAGE',
      `--mac ${mac}: expected a unicast address such as 52:54:00:12:34:56`,
    );
  }
  const vm = config[options.role];
  const words = allNics(config).flatMap((nic, index) => [
    '-netdev',
    netdev(`colo${index}`, parseLinkUrl(nic[options.role]), version),
    '-device',
    `virtio-net-pci,netdev=colo${index},mac=${laterMac(mac, index)}`,
  ]);
  words.push('-qmp', `${chardevAddress(vm.qmp)},server=on,wait=off`);
  if (options.fresh ?? options.role === 'secondary') words.push('-incoming', 'defer');
  return { words, hints: hintsFor(config, options, version) };
}

interface Version {
  readonly major: number;
  readonly minor: number;
}

function parseVersion(text: string | undefined): Version | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d{1,3})(?:\.(\d{1,3}))?(?:\.\d{1,3})?$/.exec(text);
  const version = { major: Number(match?.[1]), minor: Number(match?.[2] ?? 0) };
  if (match === null) {
    throw new ColoError('COLO_ERR_USAGE', `--qemu-version ${text}: expected a version such as 7.2`);
  }
  if (!isAtLeast(version, OLDEST_VERSION)) {
    throw new ColoError('COLO_ERR_USAGE', `--qemu-version ${text}: 7.2 is the oldest that is supported`);
  }
  return version;
}

function isAtLeast(version: Version, other: Version): boolean {
  return version.major > other.major || (version.major === other.major && version.minor >= other.minor);
}

function netdev(id: string, link: LinkUrl, version: Version | undefined): string {
  switch (link.kind) {
    case 'packet':
      return `tap,id=${id},ifname=${value(link.interface)},script=no,downscript=no`;
    case 'tap':
      throw new ColoError(
        'COLO_ERR_USAGE',
        `tap:${link.interface} is held by the proxy; QEMU cannot attach to it`,
      );
    case 'chardev':
      throw new ColoError(
        'COLO_ERR_USAGE',
        'a chardev: link meets network filters of your own; -netdev stream and a stream: link need none',
      );
    case 'stream': {
      // Whoever does not listen connects: the proxy by default, QEMU when the URL says `server`.
      const role = link.server ? `server=off${reconnect(version)}` : 'server=on';
      const { address } = link;
      const place =
        address.family === 'unix'
          ? `addr.type=unix,addr.path=${value(address.path)}`
          : `addr.type=inet,addr.host=${value(address.host)},addr.port=${address.port}`;
      return `stream,id=${id},${role},${place}`;
    }
  }
}

function reconnect(version: Version | undefined): string {
  if (version === undefined || !isAtLeast(version, RECONNECT_SINCE)) return '';
  return isAtLeast(version, RECONNECT_MS_SINCE) ? ',reconnect-ms=1000' : ',reconnect=1';
}

/** `unix:PATH` or `tcp:HOST:PORT` is QEMU's own form too, apart from commas. */
function chardevAddress(address: string): string {
  return value(address);
}

/** QEMU's option parser takes a doubled comma for one (util/qemu-option.c, get_opt_value). */
function value(text: string): string {
  return text.replaceAll(',', ',,');
}

/** The same for both VMs and for every start, in QEMU's own range 52:54:00. */
function macOfName(name: string): string {
  const digest = createHash('sha256').update(name).digest();
  const tail = [0, 1, 2].map((index) => digest[index]!.toString(16).padStart(2, '0'));
  return ['52', '54', '00', ...tail].join(':');
}

/** The next interfaces count on in the last byte. */
function laterMac(mac: string, index: number): string {
  const last = (Number.parseInt(mac.slice(-2), 16) + index) & 0xff;
  return mac.slice(0, -2) + last.toString(16).padStart(2, '0');
}

function hintsFor(config: Config, options: QemuArgsOptions, version: Version | undefined): string[] {
  const hints = ['Both VMs need the same -machine, -cpu, -smp, -m, devices and disk contents.'];
  const link = parseLinkUrl(config[options.role].link);
  if (link.kind === 'packet') {
    hints.push(
      `${link.interface} must exist before QEMU starts: start the proxy first with --${options.role}-tap ${link.interface}.`,
    );
  }
  if (link.kind === 'stream' && link.server && reconnect(version) === '') {
    hints.push('This QEMU does not connect again by itself: start the proxy first, or leave ",server" away.');
  }
  if (config.disks.length > 0) {
    const drives = config.disks.map(({ drive }) => drive).join(', ');
    hints.push(`${drives}: the arguments of replicated drives are in docs/operating.md, "Disks".`);
  }
  const { qmp } = config[options.role];
  if (qmp.startsWith('unix:')) {
    hints.push(
      `QEMU makes its sockets in ${dirname(qmp.slice('unix:'.length))}, which must exist and be writable for it.`,
    );
  }
  if (version !== undefined && version.major < 8) {
    hints.push(
      'QEMU 7.2 without KVM (-accel tcg): use -machine pc and a RAM size that is not a multiple of 256 KiB, ' +
        'such as -m 131080K, or the secondary goes stale; its first checkpoint deadlocks without a patch. KVM needs neither.',
    );
  }
  return hints;
}
