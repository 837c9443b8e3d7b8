import { describe, expect, it } from 'vitest';
import { Detector, type Sign } from '../../../src/failover/detector.js';
import { addressProbe, guestProbe, Probe } from '../../../src/failover/probe.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World } from '../../../src/simulation/world.js';
import { ManualClock } from '../../../src/system/manual-clock.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const never = new AbortController().signal;

describe('a probe', () => {
  it('fails when it was told no twice in a row, or not told in time; one yes is enough', async () => {
    const clock = new ManualClock();
    const answers: (boolean | 'silence')[] = [false, true, false, 'silence', true];
    const probe = new Probe(
      {
        sign: 'guest-probe-failed',
        everyMs: 100,
        msMax: 50,
        look: async () => {
          const answer = answers.shift()!;
          return answer === 'silence' ? new Promise(() => {}) : answer;
        },
      },
      clock,
    );
    probe.start();
    const seen: boolean[] = [];
    for (let round = 0; round < 5; round++) {
      clock.advance(round === 0 ? 100 : 50);
      await turn();
      clock.advance(50);
      await turn();
      seen.push(probe.isFailing);
    }
    expect(seen).toEqual([false, false, false, true, false]);
    probe.stop();
  });

  it('asks a program, and echoes an address', async () => {
    expect(await guestProbe('/bin/true', 'lab')(never)).toBe(true);
    expect(await guestProbe('/bin/false', 'lab')(never)).toBe(false);
    expect(await guestProbe('/no/such/program', 'lab')(never)).toBe(false);
    expect(await addressProbe('127.0.0.1')(never)).toBe(true);
    expect(await addressProbe('::1')(never)).toBe(true);
    expect(await addressProbe('255.255.255.255')(never)).toBe(false);
  });
});

describe('what probes count for', () => {
  const LIMITS = { heartbeatEveryMs: 50, heartbeatMsMax: 350, heartbeatAloneMsMax: 10_000 };

  function lostAt(failing: readonly Sign[], answers: boolean): number | null {
    const detector = new Detector(LIMITS);
    for (let ms = 0; ms <= 3000; ms += 50) {
      detector.look(ms, 0, true, false, failing);
      if (detector.mayAsk() || answers) detector.answered(answers);
      if (detector.isLost()) return ms;
    }
    return null;
  }

  it('all of them together are no loss while the monitor answers', () => {
    expect(lostAt(['guest-probe-failed', 'address-silent'], true)).toBeNull();
  });

  it('one of them and a silent monitor are', () => {
    expect(lostAt(['address-silent'], false)).toBe(350);
    expect(lostAt([], false)).toBeNull();
  });

  it('a pair with a failing probe goes on, and says so', async () => {
    const look = async (): Promise<boolean> => false;
    const world = new World({
      seed: 71,
      pair: { probes: [{ sign: 'guest-probe-failed', everyMs: 100, msMax: 50, look }] },
    });
    await world.open();
    await world.openSecondary();
    expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
    const counter = world.client.count(GUEST_HOST.ipv4, 100, 5);
    expect(await world.run(20_000, () => world.pair.status().signs.includes('guest-probe-failed'))).toBe(
      true,
    );
    await world.run(20_000, () => counter.report !== null);
    expect(counter.report!.problem).toBeNull();
    expect(world.pair.status()).toMatchObject({ carrier: 'primary', failovers: { 'primary-lost': 0 } });
    await world.close();
  });
});
