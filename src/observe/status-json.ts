/** PairStatus as JSON for `/api/status`: typed arrays become lists, bytes become hexadecimal text. */
import type { PairStatus } from '../pair/status.js';

export function statusJson(status: PairStatus): string {
  return `${JSON.stringify(status, plain, 2)}\n`;
}

function plain(_key: string, value: unknown): unknown {
  if (value instanceof Float64Array) return Array.from(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value;
}
