/**
 * What must survive the proxy's own death: who carries the traffic, who is void, and the client translation of every
 * connection that lived through a failover. One small file: a header line with version, length and checksum, then JSON.
 * Written beside and renamed, on disk before the first frame of a new role leaves; so it is always old or new, never
 * half. A damaged file stops the start: going on from a guess could make two heads.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { ColoError } from '../errors.js';
import { FLOW_KEY_WORDS } from '../wire/flow-key.js';

const FORMAT = 'colo-proxy state';
const VERSION = 1;
const FILE_BYTES_MAX = 64 * 1024 * 1024;

export type StateSeat = 'primary' | 'secondary';

/** Of one TCP connection: `key` is its FLOW_KEY_WORDS words, the rest as FlowState has it. */
export interface KeptTranslation {
  readonly nic: number;
  readonly key: readonly number[];
  readonly seqDelta: number;
  readonly tsDelta: number;
  /** Null: the client was shown no timestamp. */
  readonly tsShown: number | null;
}

/** As hexadecimal text; `vlan` as FrameView.vlan has it. */
export interface KeptAddress {
  readonly nic: number;
  readonly mac: string;
  readonly ip: string;
  readonly vlan: number;
}

export interface KeptState {
  /** This installation, for the arbiter. */
  readonly owner: string;
  /** The arbiter's, 0 before the first claim. */
  readonly generation: number;
  /** Seat of today's primary. */
  readonly carrier: StateSeat;
  /** Protection was on: the VM on the other seat has run, and is void if the proxy has died since. */
  readonly protecting: boolean;
  readonly addresses: readonly KeptAddress[];
  readonly translations: readonly KeptTranslation[];
}

export function firstState(): KeptState {
  const owner = randomBytes(8).toString('hex');
  return { owner, generation: 0, carrier: 'primary', protecting: false, addresses: [], translations: [] };
}

export class StateFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Null: there is none. Throws COLO_ERR_STATE for a file that is damaged, too large, or of another version. */
  load(): KeptState | null {
    let text: string;
    try {
      if (statSync(this.path).size > FILE_BYTES_MAX) throw new Error(`more than ${FILE_BYTES_MAX} bytes`);
      text = readFileSync(this.path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw this.#refusal(error instanceof Error ? error.message : String(error));
    }
    try {
      return decodeState(text);
    } catch (error) {
      throw this.#refusal(error instanceof Error ? error.message : String(error));
    }
  }

  /** On disk when it returns; blocks for one fsync. Throws COLO_ERR_STATE; the old file is then still there. */
  save(state: KeptState): void {
    const draft = `${this.path}.new`;
    try {
      const file = openSync(draft, 'w', 0o600);
      try {
        const bytes = Buffer.from(encodeState(state));
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(draft, this.path);
      const directory = openSync(dirname(this.path), 'r');
      try {
        fsyncSync(directory);
      } finally {
        closeSync(directory);
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      throw new ColoError('COLO_ERR_STATE', `${this.path} cannot be written: ${text}`, { cause: error });
    }
  }

  remove(): void {
    unlinkSync(this.path);
  }

  #refusal(text: string): ColoError {
    return new ColoError(
      'COLO_ERR_STATE',
      `${this.path}: ${text}. It says which VM carries the traffic. Stop the VM that must not go on, remove the file, ` +
        'and start again: the VM on the seat "primary" then goes on, and old connections are no longer translated',
    );
  }
}

export function encodeState(state: KeptState): string {
  const body = JSON.stringify(state);
  const bytes = Buffer.byteLength(body);
  return `${JSON.stringify({ format: FORMAT, version: VERSION, bytes, sha256: digest(body) })}\n${body}\n`;
}

/** Throws an Error that says what is wrong. */
export function decodeState(text: string): KeptState {
  const end = text.indexOf('\n');
  const header = parse(end < 0 ? '' : text.slice(0, end));
  if (header.format !== FORMAT) throw new Error('it does not begin as a state file of colo-proxy');
  if (header.version !== VERSION) throw new Error(`version ${header.version} is not ${VERSION}`);
  const body = text.slice(end + 1, -1);
  if (header.bytes !== Buffer.byteLength(body) || header.sha256 !== digest(body)) {
    throw new Error('its checksum is wrong');
  }
  const { owner, generation, carrier, protecting, addresses, translations } = parse(body);
  if (typeof owner !== 'string' || !/^[0-9a-f]{16}$/.test(owner)) throw new Error('owner is missing');
  if (!isCount(generation)) throw new Error('generation is missing');
  if (carrier !== 'primary' && carrier !== 'secondary') throw new Error('carrier is missing');
  if (typeof protecting !== 'boolean') throw new Error('protecting is missing');
  if (!Array.isArray(addresses) || !addresses.every(isAddress)) throw new Error('addresses are wrong');
  if (!Array.isArray(translations) || !translations.every(isTranslation)) {
    throw new Error('translations are wrong');
  }
  return { owner, generation, carrier, protecting, addresses, translations };
}

function parse(text: string): Record<string, unknown> {
  const value: unknown = JSON.parse(text === '' ? 'null' : text);
  if (typeof value !== 'object' || value === null) throw new Error('it is empty or no object');
  return value as Record<string, unknown>;
}

function digest(body: string): string {
  return createHash('sha256').update(body).digest('hex');
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isWord(value: unknown): value is number {
  return typeof value === 'number' && (value | 0) === value;
}

/** Of what is no object nothing is known. */
function asFields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function isAddress(value: unknown): value is KeptAddress {
  const { nic, mac, ip, vlan } = asFields(value);
  const isHex = (text: unknown, pattern: RegExp): boolean => typeof text === 'string' && pattern.test(text);
  return (
    isCount(nic) && isCount(vlan) && isHex(mac, /^[0-9a-f]{12}$/) && isHex(ip, /^([0-9a-f]{8}|[0-9a-f]{32})$/)
  );
}

function isTranslation(value: unknown): value is KeptTranslation {
  const { nic, key, seqDelta, tsDelta, tsShown } = asFields(value);
  return (
    isCount(nic) &&
    Array.isArray(key) &&
    key.length === FLOW_KEY_WORDS &&
    key.every(isWord) &&
    isWord(seqDelta) &&
    isWord(tsDelta) &&
    (tsShown === null || isWord(tsShown))
  );
}
