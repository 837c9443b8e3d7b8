/** Modes, the adaptive policy at work, waiting for a checkpoint, and the shutdown of the guest. */
import { beforeEach, describe, expect, it } from 'vitest';
import { directionOf } from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import { CoordinatorRig } from './coordinator-rig.js';

const { REQUEST, REPLY, SEND, RECEIVED, LOADED } = SyncPoint;

let rig: CoordinatorRig;

beforeEach(() => {
  rig = new CoordinatorRig();
});

describe('modes', () => {
  it('periodic: a checkpoint an interval after each LOADED, none for divergences, the gate told at each commit', async () => {
    rig = new CoordinatorRig({ mode: 'periodic', periodicMs: 40 });
    await rig.begin();
    expect(rig.gate.modes).toEqual(['periodic']);
    const startedAtMs = rig.clock.now();
    rig.triggers.length = 0;
    for (let round = 0; round < 5; round++) {
      rig.coordinator.request('divergence');
      rig.coordinator.request('one-sided');
      await rig.run(39);
      expect(rig.triggers).toHaveLength(round);
      await rig.run(1);
      expect(rig.triggers).toHaveLength(round + 1);
      await rig.checkpointUpTo(LOADED);
      await rig.run();
    }
    expect(rig.clock.now() - startedAtMs).toBe(200);
    expect(rig.coordinator.stats.checkpoints).toMatchObject({ period: 5, divergence: 0 });
  });

  it('change while running: one checkpoint at once brings them into force', async () => {
    await rig.protect();
    expect(rig.coordinator.choose({ mode: 'periodic', periodMs: 250 })).toEqual({
      mode: 'periodic',
      periodMs: 250,
    });
    expect(rig.coordinator.plan.mode, 'the epoch that runs is still compared').toBe('compare');
    await rig.run(1);
    await rig.checkpointUpTo(LOADED);
    await rig.run();
    expect(rig.log).toContain('MODE periodic 250');
    expect(rig.gate.modes.at(-1)).toBe('periodic');
    rig.triggers.length = 0;
    await rig.run(250);
    expect(rig.triggers).toHaveLength(1);
    await rig.checkpointUpTo(LOADED);
    await rig.run();
    rig.coordinator.choose({ mode: 'compare' });
    await rig.run(100);
    await rig.checkpointUpTo(LOADED);
    await rig.run();
    expect(rig.log.at(-1)).toBe('DONE');
    expect(rig.log).toContain('MODE compare 0');
    rig.triggers.length = 0;
    await rig.run(60_000);
    expect(rig.triggers, 'no period any more').toEqual([]);
  });

  it('a longest interval while comparing can be set and taken away', async () => {
    await rig.protect();
    rig.coordinator.choose({ periodMs: 1000 });
    await rig.run(1);
    await rig.checkpointUpTo(LOADED);
    await rig.run(1000);
    expect(rig.triggers).toHaveLength(2);
    await rig.checkpointUpTo(LOADED);
    rig.coordinator.choose({ periodMs: 0 });
    await rig.run(100);
    await rig.checkpointUpTo(LOADED);
    await rig.run(60_000);
    expect(rig.triggers).toHaveLength(3);
  });

  it.each([
    { mode: 'periodic', periodMs: 0 },
    { mode: 'periodic', periodMs: 1.5 },
    { periodMs: -1 },
    { periodMs: Number.NaN },
    { periodMs: 1e12 },
  ] as const)('refuses %o', (change) => {
    expect(() => rig.coordinator.choose(change)).toThrow(expect.objectContaining({ code: 'COLO_ERR_USAGE' }));
    expect(rig.coordinator.plan).toEqual({ mode: 'compare', periodMs: 0 });
  });

  it('a pair that never agrees becomes periodic by itself and tries again; output flows all the time', async () => {
    await rig.protect();
    let loadedAtMs = rig.clock.now();
    const gaps: number[] = [];
    for (let round = 0; round < 200; round++) {
      if (rig.coordinator.plan.mode === 'compare') rig.coordinator.request('divergence');
      const before = rig.triggers.length;
      while (rig.triggers.length === before) await rig.run(1);
      await rig.see(REQUEST);
      await rig.see(REPLY);
      await rig.see(SEND);
      await rig.run(30); // the pause
      await rig.see(RECEIVED);
      await rig.see(LOADED);
      await rig.run();
      gaps.push(rig.clock.now() - loadedAtMs);
      loadedAtMs = rig.clock.now();
    }
    const modes = rig.log.filter((line) => line.startsWith('MODE'));
    expect(modes.slice(0, 2)).toEqual(['MODE periodic 42', 'MODE compare 0']);
    expect(modes.length).toBeGreaterThan(2);
    expect(Math.max(...gaps), 'never longer than distance and pause').toBeLessThanOrEqual(132);
    expect(rig.coordinator.isAdapted || rig.coordinator.plan.mode === 'compare').toBe(true);
  });

  it('what the operator chooses is not changed by itself', async () => {
    rig = new CoordinatorRig({ adaptive: false });
    await rig.protect();
    for (let round = 0; round < 40; round++) {
      rig.coordinator.request('divergence');
      await rig.run(100);
      await rig.checkpointUpTo(LOADED);
      await rig.run();
    }
    expect(rig.log.filter((line) => line.startsWith('MODE'))).toEqual([]);
  });
});

describe('taking one and waiting for it', () => {
  it('resolves with its record; several that wait share one', async () => {
    await rig.protect();
    const both = [rig.coordinator.take(), rig.coordinator.take()];
    await rig.run(1);
    await rig.checkpointUpTo(LOADED);
    await rig.run();
    const [one, other] = await Promise.all(both);
    expect(one).toBe(other);
    expect(one).toMatchObject({ cause: 'operator', epoch: 2 });
  });

  it('waits for the next when the one in the making is past the point that counts', async () => {
    await rig.protect();
    rig.coordinator.request('divergence');
    await rig.run(1);
    await rig.checkpointUpTo(SEND);
    const taken = rig.coordinator.take();
    await rig.see(RECEIVED);
    await rig.see(LOADED);
    await rig.run(100);
    await rig.checkpointUpTo(LOADED);
    expect(await taken).toMatchObject({ epoch: 3 });
  });

  it('is refused without a secondary, and ends with the pair', async () => {
    await expect(rig.coordinator.take()).rejects.toMatchObject({ code: 'COLO_ERR_CHECKPOINT' });
    await rig.protect();
    const taken = rig.coordinator.take();
    await rig.run(1);
    await rig.checkpointUpTo(REPLY);
    rig.coordinator.channelClosed();
    await expect(taken).rejects.toMatchObject({ code: 'COLO_ERR_CHECKPOINT' });
  });
});

describe('the shutdown of the guest, in dialects that have a word for it', () => {
  it('is told, also while a checkpoint is being asked for', async () => {
    await rig.protect();
    await rig.see(SyncPoint.GUEST_SHUTDOWN);
    expect(rig.log).toEqual(['GUEST SHUT DOWN']);
    rig.coordinator.request('operator');
    await rig.run(1);
    await rig.see(SyncPoint.GUEST_SHUTDOWN);
    expect(rig.log.at(-1)).toBe('GUEST SHUT DOWN');
    rig.coordinator.channelClosed();
    await rig.coordinator.abandon();
    expect(rig.gate.calls.at(-1)).toBe('openGate');
  });

  it('has no place in a checkpoint', async () => {
    await rig.protect();
    await rig.checkpointUpTo(REQUEST);
    await expect(
      rig.coordinator.wordSeen(directionOf(SyncPoint.GUEST_SHUTDOWN), SyncPoint.GUEST_SHUTDOWN),
    ).rejects.toMatchObject({ code: 'COLO_ERR_PROTOCOL_WORD' });
  });
});
