import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  decodeState,
  encodeState,
  firstState,
  type KeptState,
  StateFile,
} from '../../../src/failover/state-file.js';

const STATE: KeptState = {
  ...firstState(),
  generation: 7,
  carrier: 'secondary',
  protecting: true,
  addresses: [{ nic: 0, mac: '525400771000', ip: '0a4d000a', vlan: 0 }],
  translations: [
    { nic: 0, key: [6, -5, 4, 1, 2, 3, 4, 5, 6, 7, 8], seqDelta: -2147483648, tsDelta: 12, tsShown: null },
    { nic: 1, key: [6, 80, 4, 1, 0, 0, 0, 5, 0, 0, 0], seqDelta: 3, tsDelta: 0, tsShown: -1 },
  ],
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'colo-state-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('the state file', () => {
  it('gives back what was saved, and nothing when there is none', () => {
    const file = new StateFile(join(folder, 'state.json'));
    expect(file.load()).toBeNull();
    file.save(STATE);
    file.save({ ...STATE, generation: 8 });
    expect(file.load()).toEqual({ ...STATE, generation: 8 });
  });

  it('refuses a file that is cut short, changed, older or no state at all, and says what to do', () => {
    const file = new StateFile(join(folder, 'state.json'));
    file.save(STATE);
    const whole = readFileSync(file.path, 'utf8');
    const damaged = [
      '',
      'x',
      whole.slice(0, -3),
      whole.replace('secondary', 'primaryyy'),
      whole.replace('"version":1', '"version":0'),
      `${whole}\n`,
    ];
    for (const text of damaged) {
      writeFileSync(file.path, text);
      expect(() => file.load(), text.slice(0, 80)).toThrow(
        expect.objectContaining({
          code: 'COLO_ERR_STATE',
          message: expect.stringContaining('remove the file'),
        }),
      );
    }
    truncateSync(file.path, 65 * 1024 * 1024);
    expect(() => file.load()).toThrow(/more than/);
  });

  it('cannot be written where there is no folder: told, with the path', () => {
    const file = new StateFile(join(folder, 'absent', 'state.json'));
    expect(() => file.save(STATE)).toThrow(expect.objectContaining({ code: 'COLO_ERR_STATE' }));
  });

  it('one changed byte anywhere never gives another state', () => {
    const text = encodeState(STATE);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
        const changed = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
        try {
          expect(decodeState(changed)).toEqual(STATE);
        } catch (error) {
          if ((error as Error).name === 'AssertionError') throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });
});
