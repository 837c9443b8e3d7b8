/** What the two QEMUs say of themselves, and whether they are alike. Asks, changes nothing. */
import { QmpClient } from '../../qmp/client.js';
import { queryStatus, queryVersion } from '../../qmp/commands.js';
import { type Address, showAddress } from '../../system/channel.js';
import { realClock } from '../../system/clock.js';
import { type Finding, fail, pass, warn } from './finding.js';

const CONNECT_MS_MAX = 3000;
const VERSION_MIN = { major: 7, minor: 2 };

type Role = 'primary' | 'secondary';

/** What is compared; undefined where QEMU would not tell. */
export interface VmFacts {
  readonly version: string;
  readonly isOldVersion: boolean;
  readonly status: string;
  readonly hasColo: boolean;
  readonly machine: string | undefined;
  readonly memoryBytes: number | undefined;
  /** `virtio-net-pci 52:54:00:12:34:56`, in the order of `info network`. */
  readonly nics: readonly string[];
  readonly disks: number;
  readonly replicatedDisks: number;
}

export interface VmAnswer {
  readonly role: Role;
  readonly address: string;
  /** Or why it did not answer. */
  readonly facts: VmFacts | string;
}

/** Never rejects. */
export async function askVm(role: Role, address: Address): Promise<VmAnswer> {
  const where = showAddress(address);
  const client = new QmpClient({ address, clock: realClock });
  try {
    client.start();
    const deadlineMs = realClock.now() + CONNECT_MS_MAX;
    while (client.state !== 'ready') {
      if (realClock.now() > deadlineMs)
        return { role, address: where, facts: client.problem || 'no greeting' };
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return { role, address: where, facts: await factsOf(client) };
  } catch (error) {
    return { role, address: where, facts: error instanceof Error ? error.message : String(error) };
  } finally {
    client.stop();
  }
}

async function factsOf(qmp: QmpClient): Promise<VmFacts> {
  const { major, minor, micro } = await queryVersion(qmp);
  const { status } = await queryStatus(qmp);
  const capabilities = await list(qmp, 'query-migrate-capabilities');
  const memory = await optional(qmp, 'query-memory-size-summary');
  const machine = await optional(qmp, 'qom-get', { path: '/machine', property: 'type' });
  const network = await optional(qmp, 'human-monitor-command', { 'command-line': 'info network' });
  const blocks = (await list(qmp, 'query-block')).filter((one) => 'inserted' in one);
  const driver = (one: Record<string, unknown>): unknown => (one.inserted as Record<string, unknown>).drv;
  return {
    version: `${major}.${minor}.${micro}`,
    isOldVersion: major < VERSION_MIN.major || (major === VERSION_MIN.major && minor < VERSION_MIN.minor),
    status,
    hasColo: capabilities.some(({ capability }) => capability === 'x-colo'),
    machine: typeof machine === 'string' ? machine.replace(/-machine$/, '') : undefined,
    memoryBytes: (memory as { 'base-memory'?: number } | undefined)?.['base-memory'],
    nics: typeof network === 'string' ? nicsOf(network) : [],
    disks: blocks.length,
    replicatedDisks: blocks.filter((one) => driver(one) === 'quorum' || driver(one) === 'replication').length,
  };
}

/** `x: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56` (net/net.c, print_net_client). */
export function nicsOf(infoNetwork: string): string[] {
  return Array.from(
    infoNetwork.matchAll(/type=nic,model=([\w.-]+),macaddr=([0-9a-f:]{17})/gi),
    (match) => `${match[1]} ${match[2]!.toLowerCase()}`,
  );
}

async function list(qmp: QmpClient, command: string): Promise<Record<string, unknown>[]> {
  const answer = await optional(qmp, command);
  return Array.isArray(answer) ? answer.filter((one) => typeof one === 'object' && one !== null) : [];
}

async function optional(qmp: QmpClient, command: string, args?: Record<string, string>): Promise<unknown> {
  try {
    return await qmp.execute(command, args);
  } catch {
    return undefined;
  }
}

export function vmFindings(primary: VmAnswer, secondary: VmAnswer): Finding[] {
  const findings = [primary, secondary].flatMap(ownFindings);
  if (typeof primary.facts === 'string' || typeof secondary.facts === 'string') return findings;
  const [a, b] = [primary.facts, secondary.facts];
  findings.push(
    equal('QEMU versions', a.version, b.version, 'run the same QEMU on both sides'),
    equal('machine type', a.machine, b.machine, 'give both the same -machine'),
    equal('memory', a.memoryBytes, b.memoryBytes, 'give both the same -m'),
    equal('network cards', a.nics.join(', '), b.nics.join(', '), 'same -device model and mac= on both sides'),
    equal('number of disks', a.disks, b.disks, 'give both the same disks'),
  );
  if (a.disks > a.replicatedDisks) {
    findings.push(
      warn(
        'disks',
        `${a.disks - a.replicatedDisks} of the primary's are not replicated`,
        'set up block replication, or let the VM write to no disk that matters',
      ),
    );
  }
  return findings;
}

function ownFindings({ role, address, facts }: VmAnswer): Finding[] {
  if (typeof facts === 'string') {
    const cure =
      'start QEMU with this -qmp; if it runs, another client has the monitor: give the proxy a -qmp of its own';
    return [warn(`${role} QMP`, facts.includes(address) ? facts : `${address}: ${facts}`, cure)];
  }
  const findings = [
    facts.isOldVersion
      ? fail(`${role} QEMU`, facts.version, `use ${VERSION_MIN.major}.${VERSION_MIN.minor} or newer`)
      : pass(`${role} QEMU`, facts.version),
    facts.hasColo
      ? pass(`${role} COLO`, 'x-colo is there')
      : fail(`${role} COLO`, 'no x-colo', 'use a QEMU built with replication (CONFIG_REPLICATION)'),
  ];
  if (role === 'secondary' && facts.status !== 'inmigrate' && facts.status !== 'colo') {
    const cure = 'start it anew with -incoming defer';
    findings.push(warn('secondary state', `${facts.status}: it does not wait for a state`, cure));
  }
  return findings;
}

function equal<Value>(what: string, a: Value, b: Value, cure: string): Finding {
  if (a === undefined || b === undefined || a === '' || b === '') {
    return warn(what, 'QEMU does not tell', 'compare the command lines of both');
  }
  return a === b ? pass(what, String(a)) : fail(what, `primary ${a}, secondary ${b}`, cure);
}
