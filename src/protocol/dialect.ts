/**
 * How one generation of QEMU writes the words on the wire. Everything that differs between generations is
 * here: the codes, the width of a word, which words carry a value, and whether return-path messages may come
 * before READY. Parsers and state tables know no bytes.
 */
import { ColoError } from '../errors.js';
import type { SyncPoint } from './sync-point.js';

export type DialectName = 'upstream' | 'v8' | 'v9' | 'v15';

export interface Dialect {
  readonly name: DialectName;
  /** Width of a code, big-endian. */
  readonly codeBytes: 4 | 8;
  readonly codes: Readonly<Partial<Record<SyncPoint, number>>>;
  /** Words that are followed by a big-endian 64-bit value that means something. */
  readonly withValue: readonly SyncPoint[];
  /** Every word is followed by such a value; 0 where it means nothing. */
  readonly valueAlways: boolean;
  /** Before READY the secondary may send return-path messages (be16 type, be16 length, payload). */
  readonly returnPath: boolean;
}

export const VALUE_BYTES = 8;

/** The word with this code, or undefined. `code` may be any number a peer sent. */
export function wordOfCode(dialect: Dialect, code: bigint): SyncPoint | undefined {
  for (const [word, known] of Object.entries(dialect.codes)) {
    if (BigInt(known) === code) return word as SyncPoint;
  }
  return undefined;
}

/** The dialect has this word at all. */
export function says(dialect: Dialect, word: SyncPoint): boolean {
  return dialect.codes[word] !== undefined;
}

export function carriesValue(dialect: Dialect, word: SyncPoint): boolean {
  return dialect.withValue.includes(word);
}

/** Length on the wire of `word`, its value included. */
export function wordBytes(dialect: Dialect, word: SyncPoint): number {
  const hasValue = dialect.valueAlways || carriesValue(dialect, word);
  return dialect.codeBytes + (hasValue ? VALUE_BYTES : 0);
}

/** The bytes of a word. `value` is given exactly for the words that carry one. */
export function encodeWord(dialect: Dialect, word: SyncPoint, value?: bigint): Buffer {
  const code = dialect.codes[word];
  if (code === undefined || carriesValue(dialect, word) !== (value !== undefined)) {
    const what = value === undefined ? word : `${word} with a value`;
    throw new ColoError('COLO_ERR_PROTOCOL_WORD', `the ${dialect.name} dialect cannot say ${what}`);
  }
  const bytes = Buffer.alloc(wordBytes(dialect, word));
  if (dialect.codeBytes === 4) bytes.writeUInt32BE(code, 0);
  else bytes.writeBigUInt64BE(BigInt(code), 0);
  if (value !== undefined) bytes.writeBigUInt64BE(value, dialect.codeBytes);
  return bytes;
}
