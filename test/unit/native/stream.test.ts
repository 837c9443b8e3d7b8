/** StreamPort on unix and TCP sockets, with Node's own sockets as the peer. */
import { afterEach, describe, expect, it } from 'vitest';
import { adoptStream, type NativeError, openNetlink } from '../../../native/index.js';
import { cleanUpStreams, readable, streamPair } from './stream-pair.js';

afterEach(cleanUpStreams);

const codeOf = (action: () => unknown) => {
  try {
    action();
  } catch (error) {
    return (error as NativeError).code;
  }
  return 'no error';
};

describe.each(['unix', 'tcp'] as const)('StreamPort over %s', (kind) => {
  it('reads and writes what the peer wrote and reads, and ends with 0', async () => {
    const [a, b] = await streamPair(kind);
    const buffer = Buffer.alloc(64);
    expect(b.read(buffer, 0, 64)).toBe(-1);
    expect(a.write(Buffer.from('xxhellox'), 2, 5)).toBe(5);
    expect(a.write(Buffer.from('defyz'), 0, 5)).toBe(5);
    await readable(b);
    expect(b.unreadBytes()).toBe(10);
    expect(b.read(buffer, 1, 7)).toBe(7);
    expect(b.read(buffer, 8, 56)).toBe(3);
    expect(buffer.toString('latin1', 1, 11)).toBe('hellodefyz');
    a.close();
    await readable(b);
    expect(b.read(buffer, 0, 64)).toBe(0);
  });

  it('takes what fits, 0 when full, and tells when there is room again', async () => {
    const [a, b] = await streamPair(kind);
    const chunk = Buffer.alloc(100_000, 7);
    let sent = 0;
    for (let taken = -1; taken !== 0; sent += taken) taken = a.write(chunk, 0, chunk.length);
    expect(a.unsentBytes()).toBeGreaterThan(0);
    let writable = false;
    a.wantWritable(() => {
      writable = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(writable).toBe(false);
    let received = 0;
    const sink = Buffer.alloc(1 << 20);
    while (received < sent) {
      const got = b.read(sink, 0, sink.length);
      if (got < 0) await readable(b);
      else received += got;
    }
    while (!writable) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(a.write(chunk, 0, 10)).toBe(10);
  });

  it('says EPIPE or ECONNRESET to the writer when the peer is gone, and does not end the process', async () => {
    const [a, b] = await streamPair(kind);
    b.close();
    let code = 'no error';
    for (let i = 0; i < 200 && code === 'no error'; i++) {
      code = codeOf(() => a.write(Buffer.alloc(10), 0, 10));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(['EPIPE', 'ECONNRESET']).toContain(code);
  });

  it('has a send buffer of the size that is asked for, as far as the kernel allows', async () => {
    const [a] = await streamPair(kind);
    a.setSendBuffer(8192);
    const piece = Buffer.alloc(1000);
    const fill = (): number => {
      let taken = 0;
      for (let put = -1; put !== 0 && taken < 100_000_000; taken += put)
        put = a.write(piece, 0, piece.length);
      return taken;
    };
    const small = fill();
    a.setSendBuffer(200_000);
    expect(fill()).toBeGreaterThan(small);
    expect(codeOf(() => a.setSendBuffer(2 ** 31))).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf(() => a.setSendBuffer(-1))).toBe('ERR_OUT_OF_RANGE');
  });

  it('refuses ranges outside the buffers', async () => {
    const [a] = await streamPair(kind);
    const buffer = Buffer.alloc(10);
    expect(() => a.read(buffer, 0, 11)).toThrow(RangeError);
    expect(() => a.read(buffer, 5, 0)).toThrow(RangeError);
    expect(() => a.write(buffer, 10, 1)).toThrow(RangeError);
    expect(() => a.read.call(openNetlink({}), buffer, 0, 1)).toThrow(TypeError);
  });
});

it('adopts stream sockets only', () => {
  expect(codeOf(() => adoptStream(99_999))).toBe('EBADF');
  expect(codeOf(() => adoptStream(-1))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => adoptStream(2))).toMatch(/ENOTSOCK|EPROTOTYPE|no error/);
  const netlink = openNetlink({});
  expect(codeOf(() => adoptStream(netlink.fd))).toBe('EPROTOTYPE');
  netlink.close();
});
