import { describe, expect, it } from 'vitest';
import { DIALECTS } from '../../../src/protocol/dialects.js';
import {
  directionOf,
  expectedWords,
  nextState,
  PROTOCOL_STATES,
  type ProtocolState,
  senderOf,
  stateTable,
} from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';

type Legal = Array<[ProtocolState, SyncPoint, ProtocolState]>;

/** Written down independently of the tables: state, a word that may come, where it leads. */
const COMMON: Legal = [
  ['starting', 'checkpoint-ready', 'running'],
  ['running', 'checkpoint-request', 'requested'],
  ['requested', 'checkpoint-reply', 'replied'],
  ['replied', 'vmstate-send', 'sending'],
  ['received', 'vmstate-loaded', 'running'],
];
const SIZED: Legal = [
  ['sending', 'vmstate-size', 'sized'],
  ['sized', 'vmstate-received', 'received'],
];
const OPAQUE: Legal = [['sending', 'vmstate-received', 'received']];
const SHUTDOWN: Legal = [['running', 'guest-shutdown', 'ended']];

const CASES = [
  ['upstream', 'endpoint', [...COMMON, ...SIZED]],
  ['upstream', 'relay', [...COMMON, ...OPAQUE]],
  ['v8', 'endpoint', [...COMMON, ...OPAQUE, ...SHUTDOWN]],
  ['v8', 'relay', [...COMMON, ...OPAQUE, ...SHUTDOWN]],
  ['v9', 'endpoint', [...COMMON, ...SIZED, ...SHUTDOWN]],
  ['v9', 'relay', [...COMMON, ...OPAQUE, ...SHUTDOWN]],
  ['v15', 'endpoint', [...COMMON, ...SIZED, ...SHUTDOWN]],
  ['v15', 'relay', [...COMMON, ...OPAQUE, ...SHUTDOWN]],
] as const;

describe.each(CASES)('the table of %s for the %s', (name, observer, legal) => {
  const table = stateTable(DIALECTS[name], observer);
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
