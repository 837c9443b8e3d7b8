import { hashText, mix32 } from './random.js';

/** Bytes a file has when its name does not say. */
const FILE_BYTES_DEFAULT = 64 * 1024;
const FILE_BYTES_MAX = 1024 * 1024 * 1024;

/** The size a file's name states: `photo-262144.bin` has 262144 bytes. */
export function fileSizeBytes(name: string): number {
  const stated = /-(\d{1,10})\.bin$/.exec(name)?.[1];
  return stated === undefined ? FILE_BYTES_DEFAULT : Math.min(Number(stated), FILE_BYTES_MAX);
}

/**
 * A range of a file's content, computed from its name alone: guests serve it without storing it and clients
 * check every byte without having been told it.
 */
export function fileBytes(name: string, offset: number, length: number): Uint8Array {
  const seed = hashText(name);
  const bytes = new Uint8Array(length);
  let word = 0;
  for (let index = 0; index < length; index++) {
    const at = offset + index;
    if (index === 0 || (at & 3) === 0) word = mix32(seed ^ Math.imul(at >>> 2, 0x9e3779b1));
    bytes[index] = word >>> ((at & 3) * 8);
  }
  return bytes;
}

/** Position of the first byte that differs from the file's content at `offset`, or -1. */
export function firstWrongByte(name: string, offset: number, received: Uint8Array): number {
  const expected = fileBytes(name, offset, received.length);
  for (let index = 0; index < received.length; index++) {
    if (received[index] !== expected[index]) return offset + index;
  }
  return -1;
}
