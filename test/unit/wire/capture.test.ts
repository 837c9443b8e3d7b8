import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ColoError } from '../../../src/errors.js';
import { type Capture, CaptureReader, readCapture } from '../../../src/wire/capture.js';

const FIXTURES = new URL('../../fixtures/captures/', import.meta.url);

/** Fields of 32 bits in the given order, `[n]` for one of 16 bits, buffers as they are. */
function bytesOf(isLittle: boolean, ...fields: (number | [number] | Buffer)[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (Buffer.isBuffer(field)) return field;
      const bytes = Buffer.alloc(typeof field === 'number' ? 4 : 2);
      const value = typeof field === 'number' ? field : field[0];
      if (isLittle) bytes.writeUIntLE(value, 0, bytes.length);
      else bytes.writeUIntBE(value, 0, bytes.length);
      return bytes;
    }),
  );
}

const FRAME = Buffer.from('0123456789abcdef0123', 'hex');

function pcapHeader(isLittle = true, magic = 0xa1b2c3d4, minor = 4, linkType = 1): Buffer {
  return bytesOf(isLittle, magic, [2], [minor], 0, 0, 65_535, linkType);
}

function block(isLittle: boolean, type: number, body: Buffer): Buffer {
  const padded = Buffer.concat([body, Buffer.alloc((4 - (body.length % 4)) % 4)]);
  return bytesOf(isLittle, type, padded.length + 12, padded, padded.length + 12);
}

const section = (isLittle = true) =>
  block(isLittle, 0x0a0d0d0a, bytesOf(isLittle, 0x1a2b3c4d, [1], [0], 0xffffffff, 0xffffffff));
const anInterface = (isLittle = true, linkType = 1, options: Buffer = Buffer.alloc(0)) =>
  block(isLittle, 1, bytesOf(isLittle, [linkType], [0], 0, options));
const packet = (isLittle = true, index = 0, time = 5_000_000, frame = FRAME) =>
  block(
    isLittle,
    6,
    bytesOf(isLittle, index, Math.floor(time / 2 ** 32), time % 2 ** 32, frame.length, 100, frame),
  );

function refusal(file: Buffer): string {
  try {
    readCapture(file);
  } catch (error) {
    expect(error).toBeInstanceOf(ColoError);
    expect((error as ColoError).code).toBe('COLO_ERR_CAPTURE');
    return (error as ColoError).message;
  }
  return expect.unreachable();
}

describe('pcap', () => {
  it.each([
    ['little-endian', true, 0xa1b2c3d4, 7.5],
    ['big-endian', false, 0xa1b2c3d4, 7.5],
    ['nanoseconds', true, 0xa1b23c4d, 0.0075],
  ])('%s', (_name, isLittle, magic, fractionMs) => {
    const record = bytesOf(isLittle, 3, 7500, FRAME.length, 1500, FRAME);
    const capture = readCapture(Buffer.concat([pcapHeader(isLittle, magic), record, record]));
    expect(capture).toMatchObject({ format: 'pcap', linkTypes: [1], trouble: undefined });
    expect(capture.frames.length).toBe(2);
    expect(capture.frames[1]).toEqual({
      bytes: FRAME,
      wireBytes: 1500,
      atMs: 3000 + fractionMs,
      linkType: 1,
    });
  });
  it('the patched format, whose record headers are longer', () => {
    const record = bytesOf(true, 3, 7500, FRAME.length, 1500, 9, 9, FRAME);
    const { frames } = readCapture(Buffer.concat([pcapHeader(true, 0xa1b2cd34), record, record]));
    expect(frames.map((frame) => frame.bytes)).toEqual([FRAME, FRAME]);
  });
  it('version 2.2, whose lengths are the other way round', () => {
    const record = bytesOf(true, 3, 7500, 1500, FRAME.length, FRAME);
    const { frames } = readCapture(Buffer.concat([pcapHeader(true, 0xa1b2c3d4, 2), record]));
    expect(frames[0]).toMatchObject({ bytes: FRAME, wireBytes: 1500 });
  });
  it('the link type without its FCS bits', () => {
    expect(readCapture(pcapHeader(true, 0xa1b2c3d4, 4, 0x14000001)).linkTypes).toEqual([1]);
  });
  it('what comes before a broken record', () => {
    const good = bytesOf(true, 3, 7500, FRAME.length, 1500, FRAME);
    const file = (bad: Buffer) => readCapture(Buffer.concat([pcapHeader(), good, bad]));
    expect(file(Buffer.alloc(15)).trouble).toBe('a record header is cut off');
    expect(file(good.subarray(0, 20)).trouble).toBe('the last frame is cut off');
    expect(file(bytesOf(true, 0, 0, 262_145, 262_145)).trouble).toBe('a record of 262145 bytes');
    expect(file(good.subarray(0, 20)).frames.length).toBe(1);
  });
  it('refuses other versions and half a header', () => {
    expect(refusal(pcapHeader(true, 0xa1b2c3d4, 5))).toContain('version 2.5');
    expect(refusal(pcapHeader().subarray(0, 23))).toContain('cut off');
  });
});

describe('pcapng', () => {
  it.each([true, false])('packets of several kinds, little-endian %s', (isLittle) => {
    const simple = block(isLittle, 3, bytesOf(isLittle, 1500, FRAME));
    const old = block(isLittle, 2, bytesOf(isLittle, [0], [0], 0, 7000, FRAME.length, 100, FRAME));
    const unknown = block(isLittle, 0x0bad, Buffer.alloc(8));
    const file = [section(isLittle), anInterface(isLittle), packet(isLittle), unknown, simple, old];
    const capture = readCapture(Buffer.concat(file));
    expect(capture).toMatchObject({ format: 'pcapng', linkTypes: [1], trouble: undefined });
    expect(capture.frames.map((frame) => frame.atMs)).toEqual([5000, 0, 7]);
    // the simple one does not say where its padding begins
    expect(capture.frames.map((frame) => frame.bytes.length)).toEqual([FRAME.length, 12, FRAME.length]);
    expect(capture.frames.map((frame) => frame.wireBytes)).toEqual([100, 1500, 100]);
  });
  it.each([
    ['nanoseconds', 9, 0.005],
    ['2^-10 s', 0x8a, 5_000_000 / 1.024],
  ])('time in %s', (_name, resolution, atMs) => {
    const option = bytesOf(true, [9], [1], Buffer.from([resolution, 0, 0, 0]), [0], [0]);
    const { frames } = readCapture(Buffer.concat([section(), anInterface(true, 1, option), packet()]));
    expect(frames[0]?.atMs).toBeCloseTo(resolution === 9 ? 5 : atMs, 6);
  });
  it('interfaces of different link types, which libpcap refuses', () => {
    const parts = [section(), anInterface(), anInterface(true, 113), packet(true, 1), packet()];
    const capture = readCapture(Buffer.concat(parts));
    expect(capture.linkTypes).toEqual([1, 113]);
    expect(capture.frames.map((frame) => frame.linkType)).toEqual([113, 1]);
  });
  it('a second section in the other byte order, with interfaces of its own', () => {
    const parts = [section(), anInterface(), packet(), section(false), anInterface(false), packet(false)];
    expect(readCapture(Buffer.concat(parts)).frames.length).toBe(2);
    const without = [section(), anInterface(), packet(), section(false), packet(false)];
    expect(readCapture(Buffer.concat(without)).trouble).toBe('a packet of interface 0, which is not there');
  });
  it('what comes before a broken block', () => {
    const file = (bad: Buffer) => readCapture(Buffer.concat([section(), anInterface(), packet(), bad]));
    const lengths = Buffer.from(packet());
    lengths.writeUInt32LE(lengths.length + 4, lengths.length - 4);
    expect(file(lengths).trouble).toBe('a block whose two lengths differ');
    expect(file(packet().subarray(0, 30)).trouble).toBe('the last block is cut off');
    expect(file(Buffer.alloc(11)).trouble).toBe('a block header is cut off');
    expect(file(Buffer.alloc(12)).trouble).toBe('a block of 0 bytes');
    expect(file(packet(true, 3)).trouble).toContain('interface 3');
    const tooLong = block(true, 6, bytesOf(true, 0, 0, 0, 13, 13, Buffer.alloc(12)));
    expect(file(tooLong).trouble).toBe('a packet of 13 bytes');
    expect(file(tooLong).frames.length).toBe(1);
  });
  it('refuses a file without interface or byte order', () => {
    expect(refusal(section())).toContain('no interface');
    expect(refusal(Buffer.concat([Buffer.from('0a0d0d0a', 'hex'), Buffer.alloc(24)]))).toContain(
      'byte order',
    );
  });
});

describe('any file', () => {
  it.each(['', 'x', 'not a capture', '\x1f\x8b\x08 compressed'])('%j is refused', (text) => {
    expect(refusal(Buffer.from(text))).toContain('neither pcap nor pcapng');
  });

  it('is read or refused, whatever is changed in it', () => {
    const seeds = [
      Buffer.concat([section(), anInterface(), packet(), packet()]),
      Buffer.concat([pcapHeader(), bytesOf(true, 3, 7500, FRAME.length, 1500, FRAME)]),
      readFileSync(new URL('websocket.pcapng', FIXTURES)),
      readFileSync(new URL('malformed.pcap', FIXTURES)),
    ];
    const edits = fc.array(fc.tuple(fc.nat(4000), fc.integer({ min: 0, max: 255 })), { maxLength: 6 });
    fc.assert(
      fc.property(fc.constantFrom(...seeds), edits, fc.nat(4000), (seed, changes, cut) => {
        const file = Buffer.from(seed);
        for (const [at, value] of changes) file[at % Math.min(file.length, 200)] = value;
        let capture: Capture | undefined;
        try {
          capture = readCapture(file.subarray(0, cut < 2000 ? file.length : cut % file.length));
        } catch (error) {
          expect((error as ColoError).code).toBe('COLO_ERR_CAPTURE');
        }
        const total = capture?.frames.reduce((sum, frame) => sum + frame.bytes.length, 0) ?? 0;
        expect(total).toBeLessThanOrEqual(file.length);
      }),
      { numRuns: 3000 },
    );
  });

  it('is the same in pieces of any size, and keeps no more than a record of them', () => {
    const seeds = [
      Buffer.concat([section(), anInterface(), packet(), packet(), Buffer.from('cut')]),
      Buffer.concat([pcapHeader(false), bytesOf(false, 3, 7500, FRAME.length, 1500, FRAME, 1)]),
      ...['websocket.pcapng', 'malformed.pcap', 'qinq.pcap'].map((name) =>
        readFileSync(new URL(name, FIXTURES)),
      ),
    ];
    const sizes = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(fc.constantFrom(...seeds), sizes, (file, pieces) => {
        const reader = new CaptureReader();
        const frames = [];
        for (let at = 0, turn = 0; at < file.length; turn++) {
          const bytes = pieces[turn % pieces.length]!;
          frames.push(...reader.take(Buffer.from(file.subarray(at, at + bytes))));
          at += bytes;
        }
        frames.push(...reader.end());
        const whole = readCapture(file);
        expect(frames).toEqual(whole.frames);
        expect(reader.trouble).toBe(whole.trouble);
      }),
      { numRuns: 200 },
    );
  });
});
