/** Several interfaces, one epoch (T22). */
import { describe, expect, it } from 'vitest';
import { Nics } from '../../../src/pair/nics.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { buildUdp } from '../../../src/wire/build.js';
import { Rig } from '../dataplane/rig.js';

const udp = (from: string, payload: string): Buffer =>
  buildUdp({
    source: from,
    destination: '10.0.0.1',
    sourcePort: 53,
    destinationPort: 9,
    payload: Buffer.from(payload),
  });

async function two(): Promise<{ rigs: [Rig, Rig]; nics: Nics; clock: ManualClock }> {
  const rigs: [Rig, Rig] = [await new Rig().open(), await new Rig().open()];
  const clock = new ManualClock();
  const nics = new Nics(
    rigs.map(({ plane }) => plane),
    { clock, count: 1, everyMs: 1 },
  );
  return { rigs, nics, clock };
}

/** Everything sent so far has arrived. */
function settle(rigs: Rig[]): void {
  for (const { clock } of rigs) clock.advance(1);
}

describe('an epoch of two interfaces', () => {
  it('holds and releases on both, at the same commit', async () => {
    const { rigs, nics } = await two();
    await nics.commit('compare');
    for (const rig of rigs) rig.from('primary', udp('10.0.0.2', 'held'));
    settle(rigs);
    expect(rigs.map((rig) => rig.take('client').length)).toEqual([0, 0]);
    await nics.closeGate();
    expect(rigs.map(({ plane }) => plane.gateClosed)).toEqual([true, true]);
    await nics.secondaryStopped();
    await nics.primaryStopped();
    settle(rigs);
    expect(rigs.map((rig) => rig.take('client').length)).toEqual([0, 0]);
    const committed = nics.commit('compare');
    // before any other turn of the event loop
    expect(rigs.map(({ plane }) => plane.comparator.heldFrames)).toEqual([0, 0]);
    await committed;
    await nics.openGate();
    settle(rigs);
    expect(rigs.map((rig) => rig.take('client').length)).toEqual([1, 1]);
    expect(rigs.map(({ plane }) => plane.gateClosed)).toEqual([false, false]);
  });

  it('counts what neither VM has taken, on all', async () => {
    const { rigs, nics } = await two();
    await nics.commit('compare');
    rigs[0].setReading('primary', false);
    rigs[1].setReading('secondary', false);
    for (const rig of rigs) rig.from('client', udp('10.0.0.9', 'in'), udp('10.0.0.9', 'in'));
    settle(rigs);
    expect(await nics.untaken()).toEqual({ primary: 2, secondary: 2 });
  });

  it('commits on all even when one fails, and tells that one', async () => {
    const { rigs, nics } = await two();
    await nics.commit('compare');
    for (const rig of rigs) rig.from('primary', udp('10.0.0.2', 'held'));
    settle(rigs);
    const fails = Promise.reject(new Error('no interface'));
    fails.catch(() => undefined);
    rigs[0].plane.commit = () => fails;
    await expect(nics.commit('compare')).rejects.toThrow('no interface');
    expect(rigs[1].plane.comparator.heldFrames).toBe(0);
  });

  it('each survivor goes on, on all; each interface announces the addresses seen there', async () => {
    const { rigs, nics } = await two();
    await nics.commit('compare');
    for (const [index, rig] of rigs.entries()) rig.from('primary', udp(`10.0.${index}.2`, 'held'));
    settle(rigs);
    nics.continueOnPrimary();
    settle(rigs);
    expect(rigs.map((rig) => rig.take('client').length)).toEqual([1, 1]);
    nics.announce();
    settle(rigs);
    const announced = rigs.map((rig) => Buffer.concat(rig.take('client')).toString('hex'));
    expect(announced[0]).toContain('0a000002');
    expect(announced[0]).not.toContain('0a000102');
    expect(announced[1]).toContain('0a000102');
  });
});
