import { describe, expect, it } from 'vitest';
import { Timeline } from '../../../src/observe/timeline.js';
import { sampleStatus } from './sample-status.js';

describe('timeline', () => {
  it('tells what changed between two samples, once', () => {
    const timeline = new Timeline();
    timeline.take(sampleStatus(), 1000);
    timeline.take(sampleStatus({ state: 'checkpointing' }), 2000);
    timeline.take(
      sampleStatus({
        state: 'failed-over',
        carrier: 'secondary',
        failovers: { 'primary-lost': 2, 'secondary-lost': 0 },
        checkpointsFailed: 9,
      }),
      3000,
    );
    timeline.take(
      sampleStatus({
        state: 'failed-over',
        carrier: 'secondary',
        failovers: { 'primary-lost': 2, 'secondary-lost': 0 },
        checkpointsFailed: 9,
      }),
      4000,
    );
    expect(timeline.events.map(({ wallMs, text }) => `${wallMs} ${text}`)).toEqual([
      '1000 protected, the primary carries the traffic',
      '3000 protected → failed-over',
      '3000 the secondary carries the traffic (before: primary)',
      '3000 primary lost',
      '3000 1 given up',
    ]);
  });

  it('copies counters, which are live objects', () => {
    const timeline = new Timeline();
    const status = sampleStatus();
    const before = timeline.take(status, 1000);
    (status.checkpoints as Record<string, number>).operator = 99;
    expect(before.checkpoints.operator).toBe(6);
  });

  it('is bounded', () => {
    const timeline = new Timeline();
    for (let second = 0; second < 2000; second++) {
      timeline.take(sampleStatus({ carrier: second % 2 === 0 ? 'primary' : 'secondary' }), second * 1000);
    }
    expect(timeline.samples).toHaveLength(900);
    expect(timeline.events).toHaveLength(200);
    expect(timeline.samples.at(-1)!.wallMs).toBe(1_999_000);
  });
});
