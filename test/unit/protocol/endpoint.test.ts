import { describe, expect, it } from 'vitest';
import { carriesValue, type Dialect, encodeWord } from '../../../src/protocol/dialect.js';
import { DIALECTS } from '../../../src/protocol/dialects.js';
import { Endpoint } from '../../../src/protocol/endpoint.js';
import {
  directionOf,
  PROTOCOL_STATES,
  type ProtocolState,
  type Role,
  senderOf,
  stateTable,
} from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';

const ROUND: SyncPoint[] = [
  SyncPoint.READY,
  SyncPoint.REQUEST,
  SyncPoint.REPLY,
  SyncPoint.SEND,
  SyncPoint.SIZE,
  SyncPoint.RECEIVED,
  SyncPoint.LOADED,
];
const PEER: Record<Role, Role> = { primary: 'secondary', secondary: 'primary' };

function value(dialect: Dialect, word: SyncPoint): [bigint] | [] {
  return carriesValue(dialect, word) ? [7n] : [];
}

/** Both ends, led to `state` by speaking to each other; undefined when the dialect has no such state. */
function ends(dialect: Dialect, state: ProtocolState): Record<Role, Endpoint> | undefined {
  const both = { primary: new Endpoint('primary', dialect), secondary: new Endpoint('secondary', dialect) };
  const say = (word: SyncPoint): void => {
    const from = senderOf(word);
    both[PEER[from]].push(both[from].encode(word, ...value(dialect, word)));
    expect(both[PEER[from]].nextWord()).toMatchObject({ kind: 'word', word });
  };
  const words = ROUND.filter((word) => dialect.codes[word] !== undefined);
  for (const word of words) {
    if (both.primary.state === state) return both;
    say(word);
  }
  if (state !== 'ended' || dialect.codes[SyncPoint.GUEST_SHUTDOWN] === undefined) return undefined;
  say(SyncPoint.GUEST_SHUTDOWN);
  expect([both.primary.state, both.secondary.state]).toEqual([state, state]);
  return both;
}

describe.each(Object.values(DIALECTS))('both ends of $name', (dialect) => {
  const table = stateTable(dialect, 'endpoint');

  describe.each(PROTOCOL_STATES)('in state %s', (state) => {
    it.each(Object.values(SyncPoint))('%s', (word) => {
      const legal = table[state][word];
      const sender = senderOf(word);
      for (const role of ['primary', 'secondary'] as const) {
        // sending
        const sending = ends(dialect, state);
        if (sending === undefined) return; // no such state in this dialect
        const encode = (): Buffer => sending[role].encode(word, ...value(dialect, word));
        if (role === sender && legal !== undefined) {
          expect(encode()).toEqual(encodeWord(dialect, word, ...value(dialect, word)));
          expect(sending[role].state).toBe(legal);
        } else {
          expect(encode).toThrow();
          expect(sending[role].state, 'nothing has changed').toBe(state);
        }
        // receiving
        if (dialect.codes[word] === undefined) continue;
        const receiving = ends(dialect, state)![role];
        receiving.push(encodeWord(dialect, word, ...value(dialect, word)));
        const got = receiving.nextWord();
        if (role !== sender && legal !== undefined) {
          expect(got).toMatchObject({ kind: 'word', word });
          expect(receiving.state).toBe(legal);
        } else {
          expect(got).toMatchObject({ kind: 'violation', got: word, state });
          expect(receiving.state).toBe(state);
        }
      }
    });

    it('a code that nobody knows is a violation', () => {
      for (const role of ['primary', 'secondary'] as const) {
        const endpoint = ends(dialect, state)?.[role];
        endpoint?.push(Buffer.from('fffffffffffffffffffffffffffffffe', 'hex'));
        if (endpoint !== undefined) expect(endpoint.nextWord()).toMatchObject({ kind: 'violation', state });
      }
    });
  });

  it('passes words whole, however they are cut', () => {
    const primary = new Endpoint('primary', dialect);
    for (const byte of encodeWord(dialect, SyncPoint.READY)) {
      expect(primary.nextWord()).toBeUndefined();
      primary.push(Buffer.from([byte]));
    }
    expect(primary.nextWord()).toMatchObject({ kind: 'word', word: SyncPoint.READY });
    expect(primary.pendingBytes).toBe(0);
  });

  it('has a code of its own for every word, each going one way', () => {
    const codes = Object.values(dialect.codes);
    expect(new Set(codes).size).toBe(codes.length);
    for (const word of Object.keys(dialect.codes) as SyncPoint[]) {
      expect(directionOf(word) === 'primary-to-secondary').toBe(senderOf(word) === 'primary');
    }
  });
});

describe('state bytes between words', () => {
  it('are taken exactly, and words wait behind them', () => {
    const { primary, secondary } = ends(DIALECTS.upstream, 'sending')!;
    secondary.push(
      Buffer.concat([Buffer.from('ram'), primary.encode(SyncPoint.SIZE, 5n), Buffer.from('devi')]),
    );
    expect(secondary.takeBytes(3)?.toString()).toBe('ram');
    expect(secondary.nextWord()).toEqual({ kind: 'word', word: SyncPoint.SIZE, value: 5n });
    expect(secondary.takeBytes(5)).toBeUndefined();
    secondary.push(Buffer.from('c'));
    expect(secondary.takeBytes(5)?.toString()).toBe('devic');
    expect(secondary.pendingBytes).toBe(0);
  });
});
