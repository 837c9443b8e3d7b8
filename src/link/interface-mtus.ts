/** The MTUs of those of a pair's interfaces that exist. */
import { readFileSync } from 'node:fs';
import { allNics, type Config } from '../config/derive.js';
import { parseLinkUrl } from './url.js';
import { vmMtuBytes } from './vm-mtu.js';

export interface InterfaceMtu {
  readonly name: string;
  readonly role: 'client' | 'primary' | 'secondary';
  /** Null when the interface does not exist. */
  readonly mtuBytes: number | null;
}

/** By sysfs, which needs neither privilege nor addon; it shows the namespace the process was started in. */
export function interfaceMtus(config: Config, readMtu = mtuOf): InterfaceMtu[] {
  const roles = ['client', 'primary', 'secondary'] as const;
  const urls = allNics(config).flatMap((nic) => roles.map((role) => [role, nic[role]] as const));
  const found: InterfaceMtu[] = [];
  for (const [role, url] of urls) {
    const link = parseLinkUrl(url);
    if (link.kind === 'stream' || link.kind === 'chardev') continue;
    // A tap that joins a bridge takes the bridge's MTU, whatever it has now.
    const name = link.kind === 'tap' && link.bridge !== undefined ? link.bridge : link.interface;
    found.push({ name, role, mtuBytes: readMtu(name) });
  }
  return found;
}

/** One line for each interface whose MTU differs from the first one's. */
export function mtuProblems(interfaces: readonly InterfaceMtu[]): string[] {
  const existing = interfaces.filter((one) => one.mtuBytes !== null);
  const first = existing[0];
  if (first === undefined) return [];
  return existing
    .filter((one) => one.mtuBytes !== first.mtuBytes)
    .map(
      (one) =>
        `${one.name} (${one.role}) has MTU ${one.mtuBytes}, ${first.name} (${first.role}) has ${first.mtuBytes}; ` +
        `make them equal: ip link set ${one.name} mtu ${first.mtuBytes}`,
    );
}

function mtuOf(name: string): number | null {
  const read = (what: string): string => readFileSync(`/sys/class/net/${name}/${what}`, 'utf8');
  try {
    return vmMtuBytes(Number(read('mtu')), read('ifalias'));
  } catch {
    return null;
  }
}
