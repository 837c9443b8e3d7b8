import { describe, expect, it } from 'vitest';
import { FrameQueue } from '../../../src/dataplane/frame-queue.js';
import { minimise } from '../../../src/simulation/trial/minimise.js';
import { FAULTS, makePlan, type Plan } from '../../../src/simulation/trial/plan.js';
import { runTrial } from '../../../src/simulation/trial/trial.js';

/** A small world: a counter and a divergent answer, whose checkpoints hold client frames at the gate. */
const SMALL: Plan = {
  seed: 5,
  world: { wire: { delayMs: 0.1 }, costs: { saveMs: 10, loadMs: 10 } },
  tight: false,
  tasks: [
    { name: 'count', ipVersion: 4, atMs: 0, size: 100, nic: 0 },
    { name: 'ping', ipVersion: 6, atMs: 3, size: 30, nic: 0 },
    { name: 'rand', ipVersion: 4, atMs: 20, size: 1, nic: 0 },
  ],
  faults: [{ name: 'checkpoint', when: { atMs: 60 }, durationMs: 1 }],
};

describe('a trial', () => {
  it('is the same run every time', async () => {
    const [one, again, other] = [
      await runTrial(makePlan(17)),
      await runTrial(makePlan(17)),
      await runTrial(makePlan(18)),
    ];
    expect(again.fingerprint).toBe(one.fingerprint);
    expect(again.timeline).toEqual(one.timeline);
    expect(again.steps).toBe(one.steps);
    expect(other.fingerprint).not.toBe(one.fingerprint);
  });

  it('a seed gives the same plan, with every fault in some of them', () => {
    const plans = Array.from({ length: 400 }, (_, seed) => makePlan(seed));
    expect(plans.map(({ seed }) => makePlan(seed))).toEqual(plans);
    const planned = new Set(plans.flatMap(({ faults }) => faults.map(({ name }) => name)));
    expect([...planned].sort()).toEqual([...FAULTS].sort());
  });

  it('a copy is the same world up to the step where its VM dies, and its survivor goes on', async () => {
    const original = await runTrial(SMALL);
    expect(original.violation).toBeNull();
    const [moment] = original.moments;
    for (const victim of ['carrier', 'other'] as const) {
      const copy = await runTrial({ ...SMALL, death: { ...moment!, victim } });
      expect(copy.violation).toBeNull();
      expect(copy.timeline.filter((line) => line.includes('of this copy of the world dies'))).toHaveLength(1);
      expect(copy.fingerprint).not.toBe(original.fingerprint);
    }
    const foreign = await runTrial({ ...SMALL, death: { ...moment!, fingerprint: 1, victim: 'other' } });
    expect(foreign.violation?.what).toBe('the copy is another world');
  });

  it('sees a gate that loses what it holds, and cuts the plan down to what it takes', async () => {
    const { drainTo } = FrameQueue.prototype;
    FrameQueue.prototype.drainTo = function (): number {
      const { frames } = this;
      this.clear();
      return frames;
    };
    try {
      const plan = { ...SMALL, tasks: [...SMALL.tasks, ...SMALL.tasks] };
      const { violation } = await runTrial(plan);
      expect(violation?.invariant).toBe('metrics'); // frames that came went nowhere
      const smaller = await minimise(plan, 'metrics', 25);
      expect(smaller.tasks.length).toBeLessThan(plan.tasks.length);
      expect((await runTrial(smaller)).violation?.invariant).toBe('metrics');
    } finally {
      FrameQueue.prototype.drainTo = drainTo;
    }
  });
});
