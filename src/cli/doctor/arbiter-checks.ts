/** Can the arbiter be asked? Opens a connection and closes it; claims nothing. */
import { connect } from 'node:net';
import type { Config } from '../../config/derive.js';
import { type Finding, fail, pass, warn } from './finding.js';
import type { HostFacts } from './host-checks.js';

const CONNECT_MS_MAX = 2000;

export async function arbiterFindings(config: Config, facts: HostFacts): Promise<Finding[]> {
  const { kind, program, directory, endpoints } = config.failover.arbiter;
  switch (kind) {
    case 'none':
      return [pass('arbiter', 'none: one host and this proxy alone')];
    case 'exec':
      if (program !== undefined && facts.exists(program)) return [pass('arbiter', program)];
      return [fail('arbiter', `${program ?? 'no program'} is not there`, 'set failover.arbiter.program')];
    case 'file':
      if (directory !== undefined && facts.writable(directory)) return [pass('arbiter', directory)];
      return [fail('arbiter', `${directory ?? 'no directory'} is not writable`, 'mount the shared storage')];
    case 'etcd':
      return etcdFindings(endpoints.split(','));
  }
}

async function etcdFindings(endpoints: readonly string[]): Promise<Finding[]> {
  const problems = await Promise.all(endpoints.map(reach));
  const isAnyUp = problems.includes(null);
  return endpoints.map((endpoint, index) => {
    const problem = problems[index];
    if (problem === null || problem === undefined) return pass('arbiter', `${endpoint} answers`);
    const cure = 'start etcd there, or correct failover.arbiter.endpoints';
    return isAnyUp
      ? warn('arbiter', `${endpoint}: ${problem}`, cure)
      : fail('arbiter', `${endpoint}: ${problem}`, cure);
  });
}

/** Null when somebody accepts connections there. */
function reach(endpoint: string): Promise<string | null> {
  const { hostname, port, protocol } = new URL(endpoint);
  return new Promise((resolve) => {
    const socket = connect({
      host: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      timeout: CONNECT_MS_MAX,
    });
    const end = (problem: string | null): void => {
      socket.destroy();
      resolve(problem);
    };
    socket.once('connect', () => end(null));
    socket.once('timeout', () => end('no answer'));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}
