/** QMP's framing: one JSON object a line (QEMU docs/interop/qmp-spec). Lines are bounded; what is not QMP is refused. */
import { ColoError } from '../errors.js';

export type QmpObject = Readonly<Record<string, unknown>>;

const NEWLINE = 0x0a;

export function isObject(value: unknown): value is QmpObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Splits chunks into messages. After an error it takes nothing more. */
export class QmpLineReader {
  readonly #lineBytesMax: number;
  #parts: Buffer[] = [];
  #partBytes = 0;

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  /** Bytes of a line that has not ended. */
  get pendingBytes(): number {
    return this.#partBytes;
  }

  /** Calls `message` for each complete line; throws COLO_ERR_QMP_PROTOCOL for a line that is no JSON object. */
  push(chunk: Buffer, message: (object: QmpObject) => void): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      const part = chunk.subarray(start, end === -1 ? chunk.length : end);
      if (this.#partBytes + part.length > this.#lineBytesMax) {
        throw new ColoError('COLO_ERR_QMP_PROTOCOL', `a line of more than ${this.#lineBytesMax} bytes`);
      }
      if (end === -1) {
        if (part.length > 0) this.#parts.push(part);
        this.#partBytes += part.length;
        return;
      }
      const line = Buffer.concat([...this.#parts, part])
        .toString('utf8')
        .trim();
      this.#parts = [];
      this.#partBytes = 0;
      start = end + 1;
      if (line !== '') message(parseLine(line));
    }
  }
}

function parseLine(line: string): QmpObject {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  if (isObject(value)) return value;
  throw new ColoError('COLO_ERR_QMP_PROTOCOL', `not a JSON object: ${JSON.stringify(line.slice(0, 80))}`);
}

export function encodeMessage(message: QmpObject): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\n`);
}
