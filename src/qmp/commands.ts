/** The QMP commands the project uses, typed. Answers are checked: a peer that answers nonsense is COLO_ERR_QMP_PROTOCOL. */
import { ColoError } from '../errors.js';
import { isObject, type QmpObject } from './framing.js';
import type { ExecuteOptions, QmpVersion } from './session.js';

/** What commands are executed on; a QmpClient. */
export interface QmpExecutor {
  execute(command: string, args?: QmpObject, options?: ExecuteOptions): Promise<unknown>;
}

export interface VmStatus {
  readonly running: boolean;
  /** QEMU's RunState: `running`, `paused`, `colo`, `inmigrate` ... */
  readonly status: string;
}

export interface MigrationStatus {
  /** `none` when there was none; else QEMU's MigrationStatus: `active`, `colo`, `completed`, `failed` ... */
  readonly status: string;
  readonly errorText: string;
  /** Of the memory; 0 when QEMU does not say. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface ColoStatus {
  readonly mode: string;
  readonly lastMode: string;
  readonly reason: string;
}

export interface MigrationParameters {
  /** 0 to 4294967295. Setting it under COLO asks for a checkpoint at once (migration/colo.c). */
  readonly 'x-checkpoint-delay'?: number;
  /** Bytes a second. */
  readonly 'max-bandwidth'?: number;
}

/** The longest delay QEMU accepts: no checkpoints by its own timer. */
export const CHECKPOINT_DELAY_MS_MAX = 4_294_967_295;

function text(object: QmpObject, key: string): string {
  const value = object[key];
  return typeof value === 'string' ? value : '';
}

function bytesIn(value: unknown): number {
  return typeof value === 'number' && value >= 0 ? value : 0;
}

async function ask(qmp: QmpExecutor, command: string): Promise<QmpObject> {
  const answer = await qmp.execute(command);
  if (isObject(answer)) return answer;
  throw new ColoError('COLO_ERR_QMP_PROTOCOL', `${command}: the answer is not an object`);
}

export async function queryVersion(qmp: QmpExecutor): Promise<QmpVersion> {
  const answer = await ask(qmp, 'query-version');
  const numbers = isObject(answer.qemu) ? answer.qemu : {};
  const { major, minor, micro } = numbers;
  if (typeof major !== 'number' || typeof minor !== 'number' || typeof micro !== 'number') {
    throw new ColoError('COLO_ERR_QMP_PROTOCOL', 'query-version: no version');
  }
  return { major, minor, micro, package: text(answer, 'package') };
}

export async function queryStatus(qmp: QmpExecutor): Promise<VmStatus> {
  const answer = await ask(qmp, 'query-status');
  return { running: answer.running === true, status: text(answer, 'status') };
}

export async function queryMigrate(qmp: QmpExecutor): Promise<MigrationStatus> {
  const answer = await ask(qmp, 'query-migrate');
  const ram = isObject(answer.ram) ? answer.ram : {};
  return {
    status: text(answer, 'status') || 'none',
    errorText: text(answer, 'error-desc'),
    bytesDone: bytesIn(ram.transferred),
    bytesTotal: bytesIn(ram.total),
  };
}

export async function queryColoStatus(qmp: QmpExecutor): Promise<ColoStatus> {
  const answer = await ask(qmp, 'query-colo-status');
  return { mode: text(answer, 'mode'), lastMode: text(answer, 'last-mode'), reason: text(answer, 'reason') };
}

export async function setCapabilities(
  qmp: QmpExecutor,
  wanted: Readonly<Record<string, boolean>>,
): Promise<void> {
  const capabilities = Object.entries(wanted).map(([capability, state]) => ({ capability, state }));
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

export async function setParameters(qmp: QmpExecutor, parameters: MigrationParameters): Promise<void> {
  await qmp.execute('migrate-set-parameters', { ...parameters });
}

/** Asks a primary under COLO for a checkpoint, and keeps QEMU's own timer from asking. */
export function triggerCheckpoint(qmp: QmpExecutor): Promise<void> {
  return setParameters(qmp, { 'x-checkpoint-delay': CHECKPOINT_DELAY_MS_MAX });
}

/** Returns when the migration has been started, not when it is done. */
export async function migrate(qmp: QmpExecutor, uri: string): Promise<void> {
  await qmp.execute('migrate', { uri });
}

/** For a VM started with `-incoming defer`. */
export async function migrateIncoming(qmp: QmpExecutor, uri: string): Promise<void> {
  await qmp.execute('migrate-incoming', { uri });
}

/** The other VM is gone: this one leaves COLO and goes on alone. */
export async function xColoLostHeartbeat(qmp: QmpExecutor, options?: ExecuteOptions): Promise<void> {
  await qmp.execute('x-colo-lost-heartbeat', undefined, options);
}

export async function cont(qmp: QmpExecutor): Promise<void> {
  await qmp.execute('cont');
}

export async function quit(qmp: QmpExecutor): Promise<void> {
  await qmp.execute('quit');
}

/**
 * Yanks nothing. Where QEMU offers it the monitor's own thread answers, which needs none of QEMU's locks: an answer says
 * that the process runs, even while it loads a state.
 */
export async function askOutOfBand(qmp: QmpExecutor): Promise<void> {
  await qmp.execute('yank', { instances: [] }, { outOfBand: true });
}

/** Cuts a stuck migration channel inside QEMU, out of band where offered. */
export async function yankMigration(qmp: QmpExecutor): Promise<void> {
  await qmp.execute('yank', { instances: [{ type: 'migration' }] }, { outOfBand: true });
}
