import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Arbiter, ClaimAnswer } from '../../../src/failover/arbiter.js';
import { answerWithin } from '../../../src/failover/arbiter.js';
import { execArbiter } from '../../../src/failover/arbiter-exec.js';
import { FileArbiter } from '../../../src/failover/arbiter-file.js';
import { Mandate } from '../../../src/failover/mandate.js';
import { realClock, sleep } from '../../../src/system/clock.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { expectRightWithoutGap } from './lease-handover.js';

const signal = new AbortController().signal;
const claim = { reason: 'start', seat: 'primary', generation: 0 } as const;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'colo-arbiter-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('a program as arbiter', () => {
  function program(script: string): Arbiter {
    const path = join(folder, 'arbiter.sh');
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return execArbiter(path, { pair: 'web', owner: 'o', process: 'p' });
  }

  it.each([
    ['exit 0', 'won'],
    ['echo not you; exit 1', 'lost'],
    ['exit 2', 'unknown'],
    ['kill -9 $$', 'unknown'],
    ['yes | head -c 1000000', 'unknown'],
  ])('%s: %s', async (script, outcome) => {
    expect((await program(script).claim(claim, signal)).outcome).toBe(outcome);
  });

  it('is told what is asked', async () => {
    const arbiter = program(`echo "$@" > ${folder}/said`);
    await arbiter.claim({ reason: 'promote-secondary', seat: 'secondary', generation: 4 }, signal);
    const { readFileSync } = await import('node:fs');
    expect(readFileSync(join(folder, 'said'), 'utf8')).toBe('claim web secondary promote-secondary 5\n');
  });

  it('that hangs is unknown in time, and is killed', async () => {
    const arbiter = program('exec sleep 60');
    const answer = await answerWithin(realClock, 100, (abort) => arbiter.claim(claim, abort));
    expect(answer.outcome).toBe('unknown');
  });

  it('that is not there is unknown', async () => {
    const absent = execArbiter(join(folder, 'absent'), { pair: 'web', owner: 'o', process: 'p' });
    expect((await absent.claim(claim, signal)).outcome).toBe('unknown');
  });
});

describe('generations in a directory', () => {
  const LEASE = { leaseMs: 300, marginMs: 50 };
  let clock: ManualClock;
  beforeEach(() => {
    clock = new ManualClock();
  });
  const of = (owner: string): FileArbiter =>
    new FileArbiter(folder, { pair: 'web', owner, process: `${owner}-1` }, LEASE, clock);

  /** Time passes, but never while `meanwhile` is at work: a slow disk changes nothing. */
  async function inTime<T>(asked: Promise<T>, meanwhile?: () => Promise<unknown>): Promise<T> {
    let isOver = false;
    void asked.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      await meanwhile?.();
      clock.advance(LEASE.marginMs);
      await sleep(realClock, 1);
    }
    return asked;
  }

  it('one of many claimants at once wins', async () => {
    const answers = await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map((owner) => of(owner).claim(claim, signal)),
    );
    expect(answers.filter(({ outcome }) => outcome === 'won').length).toBeLessThanOrEqual(1);
    const later = await inTime(of('f').claim(claim, signal));
    expect(later.outcome).toBe('won'); // nobody renewed
  });

  it('a directory that is not there, or a record that is none, is unknown', async () => {
    const ask = () => answerWithin(realClock, 5000, (abort) => of('a').claim(claim, abort));
    const record = join(folder, 'web.generation-7');
    execFileSync('mkfifo', [record]); // opening it would wait for a writer
    expect(await ask()).toMatchObject({ outcome: 'unknown', detail: expect.stringContaining('no record') });
    rmSync(record);
    writeFileSync(record, '');
    truncateSync(record, 2 ** 40); // reading it would take all memory
    expect(await ask()).toMatchObject({ outcome: 'unknown', detail: expect.stringContaining('no record') });
    rmSync(folder, { recursive: true });
    expect(await ask()).toMatchObject({ outcome: 'unknown', detail: expect.stringContaining('ENOENT') });
    mkdirSync(folder);
  });

  it('whoever renews keeps it; whoever does not loses it, and learns so', async () => {
    const [a, b] = [of('a'), of('b')];
    expect((await a.claim(claim, signal)).outcome).toBe('won');
    const renewing = async () => expect((await a.renew()).outcome).toBe('won');
    expect((await inTime(b.claim(claim, signal), renewing)).outcome).toBe('lost');
    const won = await inTime(b.claim(claim, signal));
    expect(won).toMatchObject({ outcome: 'won', generation: 2 });
    expect((await a.renew()).outcome).toBe('lost');
    const again = await inTime(a.claim({ ...claim, reason: 'again', generation: 1 }, signal));
    expect(again).toMatchObject({ outcome: 'lost', detail: expect.stringContaining('has ruled since') });
  });

  it('what is given back can be had at once; the holder itself goes from generation to generation', async () => {
    const a = of('a');
    await a.claim(claim, signal);
    expect(await a.claim({ ...claim, generation: 1 }, signal)).toMatchObject({
      outcome: 'won',
      generation: 2,
    });
    await a.release();
    expect(await of('b').claim(claim, signal)).toMatchObject({ outcome: 'won', generation: 3 });
  });
});

it('a lease in a directory goes from process to process without a gap', async () => {
  const lease = { leaseMs: 1500, marginMs: 100 };
  await expectRightWithoutGap(
    lease.leaseMs,
    (owner, process, clock) => new FileArbiter(folder, { pair: 'web', owner, process }, lease, clock),
  );
}, 20_000);

it('an arbiter that fails at once is unknown, like one that fails later', async () => {
  const fail = (): never => {
    throw new Error('broken');
  };
  for (const ask of [fail, async () => fail()])
    expect(await answerWithin(realClock, 5000, ask)).toEqual({ outcome: 'unknown', detail: 'Error: broken' });
});

describe('the mandate', () => {
  const LIMITS = { claimMsMax: 100, retryMs: 50 };
  function rig(answers: { claim: () => ClaimAnswer | Promise<ClaimAnswer>; renew: () => ClaimAnswer }) {
    const clock = new ManualClock();
    const said: string[] = [];
    const arbiter: Arbiter = {
      kind: 'etcd',
      leaseMs: 1000,
      claim: async () => answers.claim(),
      renew: async () => answers.renew(),
      release: async () => undefined,
    };
    const mandate = new Mandate(arbiter, 0, clock, LIMITS, {
      held: () => said.push('held'),
      lost: (detail) => said.push(detail),
      generationChanged: () => undefined,
    });
    return { clock, mandate, said };
  }
  async function run(clock: ManualClock, ms: number): Promise<void> {
    for (let at = 0; at < ms; at += 10) {
      clock.advance(10);
      for (let turn = 0; turn < 8; turn++) await Promise.resolve();
    }
  }

  it('is not held before the first yes, is renewed, and ends by the clock alone when nobody answers', async () => {
    let isAnswering = true;
    let generation = 0;
    const until = (): ClaimAnswer =>
      isAnswering
        ? { outcome: 'won', generation: ++generation, heldUntilMs: clock.now() + 900 }
        : { outcome: 'unknown', detail: 'silence' };
    const { clock, mandate, said } = rig({ claim: until, renew: until });
    expect(mandate.isHeld(clock.now())).toBe(false);
    mandate.start('primary');
    await run(clock, 3000);
    expect(mandate.isHeld(clock.now())).toBe(true);
    isAnswering = false;
    expect(mandate.isHeld(clock.now() + 950)).toBe(false); // frozen: before any timer has run
    await run(clock, 1500);
    expect(mandate.isHeld(clock.now())).toBe(false);
    isAnswering = true;
    await run(clock, 200);
    expect(mandate.isHeld(clock.now())).toBe(true);
    expect(said[0]).toBe('held');
    expect(said.at(-1)).toBe('held');
  });

  it.each([
    ['a generation that was there before', 7],
    ['a generation that is none', Number.NaN],
  ])('an arbiter that lies with %s is a no', async (_what, generation) => {
    const { clock, mandate, said } = rig({
      claim: () => ({ outcome: 'won', generation, heldUntilMs: Number.POSITIVE_INFINITY }),
      renew: () => ({ outcome: 'unknown', detail: '' }),
    });
    mandate.generation = 7;
    const claimed = mandate.claim('promote-secondary', 'secondary');
    await run(clock, 20);
    expect(await claimed).toBe(false);
    expect(mandate.isHeld(clock.now())).toBe(false);
    expect(said).toEqual([expect.stringContaining('the arbiter has forgotten')]);
  });

  it('a moment that is none is no right', async () => {
    const { clock, mandate } = rig({
      claim: () => ({ outcome: 'won', generation: 1, heldUntilMs: Number.NaN }),
      renew: () => ({ outcome: 'unknown', detail: '' }),
    });
    const claimed = mandate.claim('promote-secondary', 'secondary');
    await run(clock, 20);
    expect(await claimed).toBe(false);
    expect(mandate.isHeld(clock.now())).toBe(false);
  });

  it('an arbiter that answers again, or after its time, is not heard', async () => {
    let answerLate: ((answer: ClaimAnswer) => void) | undefined;
    const { clock, mandate } = rig({
      claim: () =>
        new Promise((resolve) => {
          answerLate ??= resolve; // of the first question
        }),
      renew: () => ({ outcome: 'unknown', detail: '' }),
    });
    const claimed = mandate.claim('promote-secondary', 'secondary');
    await run(clock, 2200);
    expect(await claimed).toBe(false);
    answerLate!({ outcome: 'won', generation: 1, heldUntilMs: Number.POSITIVE_INFINITY });
    answerLate!({ outcome: 'won', generation: 2, heldUntilMs: Number.POSITIVE_INFINITY });
    await run(clock, 20);
    expect(mandate.isHeld(clock.now())).toBe(false);
    expect(mandate.generation).toBe(0);
  });

  it('an arbiter that never answers a claim is a no, in time', async () => {
    const { clock, mandate } = rig({
      claim: () => new Promise(() => undefined),
      renew: () => ({ outcome: 'unknown', detail: '' }),
    });
    let answer: boolean | undefined;
    void mandate.claim('promote-secondary', 'secondary').then((won) => {
      answer = won;
    });
    await run(clock, 2200);
    expect(answer).toBe(false);
    expect(mandate.isHeld(clock.now())).toBe(false);
  });
});
