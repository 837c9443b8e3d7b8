/**
 * The bytes of netlink (linux/netlink.h): messages of a 16-byte header, a fixed part and attributes, all padded
 * to 4 bytes, numbers in the host's order (little-endian on every host this runs on). Decoding never reads
 * outside what it is given: a length that does not fit ends the walk.
 */
const NETLINK_HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** NLA_TYPE_MASK: without the "nested" and "network byte order" flags. */
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const NESTED = 0x8000;

export const NetlinkType = { ERROR: 2, DONE: 3 } as const;
export const NetlinkFlag = { REQUEST: 0x1, ACK: 0x4, DUMP: 0x300 } as const;

const align = (bytes: number): number => (bytes + 3) & ~3;

/** Writes one message: `begin`, then its fixed part and attributes, then `finish`. */
export class NetlinkWriter {
  readonly #buffer = Buffer.alloc(1024);
  #end = 0;

  begin(type: number, flags: number, sequence: number): this {
    this.#buffer.fill(0);
    this.#buffer.writeUInt16LE(type, 4);
    this.#buffer.writeUInt16LE(flags, 6);
    this.#buffer.writeUInt32LE(sequence, 8);
    this.#end = NETLINK_HEADER_BYTES;
    return this;
  }

  u8(value: number): this {
    this.#buffer.writeUInt8(value, this.#end);
    this.#end += 1;
    return this;
  }

  u16(value: number): this {
    this.#buffer.writeUInt16LE(value, this.#end);
    this.#end += 2;
    return this;
  }

  u32(value: number): this {
    this.#buffer.writeUInt32LE(value >>> 0, this.#end);
    this.#end += 4;
    return this;
  }

  bytes(value: Buffer): this {
    this.#end += value.copy(this.#buffer, this.#end);
    return this;
  }

  /** An attribute whose content `write` writes. */
  attribute(type: number, write: (writer: this) => void): this {
    const start = this.#end;
    this.#end += ATTRIBUTE_HEADER_BYTES;
    write(this);
    this.#buffer.writeUInt16LE(this.#end - start, start);
    this.#buffer.writeUInt16LE(type, start + 2);
    this.#end = align(this.#end);
    return this;
  }

  nested(type: number, write: (writer: this) => void): this {
    return this.attribute(type | NESTED, write);
  }

  /** A string with its terminating zero byte. */
  text(type: number, value: string): this {
    return this.attribute(type, () => {
      this.#end += this.#buffer.write(value, this.#end) + 1;
    });
  }

  /** The whole message; valid until the next `begin`. */
  finish(): Buffer {
    this.#buffer.writeUInt32LE(this.#end, 0);
    return this.#buffer.subarray(0, this.#end);
  }
}

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** The part after the header. */
  readonly body: Buffer;
}

/** The messages of one datagram; stops at the first whose length does not fit. */
export function* netlinkMessages(datagram: Buffer): Generator<NetlinkMessage> {
  let at = 0;
  while (datagram.length - at >= NETLINK_HEADER_BYTES) {
    const length = datagram.readUInt32LE(at);
    if (length < NETLINK_HEADER_BYTES || length > datagram.length - at) return;
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      body: datagram.subarray(at + NETLINK_HEADER_BYTES, at + length),
    };
    at += align(length);
  }
}

/** The attributes that follow a fixed part of `fixedBytes`, as type and content; stops at one that does not fit. */
export function* netlinkAttributeList(body: Buffer, fixedBytes = 0): Generator<[number, Buffer]> {
  let at = fixedBytes;
  while (body.length - at >= ATTRIBUTE_HEADER_BYTES) {
    const length = body.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES || length > body.length - at) return;
    const type = body.readUInt16LE(at + 2) & ATTRIBUTE_TYPE_MASK;
    yield [type, body.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length)];
    at += align(length);
  }
}

/** The same by type, where each comes once; else the last wins. */
export function netlinkAttributes(body: Buffer, fixedBytes = 0): Map<number, Buffer> {
  return new Map(netlinkAttributeList(body, fixedBytes));
}

/** errno of an NLMSG_ERROR body (0: acknowledgement), positive as in errno.h; EPROTO when it is cut short. */
export function netlinkErrno(body: Buffer): number {
  return body.length >= 4 ? -body.readInt32LE(0) : 71;
}

export function attributeU8(attribute: Buffer | undefined): number | undefined {
  return attribute && attribute.length >= 1 ? attribute[0] : undefined;
}

export function attributeU32(attribute: Buffer | undefined): number | undefined {
  return attribute && attribute.length >= 4 ? attribute.readUInt32LE(0) : undefined;
}

export function attributeText(attribute: Buffer | undefined): string | undefined {
  if (!attribute) return undefined;
  const end = attribute.indexOf(0);
  return attribute.toString('utf8', 0, end < 0 ? attribute.length : end);
}

/** The `index`-th 64-bit counter of a struct of them; 0 when the kernel's struct is shorter. */
export function counter64(attribute: Buffer, index: number): number {
  const at = 8 * index;
  if (at + 8 > attribute.length) return 0;
  return attribute.readUInt32LE(at) + attribute.readUInt32LE(at + 4) * 2 ** 32;
}
