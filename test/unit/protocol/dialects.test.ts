/** What each dialect looks like on the wire, and how `auto` finds out which one it is. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { carriesValue, type Dialect, type DialectName, encodeWord } from '../../../src/protocol/dialect.js';
import { DIALECTS, type DialectChoice, dialectChoice } from '../../../src/protocol/dialects.js';
import { directionOf } from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import {
  ChannelState,
  PrimaryWords,
  type ProtocolItem,
  SecondaryWords,
} from '../../../src/protocol/word-parser.js';

/** From the branches themselves: word, bytes (value 0x123456789abcdef0 where one is carried). */
const WIRE: Record<DialectName, Array<[SyncPoint, string]>> = {
  upstream: [
    ['checkpoint-ready', '00000000'],
    ['checkpoint-request', '00000001'],
    ['checkpoint-reply', '00000002'],
    ['vmstate-send', '00000003'],
    ['vmstate-size', '00000004123456789abcdef0'],
    ['vmstate-received', '00000005'],
    ['vmstate-loaded', '00000006'],
  ],
  v8: [
    ['checkpoint-ready', '0000000000000046'],
    ['checkpoint-request', '0000000000000047'],
    ['checkpoint-reply', '0000000000000048'],
    ['vmstate-send', '0000000000000049123456789abcdef0'],
    ['vmstate-received', '000000000000004a'],
    ['vmstate-loaded', '000000000000004b'],
    ['guest-shutdown', '000000000000004c'],
  ],
  v9: [
    ['checkpoint-ready', '000000010000000000000000'],
    ['checkpoint-request', '000000020000000000000000'],
    ['checkpoint-reply', '000000030000000000000000'],
    ['vmstate-send', '000000040000000000000000'],
    ['vmstate-size', '00000005123456789abcdef0'],
    ['vmstate-received', '000000060000000000000000'],
    ['vmstate-loaded', '000000070000000000000000'],
    ['guest-shutdown', '000000080000000000000000'],
  ],
  v15: [
    ['checkpoint-ready', '00000000'],
    ['checkpoint-request', '00000001'],
    ['checkpoint-reply', '00000002'],
    ['vmstate-send', '00000003'],
    ['vmstate-size', '00000004123456789abcdef0'],
    ['vmstate-received', '00000005'],
    ['vmstate-loaded', '00000006'],
    ['guest-shutdown', '00000007'],
  ],
};
const VALUE = 0x123456789abcdef0n;

function say(dialect: Dialect, word: SyncPoint): Buffer {
  return encodeWord(dialect, word, ...(carriesValue(dialect, word) ? [VALUE] : []));
}

/** Feeds both parsers in chunks of the given sizes; what came out, in order. Opaque bytes as hexadecimal. */
class Wire {
  readonly channel: ChannelState;
  readonly decided: string[] = [];
  readonly items: string[] = [];
  readonly #parsers;

  constructor(choice: DialectChoice) {
    this.channel = new ChannelState(choice);
    this.channel.onDecided = (dialect) => this.decided.push(dialect.name);
    this.#parsers = {
      'primary-to-secondary': new PrimaryWords(this.channel),
      'secondary-to-primary': new SecondaryWords(this.channel),
    };
  }

  feed(direction: keyof typeof this.parsers, bytes: Buffer, chunkBytes = bytes.length): void {
    const parser = this.parsers[direction];
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      parser.push(bytes.subarray(at, at + chunkBytes));
      for (let item = parser.next(); item !== undefined; item = parser.next()) {
        this.items.push(textOf(item));
        if (item.kind === 'violation') return;
        if (item.kind === 'word') this.channel.advance(item.word);
      }
    }
  }

  get parsers() {
    return this.#parsers;
  }
}

function textOf(item: ProtocolItem): string {
  if (item.kind === 'word') return item.value === undefined ? item.word : `${item.word} ${item.value}`;
  return item.kind === 'opaque' ? item.bytes.toString('hex') : `violation ${item.got}`;
}

describe.each(Object.keys(WIRE) as DialectName[])('%s', (name) => {
  const dialect = DIALECTS[name];

  it('has the bytes of its branch', () => {
    const got = (Object.keys(dialect.codes) as SyncPoint[]).map((word) => [
      word,
      say(dialect, word).toString('hex'),
    ]);
    expect(got).toEqual(WIRE[name]);
  });

  it('runs whole checkpoints through a relay, cut anywhere', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.uint8Array({ maxLength: 60 }), (cut, state) => {
        const wire = new Wire(dialect);
        wire.feed('primary-to-secondary', Buffer.from('QEVM'), cut);
        const round = ['REQUEST', 'REPLY', 'SEND', 'RECEIVED', 'LOADED'] as const;
        for (const key of ['READY', ...round, ...round] as const) {
          const word = SyncPoint[key];
          wire.feed(directionOf(word), say(dialect, word), cut);
          if (key === 'SEND') wire.feed('primary-to-secondary', Buffer.from(state), cut);
        }
        const words = wire.items
          .filter((item) => !/^[0-9a-f]+$/.test(item))
          .map((item) => item.split(' ')[0]);
        const expected = round.map((key) => SyncPoint[key] as string);
        expect(words).toEqual(['checkpoint-ready', ...expected, ...expected]);
        const { parsers } = wire;
        expect(
          parsers['primary-to-secondary'].pendingBytes + parsers['secondary-to-primary'].pendingBytes,
        ).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it('takes no other dialect for its own', () => {
    for (const other of Object.values(DIALECTS)) {
      if (other === dialect) continue;
      const wire = new Wire(dialect);
      wire.feed('secondary-to-primary', say(other, SyncPoint.READY));
      wire.feed('primary-to-secondary', say(other, SyncPoint.REQUEST));
      const alike = new Set(['upstream', 'v15']);
      if (alike.has(name) && alike.has(other.name)) expect(wire.items.at(-1)).toBe('checkpoint-request');
      // v8 waits for the rest of a longer word: the limit of the initial copy ends that
      else if (name === 'v8') expect(wire.items).not.toContain('checkpoint-ready');
      else expect(wire.items.some((item) => item.startsWith('violation'))).toBe(true);
    }
  });

  it('ends with the shutdown of the guest, where it has a word for that', () => {
    const wire = new Wire(dialect);
    wire.feed('secondary-to-primary', say(dialect, SyncPoint.READY));
    if (dialect.codes[SyncPoint.GUEST_SHUTDOWN] === undefined) return;
    wire.feed('primary-to-secondary', say(dialect, SyncPoint.GUEST_SHUTDOWN));
    expect(wire.items).toEqual(['checkpoint-ready', 'guest-shutdown']);
    wire.feed('primary-to-secondary', say(dialect, SyncPoint.REQUEST));
    expect(wire.items.at(-1)).toMatch(/^violation/);
  });
});

describe('auto', () => {
  it.each([1, 2, 3, 4, 5, 7, 8])('finds v8 in chunks of %i, and waits for nothing', (cut) => {
    const wire = new Wire('auto');
    wire.feed('secondary-to-primary', say(DIALECTS.v8, SyncPoint.READY), cut);
    expect(wire.items).toEqual(['checkpoint-ready', '00000046']);
    expect(wire.decided).toEqual(['v8']);
    wire.feed('primary-to-secondary', say(DIALECTS.v8, SyncPoint.REQUEST), cut);
    expect(wire.items.at(-1)).toBe('checkpoint-request');
  });

  it('passes READY on before it knows, so that an upstream primary can go on', () => {
    const wire = new Wire('auto');
    wire.feed('secondary-to-primary', Buffer.alloc(4));
    expect(wire.items).toEqual(['checkpoint-ready']);
    expect(wire.decided, 'nothing decided').toEqual([]);
    wire.feed('primary-to-secondary', say(DIALECTS.upstream, SyncPoint.REQUEST));
    expect(wire.decided).toEqual(['upstream']);
    wire.feed('secondary-to-primary', say(DIALECTS.upstream, SyncPoint.REPLY));
    expect(wire.items.at(-1)).toBe('checkpoint-reply');
  });

  it('knows return-path messages before READY', () => {
    const wire = new Wire('auto');
    wire.feed('secondary-to-primary', Buffer.from('000200040000000100000000', 'hex'), 5);
    expect(wire.items).toEqual(['0002000400000001', 'checkpoint-ready']);
  });

  it('refuses what is neither', () => {
    for (const rest of ['00000047', '00000006', 'ffffffff']) {
      const wire = new Wire('auto');
      wire.feed('secondary-to-primary', Buffer.from(`00000000${rest}`, 'hex'));
      expect(wire.items.at(-1), rest).toMatch(/^violation/);
    }
    const early = new Wire('auto');
    early.feed('secondary-to-primary', say(DIALECTS.v9, SyncPoint.READY));
    expect(early.items).toEqual(['violation checkpoint-request']);
  });

  it('is what the configuration may say', () => {
    expect(dialectChoice('auto')).toBe('auto');
    expect(dialectChoice('v9')).toBe(DIALECTS.v9);
  });
});
