import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TapBacklog } from '../../../src/link/tap-backlog.js';

/** A TAP's queue and counters as the kernel keeps them. */
class FakeTap {
  queued = 0;
  txPackets = 1000;
  txDropped = 5;
  sendErrors = 0;
  dropsReported = 0;
  questions = 0;
  readonly backlog: TapBacklog;

  readonly queueFrames: number;

  constructor(queueFrames: number) {
    this.queueFrames = queueFrames;
    this.backlog = new TapBacklog(
      queueFrames,
      () => {
        this.questions++;
        return {
          interface: { rxPackets: 0, rxDropped: 0, txPackets: this.txPackets, txDropped: this.txDropped },
          sendErrors: this.sendErrors,
        };
      },
      (frames) => {
        this.dropsReported += frames;
      },
    );
  }

  /** As a link does: only as many as there is room for. Returns how many went. */
  send(frames: number): number {
    const room = this.backlog.room(frames);
    const fits = Math.min(room, this.queueFrames - this.queued);
    this.queued += fits;
    this.txDropped += room - fits;
    this.backlog.sent(room);
    return room;
  }

  read(frames: number): void {
    const taken = Math.min(frames, this.queued);
    this.queued -= taken;
    this.txPackets += taken;
  }
}

describe("a tap's backlog", () => {
  it('is exactly what the holder has not read, and never overfills the queue', () => {
    const step = fc.oneof(
      fc.record({ send: fc.integer({ min: 1, max: 300 }) }),
      fc.record({ read: fc.integer({ min: 0, max: 300 }) }),
      fc.record({ look: fc.constant(true) }),
    );
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.integer({ min: 1, max: 500 }),
        (steps, queueFrames) => {
          const tap = new FakeTap(queueFrames);
          for (const each of steps) {
            if ('send' in each) tap.send(each.send);
            else if ('read' in each) tap.read(each.read);
            else expect(tap.backlog.refresh()).toBe(tap.queued);
          }
          expect(tap.txDropped).toBe(5);
          expect(tap.backlog.refresh()).toBe(tap.queued);
        },
      ),
    );
  });

  it('asks the kernel rarely while there is room', () => {
    const tap = new FakeTap(1000);
    for (let index = 0; index < 900; index++) tap.send(1);
    expect(tap.questions).toBe(1);
  });

  it('does not wait for frames that were refused or dropped', () => {
    const tap = new FakeTap(1000);
    tap.send(10);
    tap.queued -= 3;
    tap.sendErrors += 1;
    tap.txDropped += 2;
    tap.read(7);
    expect(tap.backlog.refresh()).toBe(0);
    expect(tap.dropsReported).toBe(2);
  });

  it("is right again after frames of the host's own were read, once it has been empty", () => {
    const tap = new FakeTap(1000);
    tap.send(5);
    tap.txPackets += 2;
    expect(tap.backlog.refresh()).toBe(3);
    tap.read(5);
    expect(tap.backlog.refresh()).toBe(0);
    tap.txPackets += 4; // while nothing of ours waits
    tap.send(6);
    expect(tap.backlog.refresh()).toBe(6);
  });

  it('starts anew with a new holder', () => {
    const tap = new FakeTap(1000);
    tap.send(5);
    tap.backlog.reset();
    expect(tap.backlog.refresh()).toBe(0);
    tap.queued = 0;
    tap.send(2);
    expect(tap.backlog.refresh()).toBe(2);
  });
});
