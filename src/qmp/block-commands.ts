/** QMP commands of block replication, typed; sequence in QEMU's docs/COLO-FT.txt and docs/block-replication.txt. */
import { ColoError } from '../errors.js';
import type { Address } from '../system/channel.js';
import type { QmpExecutor } from './commands.js';
import { isObject, type QmpObject } from './framing.js';

export interface BlockJob {
  /** The job's own name, as given to drive-mirror. */
  readonly id: string;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** A mirror has caught up and now follows every write. */
  readonly ready: boolean;
}

/** QEMU's SocketAddress. */
function socketAddress(address: Address): QmpObject {
  return 'unix' in address
    ? { type: 'unix', path: address.unix }
    : { type: 'inet', host: address.tcp, port: String(address.port) };
}

/** QEMU's SocketAddressLegacy, which nbd-server-start takes. */
function legacySocketAddress(address: Address): QmpObject {
  const { type, ...data } = socketAddress(address);
  return { type, data };
}

/** `nbd+unix:///EXPORT?socket=PATH` or `nbd://HOST:PORT/EXPORT`. */
export function nbdUri(address: Address, exportName: string): string {
  if ('unix' in address) return `nbd+unix:///${exportName}?socket=${address.unix}`;
  const host = address.tcp.includes(':') ? `[${address.tcp}]` : address.tcp;
  return `nbd://${host}:${address.port}/${exportName}`;
}

export async function nbdServerStart(qmp: QmpExecutor, address: Address): Promise<void> {
  await qmp.execute('nbd-server-start', { addr: legacySocketAddress(address) });
}

export async function nbdServerStop(qmp: QmpExecutor): Promise<void> {
  await qmp.execute('nbd-server-stop');
}

/** Exports a drive for writing under its own name. */
export async function nbdServerAdd(qmp: QmpExecutor, drive: string): Promise<void> {
  await qmp.execute('nbd-server-add', { device: drive, writable: true });
}

/** Copies all of a drive to an image that is there, and goes on with every later write. */
export async function driveMirror(
  qmp: QmpExecutor,
  job: { readonly id: string; readonly drive: string; readonly target: string },
): Promise<void> {
  await qmp.execute('drive-mirror', {
    device: job.drive,
    'job-id': job.id,
    target: job.target,
    mode: 'existing',
    format: 'raw',
    sync: 'full',
  });
}

export async function queryBlockJobs(qmp: QmpExecutor): Promise<BlockJob[]> {
  const answer = await qmp.execute('query-block-jobs');
  if (!Array.isArray(answer)) {
    throw new ColoError('COLO_ERR_QMP_PROTOCOL', 'query-block-jobs: the answer is not a list');
  }
  return answer.filter(isObject).map((job) => ({
    id: String(job.device),
    bytesDone: Number(job.offset) || 0,
    bytesTotal: Number(job.len) || 0,
    ready: job.ready === true,
  }));
}

/** Returns before the job has ended. `force`: a mirror that is ready is dropped, not completed. */
export async function blockJobCancel(qmp: QmpExecutor, id: string, force: boolean): Promise<void> {
  await qmp.execute('block-job-cancel', { device: id, force });
}

/** A replication node of a primary above an NBD client: `node` and `node`-nbd. */
export async function addReplicationNode(
  qmp: QmpExecutor,
  node: string,
  server: Address,
  exportName: string,
): Promise<void> {
  await qmp.execute('blockdev-add', {
    driver: 'replication',
    'node-name': node,
    mode: 'primary',
    file: {
      driver: 'nbd',
      'node-name': nbdNodeOf(node),
      server: socketAddress(server),
      export: exportName,
    },
  });
}

export async function removeNode(qmp: QmpExecutor, node: string): Promise<void> {
  await qmp.execute('blockdev-del', { 'node-name': node });
}

/** Adds `node` to a quorum, or takes its child away. */
export async function changeQuorum(
  qmp: QmpExecutor,
  quorum: string,
  change: { readonly node: string } | { readonly child: string },
): Promise<void> {
  await qmp.execute('x-blockdev-change', { parent: quorum, ...change });
}

/** Cuts the connection of a replication node's NBD client, so that nothing waits for a peer that hangs. */
export async function yankReplicationNode(qmp: QmpExecutor, node: string): Promise<void> {
  const instances = [{ type: 'block-node', 'node-name': nbdNodeOf(node) }];
  await qmp.execute('yank', { instances }, { outOfBand: true });
}

export async function namedNodes(qmp: QmpExecutor): Promise<Set<string>> {
  const answer = await qmp.execute('query-named-block-nodes', { flat: true });
  const nodes = Array.isArray(answer) ? answer.filter(isObject) : [];
  return new Set(nodes.map((node) => String(node['node-name'])));
}

export async function stopGuest(qmp: QmpExecutor): Promise<void> {
  await qmp.execute('stop');
}

function nbdNodeOf(node: string): string {
  return `${node}-nbd`;
}
