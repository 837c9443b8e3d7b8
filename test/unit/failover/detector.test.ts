import { describe, expect, it } from 'vitest';
import { Detector } from '../../../src/failover/detector.js';

const LIMITS = { heartbeatEveryMs: 50, heartbeatMsMax: 350, heartbeatAloneMsMax: 10_000 };

/** Looks every 50 ms; gives the moment of the verdict, or null. */
function watch(
  msMax: number,
  vm: {
    answers: (ms: number) => boolean;
    untaken: (ms: number) => number;
    linkUp?: (ms: number) => boolean;
    owesWord?: (ms: number) => boolean;
    outputMissingAtMs?: number;
  },
  stepMs = 50,
): number | null {
  const detector = new Detector(LIMITS);
  for (let ms = 0; ms <= msMax; ms += stepMs) {
    detector.look(ms, vm.untaken(ms), vm.linkUp?.(ms) ?? true, vm.owesWord?.(ms));
    if (ms === vm.outputMissingAtMs) detector.outputIsMissing();
    if (detector.mayAsk() && vm.answers(ms)) detector.answered(true);
    else if (vm.answers(ms)) detector.answered(true);
    if (detector.isLost()) return ms;
  }
  return null;
}

describe('signs of a lost VM', () => {
  it('a frozen VM under traffic is lost in less than 500 ms', () => {
    expect(watch(2000, { answers: (ms) => ms < 100, untaken: (ms) => (ms < 100 ? 0 : 3) })).toBeLessThan(600);
  });

  it('a monitor that hangs for 2 s while the guest serves is no loss', () => {
    expect(watch(20_000, { answers: (ms) => ms < 5000 || ms > 7000, untaken: () => 0 })).toBeNull();
  });

  it.each([
    [20, 120],
    [20, 320],
    [60, 340],
  ])('a slow VM, which runs for %d of every %d ms, is no loss', (runsMs, periodMs) => {
    const detector = new Detector(LIMITS);
    let isAsked = false;
    let untaken = 0;
    for (let ms = 0; ms <= 60_000; ms++) {
      if (ms % 7 === 0) untaken++; // clients go on sending
      if (ms % periodMs < runsMs) {
        untaken = 0;
        if (isAsked) detector.answered(true);
        isAsked = false;
      }
      if (ms % LIMITS.heartbeatEveryMs !== 0) continue;
      detector.look(ms, untaken, true);
      isAsked = detector.mayAsk() || isAsked;
      expect(detector.isLost(), `${ms} ms`).toBe(false);
    }
  });

  it('a guest that takes nothing while its monitor answers is no loss', () => {
    expect(watch(20_000, { answers: () => true, untaken: () => 9 })).toBeNull();
  });

  it('frames that wait now and then are no sign', () => {
    const untaken = (ms: number): number => (ms % 300 === 0 ? 0 : 5);
    expect(watch(5000, { answers: (ms) => ms < 100, untaken })).toBeNull();
  });

  it('a monitor that never answers again is enough in the end', () => {
    expect(watch(20_000, { answers: () => false, untaken: () => 0 })).toBe(10_000);
  });

  it.each([0, 100, 300])(
    'this process slept for 5 s, %d ms after the last answer: nothing about the VM',
    (silentMs) => {
      const detector = new Detector(LIMITS);
      const look = (ms: number): void => {
        detector.look(ms, 1, true, true);
        detector.mayAsk();
        expect(detector.isLost(), `${ms} ms`).toBe(false);
      };
      for (let ms = 0; ms <= silentMs; ms += 50) look(ms);
      look(silentMs + 5000); // the answer is there, and not read yet
      detector.answered(true);
      for (let ms = silentMs + 5050; ms <= silentMs + 5300; ms += 50) look(ms);
    },
  );

  it.each([110, 200, 400])(
    'a process that looks every %d ms only takes longer to find a frozen VM',
    (stepMs) => {
      const lost = watch(20_000, { answers: (ms) => ms === 0, untaken: () => 1 }, stepMs);
      expect(lost).toBeGreaterThan(7 * stepMs);
      expect(lost).toBeLessThan(11 * stepMs);
    },
  );

  it('a process that is late now and then finds a frozen VM hardly later', () => {
    const detector = new Detector(LIMITS);
    let ms = 0;
    for (let look = 0; !detector.isLost() && look < 100; look++) {
      ms += look % 4 === 3 ? 120 : 50;
      detector.look(ms, 1, true);
      detector.mayAsk();
    }
    expect(ms).toBeLessThan(800);
  });

  it('a link without carrier and a silent monitor are two signs', () => {
    const lost = watch(2000, { answers: (ms) => ms < 100, untaken: () => 0, linkUp: (ms) => ms < 100 });
    expect(lost).not.toBeNull();
  });

  it('a VM that is frozen in the middle of a checkpoint is lost in less than 500 ms', () => {
    const lost = watch(2000, {
      answers: (ms) => ms < 100,
      untaken: () => 0,
      owesWord: (ms) => ms >= 100,
    });
    expect(lost).toBeLessThan(600);
  });

  it('a checkpoint that lasts while the monitor answers is no loss', () => {
    expect(watch(20_000, { answers: () => true, untaken: () => 0, owesWord: (ms) => ms > 100 })).toBeNull();
  });

  it('a frozen VM whose clients only wait is lost when the other has answered them', () => {
    const lost = watch(2000, { answers: (ms) => ms < 100, untaken: () => 0, outputMissingAtMs: 300 });
    expect(lost).toBeLessThan(600);
  });

  it('output that is missing says nothing once the monitor has answered', () => {
    const answers = (ms: number): boolean => ms < 400 || ms > 2400;
    expect(watch(20_000, { answers, untaken: () => 0, outputMissingAtMs: 300 })).toBeNull();
  });

  it('words that are due now and then are no sign', () => {
    const owesWord = (ms: number): boolean => ms % 300 !== 0;
    expect(watch(5000, { answers: (ms) => ms < 100, untaken: () => 0, owesWord })).toBeNull();
  });
});
