import { describe, expect, it } from 'vitest';
import { AdaptivePolicy } from '../../../src/checkpoint/adaptive-policy.js';

const LIMITS = {
  divergedInRowMax: 5,
  trialInRowMax: 2,
  soonMs: 200,
  periodMsMin: 20,
  periodMsMax: 500,
  trialAfterMsMin: 1000,
  trialAfterMsMax: 4000,
  trialPassedMs: 1000,
};

class Run {
  readonly policy = new AdaptivePolicy(LIMITS);
  nowMs = 0;
  readonly decisions: string[] = [];

  untilTrial(): void {
    while (this.policy.mode === 'periodic') this.loaded(false, 50);
  }

  loaded(diverged: boolean, sinceLastMs: number, pauseMs = 50, times = 1): void {
    for (let index = 0; index < times; index++) {
      this.nowMs += sinceLastMs + pauseMs;
      const decision = this.policy.loaded(diverged, sinceLastMs, pauseMs, this.nowMs);
      if (decision !== null) this.decisions.push(`${decision.mode} ${decision.periodMs} at ${this.nowMs}`);
    }
  }
}

describe('the adaptive policy', () => {
  it('gives up comparing after a row of divergences, at the interval that suits the pause', () => {
    const run = new Run();
    run.loaded(true, 100, 50, 4);
    expect(run.decisions).toEqual([]);
    run.loaded(true, 100);
    expect(run.decisions).toEqual(['periodic 71 at 750']); // 50 ms times the root of 2
  });

  it('bears divergences with time between them, and checkpoints of other causes', () => {
    const run = new Run();
    for (let index = 0; index < 30; index++) {
      run.loaded(true, 100, 50, 4);
      run.loaded(true, 1000);
      run.loaded(false, 1000);
    }
    run.loaded(false, 10, 50, 100);
    expect(run.decisions).toEqual([]);
  });

  it('keeps the interval within its limits, whatever the pause', () => {
    for (const [pauseMs, periodMs] of [
      [0.5, 20],
      [10_000, 500],
    ] as const) {
      const run = new Run();
      run.loaded(true, 100, pauseMs, 5);
      expect(run.decisions[0]).toMatch(`periodic ${periodMs} `);
    }
  });

  it('follows a pause that changes, not every wobble of it', () => {
    const run = new Run();
    run.loaded(true, 100, 50, 5);
    run.loaded(false, 10, 55, 4);
    expect(run.decisions).toHaveLength(1);
    run.loaded(false, 1, 150, 4);
    expect(run.decisions.length).toBeGreaterThan(1);
    expect(Number(run.decisions.at(-1)!.split(' ')[1])).toBeGreaterThan(100);
  });

  it('tries comparing after a while, ever more rarely while it fails, and stays when it passes', () => {
    const run = new Run();
    run.loaded(true, 100, 50, 5);
    const triedAt: number[] = [];
    for (let trial = 0; trial < 4; trial++) {
      const startedAtMs = run.nowMs;
      run.untilTrial();
      triedAt.push(run.nowMs - startedAtMs);
      run.loaded(true, 100, 50, 2);
      expect(run.policy.mode, 'failed at once').toBe('periodic');
    }
    expect(triedAt.map((ms) => Math.floor(ms / 1000))).toEqual([1, 2, 4, 4]);
    run.untilTrial();
    run.loaded(true, 100);
    run.loaded(false, 1500);
    // passed: it takes a whole row again, and the next trial comes early
    run.loaded(true, 100, 50, 4);
    expect(run.policy.mode).toBe('compare');
    run.loaded(true, 100);
    expect(run.policy.mode).toBe('periodic');
    const startedAtMs = run.nowMs;
    run.untilTrial();
    expect(Math.floor((run.nowMs - startedAtMs) / 1000)).toBe(1);
  });
});
