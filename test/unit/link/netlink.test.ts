import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NetlinkPort } from '../../../native/index.js';
import { EthtoolFeatures } from '../../../src/link/ethtool-features.js';
import {
  counter64,
  NetlinkFlag,
  NetlinkType,
  NetlinkWriter,
  netlinkAttributeList,
  netlinkAttributes,
  netlinkMessages,
} from '../../../src/link/netlink-message.js';
import { InterfaceMonitor, Rtnetlink } from '../../../src/link/rtnetlink.js';
import {
  decodeAddress,
  decodeLink,
  decodeStatistics,
  encodeGetLink,
  encodeSetLink,
  type InterfaceInfo,
  RouteType,
} from '../../../src/link/rtnetlink-codec.js';

/** A kernel that answers each request with the datagrams that `answer` makes of it. */
class FakeKernel implements NetlinkPort {
  readonly fd = 3;
  readonly requests: Buffer[] = [];
  readonly waiting: Buffer[] = [];
  readonly #answer: (request: Buffer) => Buffer[];
  onReadable: () => void = () => {};

  constructor(answer: (request: Buffer) => Buffer[] = () => []) {
    this.#answer = answer;
  }

  send(message: Uint8Array): void {
    this.requests.push(Buffer.from(message));
    this.waiting.push(...this.#answer(Buffer.from(message)));
  }

  receive(buffer: Uint8Array): number {
    const datagram = this.waiting.shift();
    if (!datagram) return -1;
    datagram.copy(buffer);
    return datagram.length;
  }

  start(onReadable: () => void): void {
    this.onReadable = onReadable;
  }

  wantWritable(): void {}
  stop(): void {}
  close(): void {}
}

const sequenceOf = (request: Buffer): number => request.readUInt32LE(8);

/** Writes with `type` and `sequence`, as the kernel answers. */
function message(type: number, sequence: number, write: (writer: NetlinkWriter) => void): Buffer {
  const writer = new NetlinkWriter().begin(type, 0, sequence);
  write(writer);
  return Buffer.from(writer.finish());
}

function linkMessage(type: number, sequence: number, name: string, index: number): Buffer {
  return message(type, sequence, (writer) => {
    writer.u8(0).u8(0).u16(1).u32(index).u32(0x10041).u32(0);
    writer.text(3, name);
    writer.attribute(4, () => writer.u32(1400));
    writer.attribute(13, () => writer.u32(1000));
    writer.attribute(33, () => writer.u8(1));
    writer.nested(18, () => writer.text(1, 'tun'));
    writer.nested(26, () => writer.nested(10, () => writer.attribute(8, () => writer.u8(1))));
  });
}

const errorMessage = (sequence: number, errno: number): Buffer =>
  message(NetlinkType.ERROR, sequence, (writer) => writer.u32(-errno));

describe('netlink messages', () => {
  it('are what the kernel expects', () => {
    const request = encodeGetLink(new NetlinkWriter(), 7, 'tap0');
    // 16 header + 16 ifinfomsg + attribute IFLA_IFNAME (4 + 5, padded to 12)
    expect(request.toString('hex')).toBe(
      '2c00000012000100070000000000000000000000000000000000000000000000' + '0900030074617030' + '00000000',
    );
    const change = encodeSetLink(new NetlinkWriter(), 1, 5, { up: true, noArp: false, master: 9 });
    expect(change.readUInt32LE(24)).toBe(0x1); // flags
    expect(change.readUInt32LE(28)).toBe(0x81); // change mask
    expect(netlinkAttributes(change, 32).get(10)?.readUInt32LE(0)).toBe(9);
  });

  it('are read back as they were written', () => {
    const [read] = [...netlinkMessages(linkMessage(RouteType.NEWLINK, 3, 'tap0', 12))];
    expect(decodeLink(read!)).toMatchObject({
      index: 12,
      name: 'tap0',
      flags: 0x10041,
      mtuBytes: 1400,
      transmitQueueFrames: 1000,
      carrier: true,
      kind: 'tun',
      addressGeneration: 1,
      master: 0,
    });
  });

  it('may hold any bytes: decoding stays inside, ends, and never throws', () => {
    const valid = Buffer.concat([linkMessage(16, 1, 'tap0', 1), linkMessage(17, 2, 'x'.repeat(15), 2)]);
    const mutated = fc
      .array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 })
      .chain((edits) =>
        fc.nat(valid.length).map((length) => {
          const bytes = Buffer.from(valid);
          for (const [at, value] of edits) bytes[at] = value;
          return bytes.subarray(0, length);
        }),
      );
    const any = fc.oneof(
      mutated,
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    );
    fc.assert(
      fc.property(any, (datagram) => {
        let messages = 0;
        for (const read of netlinkMessages(datagram)) {
          messages++;
          decodeLink(read);
          decodeAddress(read);
          decodeStatistics(read);
          for (const [, content] of netlinkAttributeList(read.body, 16)) netlinkAttributes(content);
        }
        expect(messages).toBeLessThanOrEqual(datagram.length / 16);
      }),
      { numRuns: 2000 },
    );
  });

  it('end where a length does not fit', () => {
    const body = Buffer.from([8, 0, 1, 0, 1, 2, 3, 4, 9, 0, 2, 0, 5, 6, 7, 8]);
    expect([...netlinkAttributeList(body)].map(([type]) => type)).toEqual([1]);
    body[8] = 8;
    expect([...netlinkAttributeList(body)].map(([type]) => type)).toEqual([1, 2]);
    const cut = linkMessage(RouteType.NEWLINK, 3, 'tap0', 12).subarray(0, -4);
    expect([...netlinkMessages(cut)]).toEqual([]);
  });

  it('count in 64 bits', () => {
    const counters = Buffer.alloc(16);
    counters.writeBigUInt64LE(5n * 2n ** 32n + 7n, 8);
    expect(counter64(counters, 1)).toBe(5 * 2 ** 32 + 7);
    expect(counter64(counters, 2)).toBe(0);
  });
});

describe('rtnetlink', () => {
  it('takes only the answer to its own question', () => {
    const kernel = new FakeKernel((request) => [
      linkMessage(RouteType.NEWLINK, sequenceOf(request) + 5, 'other', 1),
      linkMessage(RouteType.NEWLINK, sequenceOf(request), 'tap0', 2),
    ]);
    expect(new Rtnetlink(kernel).interface('tap0')).toMatchObject({ name: 'tap0', index: 2 });
  });

  it('turns ENODEV into undefined, other refusals into errors, and silence into EPROTO', () => {
    let errno = 19;
    const kernel = new FakeKernel((request) => (errno < 0 ? [] : [errorMessage(sequenceOf(request), errno)]));
    const rtnetlink = new Rtnetlink(kernel);
    expect(rtnetlink.interface('tap0')).toBeUndefined();
    errno = 1;
    expect(() => rtnetlink.interface('tap0')).toThrow(
      expect.objectContaining({ code: 'EPERM', errno: -1, syscall: 'RTM_GETLINK' }),
    );
    errno = 0;
    rtnetlink.change(4, { up: true }); // an acknowledgement
    errno = -1;
    expect(() => rtnetlink.interface('tap0')).toThrow(expect.objectContaining({ code: 'EPROTO' }));
  });

  it('collects a dump over several datagrams and keeps the addresses of one interface', () => {
    const address = (sequence: number, index: number, last: number): Buffer =>
      message(RouteType.NEWADDR, sequence, (writer) => {
        writer.u8(2).u8(24).u8(0).u8(0).u32(index);
        writer.attribute(2, () => writer.bytes(Buffer.from([10, 0, 0, last])));
      });
    const kernel = new FakeKernel((request) => {
      const sequence = sequenceOf(request);
      expect(request.readUInt16LE(6)).toBe(NetlinkFlag.REQUEST | NetlinkFlag.DUMP);
      return [
        Buffer.concat([address(sequence, 4, 1), address(sequence, 5, 2)]),
        Buffer.concat([
          address(sequence, 4, 3),
          message(NetlinkType.DONE, sequence, (writer) => writer.u32(0)),
        ]),
      ];
    });
    expect(new Rtnetlink(kernel).addresses(4).map(({ address }) => address[3])).toEqual([1, 3]);
  });

  it('tells once of many events, only of watched ones, and of lost ones', () => {
    const kernel = new FakeKernel();
    let changes = 0;
    new InterfaceMonitor(
      (link: InterfaceInfo) => link.name === 'tap0',
      () => changes++,
      kernel,
    );
    kernel.waiting.push(linkMessage(RouteType.NEWLINK, 0, 'eth0', 1));
    kernel.onReadable();
    expect(changes).toBe(0);
    kernel.waiting.push(
      linkMessage(RouteType.NEWLINK, 0, 'tap0', 2),
      linkMessage(RouteType.DELLINK, 0, 'tap0', 2),
    );
    kernel.onReadable();
    expect(changes).toBe(1);
    kernel.receive = () => {
      throw Object.assign(new Error('ENOBUFS'), { code: 'ENOBUFS' });
    };
    kernel.onReadable();
    expect(changes).toBe(2);
  });
});

describe('ethtool', () => {
  it('answers undefined where the kernel knows no ethtool family or no such interface', () => {
    const kernel = new FakeKernel((request) => [errorMessage(sequenceOf(request), 2)]);
    expect(new EthtoolFeatures(kernel).segmentation(1)).toBeUndefined();
  });
});
