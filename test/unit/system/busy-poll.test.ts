import { describe, expect, it } from 'vitest';
import { BusyPoll } from '../../../src/system/busy-poll.js';

const turnOfLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const immediates = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === 'Immediate').length;

describe('busy polling', () => {
  it('keeps the loop turning for as long as frames come, and that much longer', async () => {
    let nowMs = 0;
    const poll = new BusyPoll(50, () => nowMs);
    expect(immediates()).toBe(0);
    poll.stir();
    for (let turn = 0; turn < 20; turn += 1) {
      nowMs += 0.04;
      poll.stir();
      await turnOfLoop();
      expect(immediates()).toBe(1);
    }
    nowMs += 0.06;
    await turnOfLoop();
    await turnOfLoop();
    expect(immediates()).toBe(0);
  });

  it('begins anew', async () => {
    let nowMs = 0;
    const poll = new BusyPoll(50, () => nowMs);
    poll.stir();
    nowMs = 1;
    await turnOfLoop();
    await turnOfLoop();
    expect(immediates()).toBe(0);
    poll.stir();
    expect(immediates()).toBe(1);
    nowMs = 2;
  });
});
