/** Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little endian: what evidence and recordings are written as. */

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_ENHANCED_PACKET = 6;
const OPTION_COMMENT = 1;
const OPTION_INTERFACE_NAME = 2;
const OPTION_USER_APPLICATION = 4;
const OPTION_TIME_RESOLUTION = 9;
export const LINK_TYPE_ETHERNET = 1;
/** LINKTYPE_USER0 (tcpdump.org/linktypes.html): whatever its writer means by it. */
export const LINK_TYPE_EVENT = 147;
const NANOSECONDS = 9;
const OPTION_BYTES_MAX = 65_535;

export interface CaptureInterface {
  readonly name: string;
  readonly linkType: number;
}

export interface PacketBlock {
  /** Index of the interface block in its section. */
  readonly interface: number;
  /** Milliseconds since 1970, with a fraction. */
  readonly wallMs: number;
  readonly bytes: Uint8Array;
  /** Length of the whole frame. */
  readonly wireBytes: number;
  readonly comment?: string;
}

/** Begins a file: a section, and its interfaces with nanosecond times. */
export function fileHeader(application: string, interfaces: readonly CaptureInterface[]): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  body.writeUInt16LE(1, 4);
  body.writeBigInt64LE(-1n, 8); // length of the section: not known
  const section = block(BLOCK_SECTION, [body, textOption(OPTION_USER_APPLICATION, application), END]);
  return Buffer.concat([section, ...interfaces.map(interfaceBlock)]);
}

export function packetBlock(packet: PacketBlock): Buffer {
  const { bytes, wireBytes, comment } = packet;
  const head = Buffer.alloc(20);
  const wholeMs = Math.floor(packet.wallMs);
  const nanoseconds = BigInt(wholeMs) * 1_000_000n + BigInt(Math.round((packet.wallMs - wholeMs) * 1e6));
  head.writeUInt32LE(packet.interface, 0);
  head.writeUInt32LE(Number(nanoseconds >> 32n), 4);
  head.writeUInt32LE(Number(nanoseconds & 0xffffffffn), 8);
  head.writeUInt32LE(bytes.length, 12);
  head.writeUInt32LE(wireBytes, 16);
  const options = comment === undefined ? [] : [textOption(OPTION_COMMENT, comment), END];
  return block(BLOCK_ENHANCED_PACKET, [head, bytes, padding(bytes.length), ...options]);
}

const END = Buffer.alloc(4);

function interfaceBlock({ name, linkType }: CaptureInterface): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(linkType, 0);
  const resolution = option(OPTION_TIME_RESOLUTION, Buffer.from([NANOSECONDS]));
  return block(BLOCK_INTERFACE, [body, textOption(OPTION_INTERFACE_NAME, name), resolution, END]);
}

function textOption(code: number, text: string): Buffer {
  return option(code, Buffer.from(text).subarray(0, OPTION_BYTES_MAX));
}

function option(code: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, value, padding(value.length)]);
}

function block(type: number, parts: readonly Uint8Array[]): Buffer {
  const length = 12 + parts.reduce((sum, part) => sum + part.length, 0);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(length, 4);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(length, 0);
  return Buffer.concat([head, ...parts, tail]);
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((4 - (bytes % 4)) % 4);
}
