/**
 * Copying and comparing bytes of one WebAssembly memory. A call from optimised code costs some 10 ns, where one of
 * Buffer.copy, Buffer.compare or the addon costs 80 to 140 however short the range. Written in the instructions
 * themselves (WebAssembly Core Specification 2.0, chapter 5): two functions do not need a compiler.
 */
export interface ByteKernels {
  /** Of any ranges inside the memory; they may overlap. Outside it throws WebAssembly.RuntimeError. */
  copy(target: number, source: number, length: number): void;
  /** Index of the first byte that differs, or -1. */
  firstDifference(a: number, b: number, length: number): number;
}

const [I32, EMPTY] = [0x7f, 0x40];
const [BLOCK, LOOP, IF, END, BR, BR_IF, RETURN] = [0x02, 0x03, 0x04, 0x0b, 0x0c, 0x0d, 0x0f];
const [GET, SET, CONST] = [0x20, 0x21, 0x41];
const [I32_LOAD8_U, I32_EQ, I32_NE, I32_LT_U, I32_GT_U, I32_GE_U] = [0x2d, 0x46, 0x47, 0x49, 0x4b, 0x4f];
const [I32_ADD, I32_SUB] = [0x6a, 0x6b];
const MEMORY_COPY = [0xfc, 0x0a, 0x00, 0x00];
/** Unaligned: 2^0 bytes of alignment. */
const vectorLoad = (offset: number): number[] => [0xfd, 0x00, 0x00, offset];
const [V128_OR, V128_XOR, V128_ANY_TRUE] = [
  [0xfd, 0x50],
  [0xfd, 0x51],
  [0xfd, 0x53],
];
const [TYPES, IMPORTS, FUNCTIONS, EXPORTS, CODE] = [1, 2, 3, 7, 10];
const VECTOR_BYTES = 16;
const LINE_BYTES = 4 * VECTOR_BYTES;
const PAGE_BYTES = 65_536;

/** Parameters 0 to 2 as the interfaces above name them; the local 3 is the index of the byte looked at. */
const COPY = [GET, 0, GET, 1, GET, 2, ...MEMORY_COPY];
const byteAddress = (range: number): number[] => [GET, range, GET, 3, I32_ADD];
/** Signed LEB128, of up to 13 bits. */
const constant = (value: number): number[] =>
  value < 64 ? [CONST, value] : [CONST, (value & 0x7f) | 0x80, value >> 7];
const advance = (bytes: number): number[] => [GET, 3, ...constant(bytes), I32_ADD];
const vectorsDiffer = (offset: number): number[] => [
  ...[...byteAddress(0), ...vectorLoad(offset)],
  ...[...byteAddress(1), ...vectorLoad(offset), ...V128_XOR],
];
const FIRST_DIFFERENCE = [
  // four vectors at a time
  ...[BLOCK, EMPTY, LOOP, EMPTY],
  ...[...advance(LINE_BYTES), GET, 2, I32_GT_U, BR_IF, 1],
  ...[...vectorsDiffer(0), ...vectorsDiffer(16), ...V128_OR],
  ...[...vectorsDiffer(32), ...vectorsDiffer(48), ...V128_OR],
  ...[...V128_OR, ...V128_ANY_TRUE, BR_IF, 1],
  ...[...advance(LINE_BYTES), SET, 3, BR, 0, END, END],
  // one; the last ends where the ranges do, and repeats what the one before it held
  ...[BLOCK, EMPTY, LOOP, EMPTY],
  ...[...advance(VECTOR_BYTES), GET, 2, I32_GT_U, IF, EMPTY],
  ...[GET, 3, GET, 2, I32_EQ, BR_IF, 2, GET, 2, ...constant(VECTOR_BYTES), I32_LT_U, BR_IF, 2],
  ...[GET, 2, ...constant(VECTOR_BYTES), I32_SUB, SET, 3, END],
  ...[...vectorsDiffer(0), ...V128_ANY_TRUE, BR_IF, 1],
  ...[...advance(VECTOR_BYTES), SET, 3, BR, 0, END, END],
  // a range shorter than a vector, or the vector that differs, byte by byte
  ...[BLOCK, EMPTY, LOOP, EMPTY],
  ...[GET, 3, GET, 2, I32_GE_U, BR_IF, 1],
  ...[BLOCK, EMPTY, ...byteAddress(0), I32_LOAD8_U, 0, 0, ...byteAddress(1), I32_LOAD8_U, 0, 0, I32_NE],
  ...[BR_IF, 0, ...advance(1), SET, 3, BR, 1, END],
  ...[GET, 3, RETURN, END, END],
  ...[CONST, 0x7f],
];

const sized = (bytes: readonly number[]): number[] => {
  if (bytes.length >= 1 << 14) throw new RangeError('a section of 16 KiB');
  return [(bytes.length & 0x7f) | 0x80, bytes.length >> 7, ...bytes];
};
const section = (id: number, entries: readonly (readonly number[])[]): number[] => [
  id,
  ...sized([entries.length, ...entries.flat()]),
];
const name = (text: string): number[] => [text.length, ...Buffer.from(text)];

const MODULE = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...section(TYPES, [
    [0x60, 3, I32, I32, I32, 0],
    [0x60, 3, I32, I32, I32, 1, I32],
  ]),
  ...section(IMPORTS, [[...name('frames'), ...name('memory'), 0x02, 0x00, 1]]),
  ...section(FUNCTIONS, [[0], [1]]),
  ...section(EXPORTS, [
    [...name('copy'), 0x00, 0],
    [...name('firstDifference'), 0x00, 1],
  ]),
  ...section(CODE, [sized([0, ...COPY, END]), sized([1, 1, I32, ...FIRST_DIFFERENCE, END])]),
]);

/** What is used of the global WebAssembly, of which neither ES2023 nor Node.js's types tell. */
declare const WebAssembly: {
  readonly Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

/** Address space, not memory: pages that were never written are not there. Throws RangeError when it cannot be had. */
export function openByteKernels(bytes: number): { memory: ArrayBuffer; kernels: ByteKernels } {
  const pages = bytes / PAGE_BYTES;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(MODULE), { frames: { memory } });
  return { memory: memory.buffer, kernels: instance.exports as ByteKernels };
}
