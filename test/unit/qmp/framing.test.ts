import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeMessage, QmpLineReader, type QmpObject } from '../../../src/qmp/framing.js';

function read(chunks: Buffer[], lineBytesMax = 1000): QmpObject[] {
  const reader = new QmpLineReader(lineBytesMax);
  const messages: QmpObject[] = [];
  for (const chunk of chunks) reader.push(chunk, (message) => messages.push(message));
  return messages;
}

describe('QMP lines', () => {
  it('are found whatever the chunking', () => {
    const objects = fc.array(fc.dictionary(fc.string({ maxLength: 9 }), fc.jsonValue({ maxDepth: 2 })), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(objects, fc.array(fc.integer({ min: 1, max: 30 })), (messages, sizes) => {
        const bytes = Buffer.concat(messages.map((message) => encodeMessage(message as QmpObject)));
        const chunks: Buffer[] = [];
        let at = 0;
        for (const size of sizes) {
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        chunks.push(bytes.subarray(at));
        const plain = JSON.parse(JSON.stringify(messages)) as QmpObject[];
        expect(read(chunks, 100_000)).toEqual(plain);
      }),
    );
  });

  it.each([
    ['no JSON', 'hello\r\n'],
    ['a number', '42\n'],
    ['an array', '[]\n'],
    ['null', 'null\n'],
    ['binary', '\x16\x03\x01\x02\x00\n'],
    ['nested without end', `${'['.repeat(900)}\n`],
  ])('%s is refused', (_name, text) => {
    expect(() => read([Buffer.from(text, 'latin1')])).toThrow(/not a JSON object/);
  });

  it('may be empty, as QEMU may send', () => {
    expect(read([Buffer.from('\r\n{"a":1}\r\n\r\n')])).toEqual([{ a: 1 }]);
  });

  it('are bounded, complete or not', () => {
    expect(() => read([Buffer.alloc(1001, 'x')])).toThrow(/more than 1000 bytes/);
    expect(() => read(Array.from({ length: 101 }, () => Buffer.alloc(10, 'x')))).toThrow(
      /more than 1000 bytes/,
    );
    expect(() => read([Buffer.from(`{"a":"${'x'.repeat(1000)}"}\n`)])).toThrow(/more than 1000 bytes/);
  });

  it('never throw anything else, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), (chunks) => {
        try {
          read(chunks.map((chunk) => Buffer.from(chunk)));
        } catch (error) {
          expect((error as { code: string }).code).toBe('COLO_ERR_QMP_PROTOCOL');
        }
      }),
    );
  });
});
