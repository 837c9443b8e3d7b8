import { describe, expect, it } from 'vitest';
import {
  directionOf,
  ENDPOINT_TABLE,
  expectedWords,
  nextState,
  PROTOCOL_STATES,
  type ProtocolState,
  RELAY_TABLE,
  senderOf,
} from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';

/** Written down independently of the tables: state, the one word that may come, where it leads. */
const ENDPOINT: Array<[ProtocolState, SyncPoint, ProtocolState]> = [
  ['starting', 'checkpoint-ready', 'running'],
  ['running', 'checkpoint-request', 'requested'],
  ['requested', 'checkpoint-reply', 'replied'],
  ['replied', 'vmstate-send', 'sending'],
  ['sending', 'vmstate-size', 'sized'],
  ['sized', 'vmstate-received', 'received'],
  ['received', 'vmstate-loaded', 'running'],
];
const RELAY: typeof ENDPOINT = [
  ...ENDPOINT.filter(([state]) => state !== 'sending' && state !== 'sized'),
  ['sending', 'vmstate-received', 'received'],
];

describe.each([
  ['endpoints', ENDPOINT_TABLE, ENDPOINT],
  ['relay', RELAY_TABLE, RELAY],
] as const)('the table of the %s', (_name, table, legal) => {
  for (const state of PROTOCOL_STATES) {
    for (const word of Object.values(SyncPoint)) {
      const expected = legal.find(([from, on]) => from === state && on === word)?.[2];
      it(`${state} x ${word} -> ${expected ?? 'violation'}`, () => {
        expect(nextState(table, state, word)).toBe(expected);
        expect(expectedWords(table, state, directionOf(word)).includes(word)).toBe(expected !== undefined);
      });
    }
  }

  it('goes round: from READY every state leads back to running', () => {
    let state: ProtocolState = 'starting';
    const seen: ProtocolState[] = [];
    for (let step = 0; step < 20; step++) {
      const [word] = legal.filter(([from]) => from === state).map(([, on]) => on);
      state = nextState(table, state, word!)!;
      seen.push(state);
    }
    expect(seen.filter((entry) => entry === 'running').length).toBeGreaterThan(2);
  });
});

describe('who sends what', () => {
  it.each([
    ['checkpoint-ready', 'secondary'],
    ['checkpoint-request', 'primary'],
    ['checkpoint-reply', 'secondary'],
    ['vmstate-send', 'primary'],
    ['vmstate-size', 'primary'],
    ['vmstate-received', 'secondary'],
    ['vmstate-loaded', 'secondary'],
    ['guest-shutdown', 'primary'],
  ] as const)('%s is sent by the %s', (word, role) => {
    expect(senderOf(word)).toBe(role);
  });
});
