import { beforeEach, describe, expect, it } from 'vitest';
import { Coordinator } from '../../../src/checkpoint/coordinator.js';
import { type CheckpointLimits, DEFAULT_CHECKPOINT_LIMITS } from '../../../src/checkpoint/limits.js';
import type { CheckpointRecord, Phase } from '../../../src/checkpoint/ports.js';
import { directionOf } from '../../../src/protocol/state-tables.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { FakeGate } from './fake-gate.js';
import { run } from './scripted-peer.js';

const { READY, REQUEST, REPLY, SEND, RECEIVED, LOADED } = SyncPoint;
const LIMITS: CheckpointLimits = {
  ...DEFAULT_CHECKPOINT_LIMITS,
  distanceMsMin: 100,
  quiesceMsMax: 50,
  requestMsMax: 2000,
  requestRetryMs: 250,
  suspendMsMax: 1000,
  saveMsMax: 1500,
  transferMsMax: 3000,
  loadMsMax: 2500,
  commitMsMax: 500,
  migrateMsMax: 60_000,
};

let clock: ManualClock;
let gate: FakeGate;
let coordinator: Coordinator;
let log: string[];
let records: CheckpointRecord[];
let triggers: number[];
let triggerFails: Error | undefined;
let sentBytes: number;

function make(limits: Partial<CheckpointLimits> = {}): void {
  coordinator = new Coordinator({
    gate,
    clock,
    limits: { ...LIMITS, ...limits },
    trigger: () => {
      triggers.push(clock.now());
      return triggerFails === undefined ? Promise.resolve() : Promise.reject(triggerFails);
    },
    primaryBytes: () => sentBytes,
    events: {
      phaseChanged: (phase) => log.push(phase),
      protectedBegan: () => log.push('PROTECTED'),
      checkpointDone: (record) => {
        log.push('DONE');
        records.push(record);
      },
      checkpointFailed: (phase, reason, waitedMs) => log.push(`FAILED ${phase} ${reason.code} ${waitedMs}`),
      checkpointPutOff: (frames, waitedMs) => log.push(`PUT OFF ${frames} ${waitedMs}`),
      phaseLimit: (phase, waitedMs) => log.push(`LIMIT ${phase} ${waitedMs}`),
    },
  });
}

beforeEach(() => {
  clock = new ManualClock();
  gate = new FakeGate();
  log = [];
  records = [];
  triggers = [];
  triggerFails = undefined;
  sentBytes = 0;
  make();
});

async function see(word: SyncPoint): Promise<void> {
  let done = false;
  const seen = coordinator.wordSeen(directionOf(word), word).finally(() => {
    done = true;
  });
  await run(clock);
  expect(done, `${word} is let through`).toBe(true);
  await seen;
}

/** Sees the words from REQUEST up to and including `last`. */
async function checkpointUpTo(last: SyncPoint): Promise<void> {
  for (const word of [REQUEST, REPLY, SEND, RECEIVED, LOADED]) {
    await see(word);
    if (word === last) return;
  }
}

/** Channel open, READY passed, first checkpoint loaded, and the minimum distance over. */
async function protect(): Promise<void> {
  coordinator.channelOpened();
  await see(READY);
  await run(clock, 1);
  await checkpointUpTo(LOADED);
  await run(clock, LIMITS.distanceMsMin);
  log.length = 0;
  records.length = 0;
  triggers.length = 0;
  gate.take();
}

describe('the first checkpoint', () => {
  it('is taken at once after READY with the gate closed; protection begins with its LOADED', async () => {
    coordinator.channelOpened();
    expect(coordinator.phase).toBe('migrating');
    gate.stuck.add('closeGate');
    let forwarded = false;
    const seen = coordinator.wordSeen(directionOf(READY), READY).then(() => {
      forwarded = true;
    });
    await run(clock, 5);
    expect([forwarded, gate.take()], 'READY waits for the gate').toEqual([false, ['closeGate']]);
    gate.letGo();
    await seen;
    await run(clock, 1);
    expect(triggers).toHaveLength(1);
    await checkpointUpTo(LOADED);
    expect(log).toEqual([
      'migrating',
      'idle',
      'quiescing',
      'suspending',
      'suspended',
      'transferring',
      'loading',
      'committing',
      'PROTECTED',
      'idle',
      'DONE',
    ]);
    expect(records[0]).toMatchObject({ epoch: 1, cause: 'protect' });
    expect(gate.take()).toEqual(['closeGate', 'secondaryStopped', 'primaryStopped', 'commit', 'openGate']);
  });

  it('does not follow when there is no secondary', async () => {
    coordinator.request('divergence');
    await run(clock, 5000);
    expect([triggers.length, gate.take(), coordinator.phase]).toEqual([0, [], 'idle']);
  });
});

describe('a checkpoint', () => {
  it('does at each word what the design says, before the word is forwarded', async () => {
    await protect();
    coordinator.request('divergence');
    await run(clock, 1);
    expect(gate.take()).toEqual(['closeGate']);
    for (const [word, call] of [
      [REPLY, 'secondaryStopped'],
      [SEND, 'primaryStopped'],
      [LOADED, 'commit'],
    ] as const) {
      if (word === REPLY) await see(REQUEST);
      if (word === LOADED) await see(RECEIVED);
      gate.stuck.add(call);
      let forwarded = false;
      const seen = coordinator.wordSeen(directionOf(word), word).then(() => {
        forwarded = true;
      });
      await run(clock, 10);
      expect([gate.take(), forwarded]).toEqual([[call], false]);
      gate.letGo();
      await run(clock);
      await seen;
    }
    expect(gate.take()).toEqual(['openGate']);
  });

  it('is recorded with its times and bytes', async () => {
    await protect();
    const t0 = clock.now();
    coordinator.request('operator');
    await run(clock, 3);
    await see(REQUEST);
    await run(clock, 2);
    await see(REPLY);
    await see(SEND);
    sentBytes += 1_234_567;
    await run(clock, 7);
    await see(RECEIVED);
    await run(clock, 4);
    await see(LOADED);
    expect(records).toEqual([
      {
        epoch: 2,
        cause: 'operator',
        requestedAtMs: t0,
        begunAtMs: t0,
        askedAtMs: t0,
        requestSeenAtMs: t0 + 3,
        loadedAtMs: t0 + 16,
        pauseMs: 11,
        gateClosedMs: 16,
        stateBytes: 1_234_567,
      },
    ]);
    expect(coordinator.stats.checkpoints).toMatchObject({ protect: 1, operator: 1 });
  });

  it('that QEMU begins unasked is led through the same way', async () => {
    await protect();
    await checkpointUpTo(LOADED);
    expect(gate.take()).toEqual(['closeGate', 'secondaryStopped', 'primaryStopped', 'commit', 'openGate']);
    expect(records[0]).toMatchObject({ cause: 'vm', epoch: 2 });
    expect(triggers).toEqual([]);
  });

  it('that QEMU begins while ours waits for its distance serves ours', async () => {
    coordinator.channelOpened();
    await see(READY);
    await run(clock, 1);
    await checkpointUpTo(LOADED);
    coordinator.request('divergence');
    await checkpointUpTo(LOADED);
    expect(records.map((record) => record.cause)).toEqual(['protect', 'divergence']);
    await run(clock, 1000);
    expect(triggers).toHaveLength(1);
  });
});

describe('requests', () => {
  it('coalesce while a checkpoint that covers them is wanted or runs', async () => {
    await protect();
    for (let count = 0; count < 200; count++) coordinator.request('divergence');
    await run(clock, 1);
    coordinator.request('one-sided');
    await see(REQUEST);
    coordinator.request('operator');
    await see(REPLY);
    await see(SEND);
    coordinator.request('divergence');
    await see(RECEIVED);
    coordinator.request('limit');
    await see(LOADED);
    await run(clock, 1000);
    expect(triggers).toHaveLength(1);
    expect(coordinator.stats.requestsCoalesced).toBe(199 + 4);
  });

  it("of the new epoch, and an operator's after the primary stopped, lead to another one", async () => {
    await protect();
    await checkpointUpTo(SEND);
    coordinator.request('operator');
    await see(RECEIVED);
    await see(LOADED);
    await run(clock, LIMITS.distanceMsMin + 1);
    expect(coordinator.phase).toBe('quiescing');
    gate.stuck.add('commit');
    for (const word of [REQUEST, REPLY, SEND, RECEIVED]) await see(word);
    const committed = coordinator.wordSeen(directionOf(LOADED), LOADED);
    await run(clock);
    coordinator.request('divergence'); // found while what was parked is compared as the new epoch
    gate.letGo();
    await committed;
    await run(clock, LIMITS.distanceMsMin + 1);
    await checkpointUpTo(LOADED);
    expect(records.map((record) => record.cause)).toEqual(['vm', 'operator', 'divergence']);
  });

  it('keep the minimum distance from LOADED', async () => {
    await protect();
    for (let count = 0; count < 5; count++) {
      coordinator.request('divergence');
      await run(clock, LIMITS.distanceMsMin + 1);
      await checkpointUpTo(LOADED);
    }
    expect(triggers).toHaveLength(5);
    for (let index = 1; index < 5; index++) {
      expect(triggers[index]! - records[index - 1]!.loadedAtMs).toBeGreaterThanOrEqual(LIMITS.distanceMsMin);
    }
  });

  it('come by themselves when a period is set', async () => {
    make({ periodMsMax: 700 });
    await protect();
    await run(clock, 700);
    await checkpointUpTo(LOADED);
    expect(records.map((record) => record.cause)).toEqual(['period']);
    await run(clock, 699);
    expect(coordinator.phase).toBe('idle');
    await run(clock, 2);
    expect(coordinator.phase).toBe('quiescing');
  });
});

describe('quiescing', () => {
  it('asks the primary only when both VMs have taken everything', async () => {
    await protect();
    gate.frames = { primary: 0, secondary: 3 };
    coordinator.request('divergence');
    await run(clock, 20);
    expect(triggers).toEqual([]);
    gate.frames = { primary: 0, secondary: 0 };
    await run(clock, 2);
    expect(triggers).toHaveLength(1);
    expect(coordinator.stats.framesMaybeLost).toBe(0);
  });

  it('that runs out puts our checkpoint off, opens the gate and tries again after the distance', async () => {
    await protect();
    gate.frames = { primary: 1, secondary: 3 };
    coordinator.request('divergence');
    await run(clock, 51);
    expect(log).toEqual(['quiescing', 'PUT OFF 4 50', 'idle']);
    expect(gate.take()).toEqual(['closeGate', 'openGate']);
    gate.frames = { primary: 0, secondary: 0 };
    await run(clock, LIMITS.distanceMsMin);
    await checkpointUpTo(LOADED);
    expect(records[0]?.cause).toBe('divergence');
    expect(coordinator.stats).toMatchObject({ putOffs: 1, framesMaybeLost: 0, checkpointsFailed: 0 });
  });

  it('is not put off for ever: a guest that reads no more can only be mended by a checkpoint', async () => {
    await protect();
    gate.frames = { primary: 0, secondary: 9 };
    coordinator.request('one-sided');
    await run(clock, (LIMITS.putOffsMax + 1) * (LIMITS.quiesceMsMax + LIMITS.distanceMsMin));
    expect(coordinator.stats).toMatchObject({ putOffs: LIMITS.putOffsMax, framesMaybeLost: 9 });
    expect(triggers).toHaveLength(1);
  });

  it("holds QEMU's own REQUEST no longer than the limit and counts what was not taken", async () => {
    await protect();
    gate.frames = { primary: 2, secondary: 0 };
    let forwarded = false;
    const seen = coordinator.wordSeen(directionOf(REQUEST), REQUEST).then(() => {
      forwarded = true;
    });
    await run(clock, 49);
    expect([forwarded, coordinator.phase]).toEqual([false, 'quiescing']);
    await run(clock, 2);
    await seen;
    expect([forwarded, coordinator.phase]).toEqual([true, 'suspending']);
    expect(coordinator.stats.framesMaybeLost).toBe(2);
  });

  it("is joined by QEMU's own REQUEST: nobody asks again", async () => {
    await protect();
    gate.frames = { primary: 2, secondary: 0 };
    coordinator.request('divergence');
    await run(clock, 30);
    const seen = coordinator.wordSeen(directionOf(REQUEST), REQUEST);
    gate.frames = { primary: 0, secondary: 0 };
    await run(clock, 2);
    await seen;
    expect([coordinator.phase, triggers.length]).toEqual(['suspending', 0]);
    for (const word of [REPLY, SEND, RECEIVED, LOADED]) await see(word);
    expect(records[0]?.cause).toBe('divergence');
  });

  it('ends in time whatever the gate does', async () => {
    await protect();
    gate.stuck.add('untaken');
    coordinator.request('divergence');
    await run(clock, 51);
    expect(log).toEqual(['quiescing', 'PUT OFF 0 50', 'idle']);
  });
});

describe('asking the primary', () => {
  it('is repeated when QEMU absorbed it', async () => {
    await protect();
    coordinator.request('divergence');
    await run(clock, 2 * LIMITS.requestRetryMs + 1);
    expect(triggers).toHaveLength(3);
    await checkpointUpTo(LOADED);
    await run(clock, 1000);
    expect(triggers).toHaveLength(3);
    expect(records).toHaveLength(1);
  });

  it('that fails opens the gate, is told and tried again after the distance', async () => {
    await protect();
    triggerFails = new Error('no monitor');
    coordinator.request('divergence');
    await run(clock, 1);
    expect(log).toEqual(['quiescing', 'idle', 'FAILED quiescing COLO_ERR_QMP_COMMAND 0']);
    expect(gate.take()).toEqual(['closeGate', 'openGate']);
    triggerFails = undefined;
    await run(clock, LIMITS.distanceMsMin + 1);
    await checkpointUpTo(LOADED);
    expect(records[0]?.cause).toBe('divergence');
  });
});

describe('limits: each phase that runs out is told once, with its time', () => {
  const words: Array<[Phase, number, SyncPoint | null]> = [
    ['quiescing', LIMITS.requestMsMax, null],
    ['suspending', LIMITS.suspendMsMax, REQUEST],
    ['suspended', LIMITS.saveMsMax, REPLY],
    ['transferring', LIMITS.transferMsMax, SEND],
    ['loading', LIMITS.loadMsMax, RECEIVED],
  ];
  it.each(words)('%s: %d ms', async (phase, limitMs, last) => {
    await protect();
    coordinator.request('divergence');
    await run(clock, 1);
    if (last !== null) await checkpointUpTo(last);
    expect(coordinator.phase).toBe(phase);
    const passedMs = coordinator.phaseMs;
    await run(clock, limitMs - passedMs - 1);
    expect(log.filter((line) => line.startsWith('LIMIT'))).toEqual([]);
    await run(clock, 10_000);
    expect(log.filter((line) => line.startsWith('LIMIT'))).toEqual([`LIMIT ${phase} ${limitMs}`]);
  });

  it('migrating', async () => {
    coordinator.channelOpened();
    await run(clock, LIMITS.migrateMsMax + 1);
    expect(log).toEqual(['migrating', `LIMIT migrating ${LIMITS.migrateMsMax}`]);
  });

  it('committing', async () => {
    await protect();
    await checkpointUpTo(RECEIVED);
    gate.stuck.add('commit');
    const seen = coordinator.wordSeen(directionOf(LOADED), LOADED);
    await run(clock, LIMITS.commitMsMax + 1);
    expect(log.at(-1)).toBe(`LIMIT committing ${LIMITS.commitMsMax}`);
    gate.letGo();
    await seen;
  });
});

describe('the channel closes', () => {
  const phases: Array<[Phase, SyncPoint | null, string[]]> = [
    ['quiescing', null, ['openGate']],
    ['suspending', REQUEST, ['openGate']],
    ['suspended', REPLY, ['abandon', 'openGate']],
    ['transferring', SEND, ['abandon', 'openGate']],
    ['loading', RECEIVED, ['abandon', 'openGate']],
  ];
  it.each(phases)('in %s: told with the phase; abandon puts everything back', async (phase, last, undone) => {
    await protect();
    coordinator.request('divergence');
    await run(clock, 1);
    if (last !== null) await checkpointUpTo(last);
    await run(clock, 5);
    const phaseMs = coordinator.phaseMs;
    gate.take();
    log.length = 0;
    expect(coordinator.channelClosed()).toBe(phase);
    await run(clock, 10_000);
    expect(log).toEqual(['idle', `FAILED ${phase} COLO_ERR_CHANNEL_LOST ${phaseMs}`]);
    expect(gate.take(), 'the pair decides, not the coordinator').toEqual([]);
    await coordinator.abandon();
    await coordinator.abandon();
    expect(gate.take()).toEqual(undone);
    expect(coordinator.coupled).toBe(false);
  });

  it.each([
    ['idle', async () => protect()],
    ['migrating', async () => coordinator.channelOpened()],
  ])('in %s: no checkpoint has failed', async (_phase, prepare) => {
    await prepare();
    expect(coordinator.channelClosed()).toBeNull();
    await coordinator.abandon();
    expect(gate.take()).toEqual([]);
    expect(log.some((line) => line.startsWith('FAILED'))).toBe(false);
    coordinator.request('divergence');
    await run(clock, 5000);
    expect(coordinator.phase).toBe('idle');
  });

  it('after READY and before the first checkpoint: abandon opens the gate', async () => {
    coordinator.channelOpened();
    await coordinator.wordSeen(directionOf(READY), READY);
    expect(coordinator.channelClosed()).toBeNull();
    await coordinator.abandon();
    expect(gate.take()).toEqual(['closeGate', 'openGate']);
  });

  it('in committing: the commit is completed and counts', async () => {
    await protect();
    await checkpointUpTo(RECEIVED);
    gate.stuck.add('commit');
    const seen = coordinator.wordSeen(directionOf(LOADED), LOADED);
    await run(clock);
    expect(coordinator.channelClosed()).toBeNull();
    gate.letGo();
    await seen;
    await run(clock);
    expect(log.at(-1)).toBe('DONE');
    expect(gate.take().at(-1)).toBe('openGate');
    coordinator.request('divergence');
    await run(clock, 5000);
    expect(coordinator.phase).toBe('idle');
  });

  it('and a new migration begins from scratch', async () => {
    await protect();
    await checkpointUpTo(SEND);
    coordinator.channelClosed();
    gate.take();
    coordinator.channelOpened();
    await see(READY);
    await run(clock, 1);
    await checkpointUpTo(LOADED);
    expect(coordinator.epoch).toBe(1);
    expect(log.filter((line) => line === 'PROTECTED')).toHaveLength(1);
  });
});

describe('out of place', () => {
  it.each([
    ['LOADED in idle', LOADED],
    ['READY twice', READY],
    ['SEND without REPLY', SEND],
    ['a word it never expects', SyncPoint.SIZE],
  ])('%s is rejected and changes nothing', async (_name, word) => {
    await protect();
    await expect(coordinator.wordSeen(directionOf(word), word)).rejects.toMatchObject({
      code: 'COLO_ERR_PROTOCOL_WORD',
    });
    expect([coordinator.phase, gate.take()]).toEqual(['idle', []]);
  });

  it('a word from the wrong side, and REQUEST without READY', async () => {
    await expect(coordinator.wordSeen('primary-to-secondary', REQUEST)).rejects.toThrow(/out of place/);
    await protect();
    await expect(coordinator.wordSeen('secondary-to-primary', REQUEST)).rejects.toThrow(/out of place/);
  });

  it("the data plane's failure keeps the word from being forwarded", async () => {
    await protect();
    await see(REQUEST);
    gate.broken.add('secondaryStopped');
    await expect(coordinator.wordSeen(directionOf(REPLY), REPLY)).rejects.toThrow(/secondaryStopped failed/);
  });

  it('a commit that fails is told, the word is not forwarded, and the next migration works', async () => {
    await protect();
    await checkpointUpTo(RECEIVED);
    gate.broken.add('commit');
    await expect(coordinator.wordSeen(directionOf(LOADED), LOADED)).rejects.toThrow(/commit failed/);
    expect(log.slice(-2)).toEqual(['idle', 'FAILED committing COLO_ERR_CHANNEL_LOST 0']);
    expect(coordinator.channelClosed()).toBeNull();
    gate.broken.clear();
    gate.take();
    await coordinator.abandon();
    expect(gate.take()).toEqual(['openGate']);
    coordinator.channelOpened();
    await see(READY);
    await run(clock, 1);
    await checkpointUpTo(LOADED);
    expect(log.at(-1)).toBe('DONE');
  });
});
