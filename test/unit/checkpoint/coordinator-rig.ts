/** A coordinator with a fake data plane and a manual clock; the test plays the relay. */
import { expect } from 'vitest';
import { Coordinator } from '../../../src/checkpoint/coordinator.js';
import { type CheckpointLimits, DEFAULT_CHECKPOINT_LIMITS } from '../../../src/checkpoint/limits.js';
import { directionOf } from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { FakeGate } from './fake-gate.js';
import { run } from './scripted-peer.js';

const { READY, REQUEST, REPLY, SEND, RECEIVED, LOADED } = SyncPoint;

export class CoordinatorRig {
  readonly clock = new ManualClock();
  readonly gate = new FakeGate();
  readonly log: string[] = [];
  readonly triggers: number[] = [];
  readonly coordinator: Coordinator;

  constructor(limits: Partial<CheckpointLimits> = {}) {
    this.coordinator = new Coordinator({
      gate: this.gate,
      clock: this.clock,
      limits: { ...DEFAULT_CHECKPOINT_LIMITS, requestRetryMs: 1000, ...limits },
      trigger: async () => {
        this.triggers.push(this.clock.now());
      },
      events: {
        phaseChanged: () => undefined,
        protectedBegan: () => undefined,
        checkpointDone: () => this.log.push('DONE'),
        checkpointFailed: (phase) => this.log.push(`FAILED ${phase}`),
        phaseLimit: (phase) => this.log.push(`LIMIT ${phase}`),
        modeChanged: ({ mode, periodMs }) => this.log.push(`MODE ${mode} ${periodMs}`),
        guestShutDown: () => this.log.push('GUEST SHUT DOWN'),
      },
    });
  }

  run(durationMs = 0): Promise<void> {
    return run(this.clock, durationMs);
  }

  async see(word: SyncPoint): Promise<void> {
    let done = false;
    const seen = this.coordinator.wordSeen(directionOf(word), word).finally(() => {
      done = true;
    });
    await this.run();
    expect(done, `${word} is let through`).toBe(true);
    await seen;
  }

  /** Sees the words from REQUEST up to and including `last`. */
  async checkpointUpTo(last: SyncPoint): Promise<void> {
    for (const word of [REQUEST, REPLY, SEND, RECEIVED, LOADED]) {
      await this.see(word);
      if (word === last) return;
    }
  }

  /** Channel open, READY passed, first checkpoint loaded. */
  async begin(): Promise<void> {
    this.coordinator.channelOpened();
    await this.see(READY);
    await this.run(1);
    await this.checkpointUpTo(LOADED);
    await this.run();
  }

  /** As `begin`, and the minimum distance is over. */
  async protect(): Promise<void> {
    await this.begin();
    await this.run(DEFAULT_CHECKPOINT_LIMITS.distanceMsMin);
    this.log.length = 0;
    this.triggers.length = 0;
  }
}
