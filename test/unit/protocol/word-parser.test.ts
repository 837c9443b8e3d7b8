import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeWord } from '../../../src/protocol/dialect.js';
import { upstreamDialect } from '../../../src/protocol/dialect-upstream.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import {
  ChannelState,
  PrimaryWords,
  type ProtocolItem,
  SecondaryWords,
  violationError,
} from '../../../src/protocol/word-parser.js';

const be32 = (code: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(code);
  return bytes;
};
const returnPath = (type: number, payload: Buffer): Buffer => {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(type, 0);
  header.writeUInt16BE(payload.length, 2);
  return Buffer.concat([header, payload]);
};

/** Takes items until none is left, counting words as forwarded. Opaque bytes in a row are joined. */
function takeAll(channel: ChannelState, parser: PrimaryWords | SecondaryWords, into: ProtocolItem[]): void {
  for (let item = parser.next(); item !== undefined; item = parser.next()) {
    const last = into.at(-1);
    if (item.kind === 'opaque' && last?.kind === 'opaque') {
      into[into.length - 1] = { kind: 'opaque', bytes: Buffer.concat([last.bytes, item.bytes]) };
    } else into.push(item);
    if (item.kind === 'violation') return;
    if (item.kind === 'word') channel.advance(item.word);
  }
}

function chunked(bytes: Buffer, cuts: number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (const cut of cuts) {
    const size = 1 + (cut % 9);
    if (at >= bytes.length) break;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  if (at < bytes.length) chunks.push(bytes.subarray(at));
  return chunks;
}

const cuts = fc.array(fc.nat(1000), { maxLength: 400 });

describe('the upstream dialect on the wire', () => {
  it('has the codes of QEMU', () => {
    const codes = Object.entries(upstreamDialect.codes).map(([word, code]) => `${code} ${word}`);
    expect(codes).toEqual([
      '0 checkpoint-ready',
      '1 checkpoint-request',
      '2 checkpoint-reply',
      '3 vmstate-send',
      '4 vmstate-size',
      '5 vmstate-received',
      '6 vmstate-loaded',
    ]);
    expect(encodeWord(upstreamDialect, SyncPoint.LOADED).toString('hex')).toBe('00000006');
    expect(encodeWord(upstreamDialect, SyncPoint.SIZE, 0x1234n).toString('hex')).toBe(
      '000000040000000000001234',
    );
  });

  it('refuses to say what it cannot', () => {
    expect(() => encodeWord(upstreamDialect, SyncPoint.GUEST_SHUTDOWN)).toThrow(/cannot say/);
    expect(() => encodeWord(upstreamDialect, SyncPoint.SIZE)).toThrow(/cannot say/);
    expect(() => encodeWord(upstreamDialect, SyncPoint.READY, 1n)).toThrow(/cannot say/);
  });
});

describe('a whole conversation, whatever the chunking', () => {
  const rounds = fc.array(fc.uint8Array({ minLength: 1, maxLength: 120 }), { minLength: 1, maxLength: 4 });
  const messages = fc.array(
    fc.record({ type: fc.integer({ min: 1, max: 7 }), payload: fc.uint8Array({ maxLength: 60 }) }),
    { maxLength: 4 },
  );

  it('finds every word and passes every other byte', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 90 }),
        messages,
        rounds,
        cuts,
        (initial, before, states, chunking) => {
          const channel = new ChannelState(upstreamDialect);
          const primary = new PrimaryWords(channel);
          const secondary = new SecondaryWords(channel);
          const items: ProtocolItem[] = [];
          const say = (parser: PrimaryWords | SecondaryWords, bytes: Buffer): void => {
            for (const chunk of chunked(bytes, chunking)) {
              parser.push(chunk);
              takeAll(channel, parser, items);
            }
          };
          const expected: string[] = [];
          const opaque = (bytes: Uint8Array): void => {
            if (bytes.length > 0) expected.push(Buffer.from(bytes).toString('hex'));
          };
          const path = before.map(({ type, payload }) => returnPath(type, Buffer.from(payload)));
          say(primary, Buffer.from(initial));
          say(secondary, Buffer.concat([...path, be32(0)]));
          opaque(Buffer.concat([initial, ...path]));
          expected.push('checkpoint-ready');
          for (const state of states) {
            say(primary, be32(1));
            say(secondary, be32(2));
            say(primary, Buffer.concat([be32(3), state]));
            say(secondary, Buffer.concat([be32(5), be32(6)]));
            expected.push('checkpoint-request', 'checkpoint-reply', 'vmstate-send');
            opaque(state);
            expected.push('vmstate-received', 'vmstate-loaded');
          }
          const got = items.map((item) =>
            item.kind === 'word' ? item.word : 'bytes' in item ? item.bytes.toString('hex') : '!',
          );
          expect(got).toEqual(expected);
          expect(primary.pendingBytes + secondary.pendingBytes).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('hostile bytes', () => {
  it('are a violation or wait for more, never a throw, and are never held beyond one message', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2000 }),
        cuts,
        fc.nat(6),
        fc.boolean(),
        (bytes, chunking, steps, fromPrimary) => {
          const channel = new ChannelState(upstreamDialect);
          const path = [
            SyncPoint.READY,
            SyncPoint.REQUEST,
            SyncPoint.REPLY,
            SyncPoint.SEND,
            SyncPoint.RECEIVED,
            SyncPoint.LOADED,
          ];
          for (const word of path.slice(0, steps)) channel.advance(word);
          const parser = fromPrimary ? new PrimaryWords(channel) : new SecondaryWords(channel);
          const items: ProtocolItem[] = [];
          for (const chunk of chunked(Buffer.from(bytes), chunking)) {
            if (items.at(-1)?.kind === 'violation') return;
            parser.push(chunk);
            takeAll(channel, parser, items);
            if (items.at(-1)?.kind !== 'violation') expect(parser.pendingBytes).toBeLessThan(4 + 512);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('names what it got, what it expected and the state', () => {
    const channel = new ChannelState(upstreamDialect);
    channel.advance(SyncPoint.READY);
    const parser = new PrimaryWords(channel);
    parser.push(be32(0xdeadbeef));
    const item = parser.next()!;
    expect(item).toEqual({
      kind: 'violation',
      error: 'COLO_ERR_PROTOCOL_WORD',
      direction: 'primary-to-secondary',
      got: '0xdeadbeef',
      expected: ['checkpoint-request'],
      state: 'running',
    });
    expect(violationError(item as Extract<ProtocolItem, { kind: 'violation' }>).code).toBe(
      'COLO_ERR_PROTOCOL_WORD',
    );
    parser.push(be32(1));
    expect(parser.next(), 'a violation is final').toBe(item);
  });

  it('knows a word of the other side as out of order', () => {
    const channel = new ChannelState(upstreamDialect);
    channel.advance(SyncPoint.READY);
    const parser = new SecondaryWords(channel);
    parser.push(be32(1));
    expect(parser.next()).toMatchObject({ kind: 'violation', got: 'checkpoint-request', expected: [] });
  });

  it('bounds return-path messages', () => {
    for (const bytes of [returnPath(32, Buffer.alloc(0)), Buffer.from('00020201', 'hex')]) {
      const parser = new SecondaryWords(new ChannelState(upstreamDialect));
      parser.push(bytes);
      expect(parser.next()?.kind).toBe('violation');
    }
  });

  it('lets no word through before the word it answers was forwarded', () => {
    const channel = new ChannelState(upstreamDialect);
    channel.advance(SyncPoint.READY);
    channel.advance(SyncPoint.REQUEST);
    const parser = new PrimaryWords(channel);
    parser.push(be32(3));
    expect(parser.next()).toMatchObject({ kind: 'violation', got: 'vmstate-send', state: 'requested' });
  });
});
