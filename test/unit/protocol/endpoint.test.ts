import { describe, expect, it } from 'vitest';
import { upstreamDialect } from '../../../src/protocol/dialect-upstream.js';
import { Endpoint } from '../../../src/protocol/endpoint.js';
import {
  directionOf,
  ENDPOINT_TABLE,
  PROTOCOL_STATES,
  type ProtocolState,
} from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';

const WORDS = Object.keys(upstreamDialect.codes) as SyncPoint[];
const ROUND: SyncPoint[] = [
  SyncPoint.READY,
  SyncPoint.REQUEST,
  SyncPoint.REPLY,
  SyncPoint.SEND,
  SyncPoint.SIZE,
  SyncPoint.RECEIVED,
  SyncPoint.LOADED,
];
const value = (word: SyncPoint): [bigint] | [] => (word === SyncPoint.SIZE ? [7n] : []);

/** Both ends, led to `state` by speaking to each other. */
function ends(state: ProtocolState): { primary: Endpoint; secondary: Endpoint } {
  const primary = new Endpoint('primary', upstreamDialect);
  const secondary = new Endpoint('secondary', upstreamDialect);
  for (const word of ROUND) {
    if (primary.state === state) break;
    const [from, to] =
      directionOf(word) === 'primary-to-secondary' ? [primary, secondary] : [secondary, primary];
    to.push(from.encode(word, ...value(word)));
    expect(to.nextWord()).toMatchObject({ kind: 'word', word });
  }
  expect([primary.state, secondary.state]).toEqual([state, state]);
  return { primary, secondary };
}

describe.each(PROTOCOL_STATES)('both ends in state %s', (state) => {
  it.each(WORDS)('%s', (word) => {
    const legal = ENDPOINT_TABLE[state][word];
    const fromPrimary = directionOf(word) === 'primary-to-secondary';
    for (const role of ['primary', 'secondary'] as const) {
      const sender = ends(state)[role];
      const mine = fromPrimary === (role === 'primary');
      if (mine && legal !== undefined) {
        sender.encode(word, ...value(word));
        expect(sender.state).toBe(legal);
      } else expect(() => sender.encode(word, ...value(word))).toThrow();

      const receiver = ends(state)[role];
      const bytes = Buffer.alloc(word === SyncPoint.SIZE ? 12 : 4);
      bytes.writeUInt32BE(upstreamDialect.codes[word]!);
      receiver.push(bytes);
      const got = receiver.nextWord();
      if (!mine && legal !== undefined) {
        expect(got).toMatchObject({ kind: 'word', word });
        expect(receiver.state).toBe(legal);
      } else expect(got).toMatchObject({ kind: 'violation', got: word, state });
    }
  });
});

describe('state bytes between words', () => {
  it('are taken exactly, and words wait behind them', () => {
    const { primary, secondary } = ends('sending');
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
