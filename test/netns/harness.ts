/**
 * Network namespaces for tests. A namespace is made, its name carries this process's id, and it is removed with
 * everything in it. The test itself steps in and out: what is opened while inside (addon ports, net sockets,
 * child processes) belongs to that namespace for good, so one test can hold both ends of a wire.
 *
 *     describeInNamespaces('packet link', () => {
 *       const host = useNamespace('host');              // made before the tests, removed after them
 *       it('receives', () => {
 *         host.ip('link add v0 type veth peer name v1');
 *         const port = host.within(() => openPacketSocket({ interface: 'v0', receiveBufferBytes: 1 << 20 }));
 *       });
 *     });
 *
 * Needs root and iproute2; without them the suite is skipped and says so. /sys shows the namespace it was
 * mounted in, not the thread's: ask `ip` (interfaceStatus), not /sys.
 */
import { execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterAll, beforeAll, describe } from 'vitest';
import { loadError } from '../../native/index.js';

/** Kept open, because the thread's own entry in /proc follows it wherever it goes. */
const home = openSync('/proc/thread-self/ns/net', 'r');
const homePath = `/proc/self/fd/${home}`;
let enterNamespace: ((path: string) => void) | undefined;

/** Why namespaces cannot be used here; undefined when they can. */
export const namespacesUnusable: string | undefined = findObstacle();

function findObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  if (loadError !== undefined) return loadError.message;
  try {
    const require = createRequire(import.meta.url);
    enterNamespace = require('../../native/build/Release/colo_test_namespace.node').enterNamespace;
    execFileSync('ip', ['netns', 'list'], { stdio: 'pipe' });
    // Entering the one we are in changes nothing and shows whether we may.
    enterNamespace?.(homePath);
    return undefined;
  } catch (error) {
    return `network namespaces cannot be used: ${(error as Error).message}`;
  }
}

/** `describe`, or a skipped suite with a line on stderr that tells why. */
export function describeInNamespaces(title: string, body: () => void): void {
  if (namespacesUnusable === undefined) {
    describe(title, body);
    return;
  }
  process.stderr.write(`SKIPPED: ${title}: ${namespacesUnusable}\n`);
  describe.skip(`${title} (skipped: ${namespacesUnusable})`, body);
}

export interface InterfaceStatus {
  ifindex: number;
  mtu: number;
  address: string;
  flags: string[];
  operstate: string;
  rxPackets: number;
  rxDropped: number;
  txPackets: number;
  txDropped: number;
}

export class Namespace {
  readonly name: string;
  #removed = false;

  constructor(label: string) {
    this.name = `colo-test-${process.pid}-${label}`;
    execFileSync('ip', ['netns', 'add', this.name], { stdio: 'pipe' });
    this.ip('link set lo up');
  }

  /** Runs `action` inside; synchronous, so that nothing else of this thread runs meanwhile. */
  within<T>(action: () => T): T {
    this.enter();
    try {
      return action();
    } finally {
      leaveNamespace();
    }
  }

  /** Moves this thread in until `leaveNamespace`: for code under test that opens things later, by itself. */
  enter(): void {
    enterNamespace!(`/run/netns/${this.name}`);
  }

  /** `ip` in this namespace; arguments in one string, split at spaces. Returns its output. */
  ip(args: string): string {
    return this.#execute('ip', ['-n', this.name, ...args.split(' ')]);
  }

  /** A command run inside, to its end (at most 20 s). Throws with its stderr when it fails. */
  run(command: string, ...args: string[]): string {
    return this.#execute('ip', ['netns', 'exec', this.name, command, ...args]);
  }

  /** `nft -f -` inside. */
  nft(rules: string): void {
    execFileSync('ip', ['netns', 'exec', this.name, 'nft', '-f', '-'], {
      input: rules,
      stdio: 'pipe',
      timeout: 20_000,
    });
  }

  /** A child process inside; the caller ends it. */
  spawn(command: string, args: string[], options: SpawnOptions = {}) {
    return spawn('ip', ['netns', 'exec', this.name, command, ...args], options);
  }

  /** A veth pair between this namespace and another (or itself), both ends up. */
  veth(here: string, other: Namespace, there: string, mtu = 1500): void {
    this.ip(`link add ${here} mtu ${mtu} type veth peer name ${there} mtu ${mtu} netns ${other.name}`);
    this.ip(`link set ${here} up`);
    other.ip(`link set ${there} up`);
  }

  interfaceStatus(name: string): InterfaceStatus {
    const [link] = JSON.parse(this.ip(`-j -s link show dev ${name}`));
    return {
      ifindex: link.ifindex,
      mtu: link.mtu,
      address: link.address,
      flags: link.flags,
      operstate: link.operstate,
      rxPackets: link.stats64.rx.packets,
      rxDropped: link.stats64.rx.dropped,
      txPackets: link.stats64.tx.packets,
      txDropped: link.stats64.tx.dropped,
    };
  }

  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    execFileSync('ip', ['netns', 'del', this.name], { stdio: 'pipe' });
  }

  #execute(command: string, args: string[]): string {
    return execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe', timeout: 20_000 });
  }
}

/** Back to where the process started. */
export function leaveNamespace(): void {
  enterNamespace!(homePath);
}

/** A namespace that lives as long as the enclosing suite. Usable inside tests and hooks only. */
export function useNamespace(label: string): Namespace {
  let made: Namespace | undefined;
  beforeAll(() => {
    made = new Namespace(label);
  });
  afterAll(() => made?.remove());
  return new Proxy({} as Namespace, {
    get(_target, key) {
      if (made === undefined) throw new Error(`namespace ${label} is used outside a test`);
      const value = Reflect.get(made, key, made);
      return typeof value === 'function' ? value.bind(made) : value;
    },
  });
}
