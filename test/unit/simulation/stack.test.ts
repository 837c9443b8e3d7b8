import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Guest } from '../../../src/simulation/guest.js';
import { SeededRandom } from '../../../src/simulation/random.js';
import { runClock } from '../../../src/simulation/run-clock.js';
import { FrameKind, FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { host, Lab } from './harness.js';

const PROBES = { count: 20, everyMs: 5, answerMsMax: 500 };

describe.each([
  ['IPv4', host(2).ipv4, 0],
  ['IPv6', host(2).ipv6, 0],
  ['IPv4 in VLAN 5', host(2).ipv4, 5],
])('over %s', (_name, server, vlan) => {
  it('serves every scenario on a clean wire', async () => {
    const lab = new Lab({ vlan });
    const tasks = [
      lab.client.download(server, 'a-300000.bin'),
      lab.client.download(server, 'empty-0.bin'),
      lab.client.count(server, 50, 3),
      lab.client.divergent(server, 'rand'),
      lab.client.divergent(server, 'time'),
      lab.client.callBack(server),
      lab.client.udpEcho(server, PROBES),
      lab.client.ping(server, PROBES),
      lab.client.shortConnections(server, 20),
    ];
    expect(await runClock(lab.clock, 60_000, () => tasks.every((task) => task.report !== null))).toBe(true);
    expect(tasks.map((task) => task.report!.problem)).toEqual(tasks.map(() => null));
    expect(tasks.map((task) => task.report!.lost)).toEqual(tasks.map(() => 0));
    expect(tasks[0]!.report!.bytes).toBe(300_000);
    expect(tasks[2]!.report!.answers).toBe(50);
    // nothing is left behind
    const left = (): number =>
      lab.guest.stack.state.connections.size + lab.client.stack.state.connections.size;
    expect(lab.until(() => left() === 0, 10_000)).toBe(true);
  });
});

describe('through a wire that loses, reorders, doubles and corrupts', () => {
  const options = fc.record({
    seed: fc.integer(),
    loss: fc.double({ min: 0, max: 0.15, noNaN: true }),
    duplication: fc.double({ min: 0, max: 0.1, noNaN: true }),
    corruption: fc.double({ min: 0, max: 0.05, noNaN: true }),
    jitterMs: fc.constantFrom(0, 1, 20),
    timestamps: fc.boolean(),
    sack: fc.boolean(),
    delayedAckMs: fc.constantFrom(0, 40),
    segmentJitter: fc.constantFrom(0, 0.3),
    thinkMs: fc.constantFrom(0, 7),
    lagMs: fc.constantFrom(0, 3),
    windowScale: fc.constantFrom(0, 7),
  });

  it('all bytes arrive right, both ways', () => {
    fc.assert(
      fc.property(options, (o) => {
        const { timestamps, sack, delayedAckMs, segmentJitter, windowScale } = o;
        const tcp = { timestamps, sack, delayedAckMs, segmentJitter, windowScale };
        const lab = new Lab({
          seed: o.seed,
          faults: {
            loss: o.loss,
            duplication: o.duplication,
            corruption: o.corruption,
            jitterMs: o.jitterMs,
          },
          guest: { tcp, services: { thinkMs: o.thinkMs }, lagMs: o.lagMs, lagJitterMs: o.lagMs },
        });
        const tasks = [
          lab.client.download(host(2).ipv4, 'x-60000.bin'),
          lab.client.count(host(2).ipv6, 20, 2),
          lab.client.callBack(host(2).ipv4),
        ];
        expect(lab.until(() => tasks.every((task) => task.report !== null))).toBe(true);
        for (const task of tasks) expect(task.report!.problem).toBe(null);
      }),
      { numRuns: 60 },
    );
  });
});

describe('snapshot and restore', () => {
  it('goes on in mid-connection on another machine, again and again', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 40 }), (seed, everyMs) => {
        const lab = new Lab({ seed, guest: { tcp: { segmentJitter: 0.2 }, services: { thinkMs: 3 } } });
        const counter = lab.client.count(host(2).ipv4, 30, 5);
        const download = lab.client.download(host(2).ipv6, 'y-400000.bin');
        let moves = 0;
        while (counter.report === null || download.report === null) {
          lab.clock.advance(everyMs);
          lab.guest.stack.stop();
          const snapshot = lab.guest.snapshot();
          const random = new SeededRandom(seed + ++moves);
          lab.guest = new Guest({ ...lab.guestOptions, random });
          lab.guest.restore(snapshot);
          lab.guest.stack.start();
          expect(moves).toBeLessThan(60_000);
        }
        expect([counter.report!.problem, download.report!.problem]).toEqual([null, null]);
        expect(moves).toBeGreaterThan(2);
      }),
      { numRuns: 20 },
    );
  });

  it('what happened after the snapshot is forgotten', () => {
    const lab = new Lab();
    lab.guest.stack.stop();
    const before = lab.guest.snapshot();
    lab.guest.stack.start();
    const counter = lab.client.count(host(2).ipv4, 3, 1);
    lab.until(() => counter.report !== null);
    expect(lab.guest.stack.state.connectionId).toBe(2);
    lab.guest.stack.stop();
    lab.guest.restore(before);
    expect(lab.guest.stack.state.connectionId).toBe(1);
    expect(lab.guest.stack.nowMs()).toBe(0);
  });

  it('a connection that was being opened goes on on a machine with another clock (trap T10)', () => {
    const lab = new Lab({ guest: { clockRate: 1.5 } });
    lab.clock.advance(1000); // this machine is ahead of the next one by now
    const call = lab.client.callBack(host(2).ipv4);
    const opening = () =>
      [...lab.guest.stack.state.connections.values()].some(({ phase }) => phase === 'syn-sent');
    expect(lab.until(opening)).toBe(true);
    lab.guest.stack.stop();
    const snapshot = lab.guest.snapshot();
    lab.guest = new Guest({ ...lab.guestOptions, clockRate: 1 });
    lab.guest.restore(snapshot);
    lab.guest.stack.start();
    expect(lab.until(() => call.report !== null)).toBe(true);
    expect(call.report!.problem).toBeNull();
  });

  it('a stopped machine emits nothing and its time stands still', () => {
    const lab = new Lab();
    const download = lab.client.download(host(2).ipv4, 'z-500000.bin');
    lab.clock.advance(1.2);
    lab.guest.stack.stop();
    const timeMs = lab.guest.stack.nowMs();
    const { bytes } = download.progress;
    expect(bytes).toBeGreaterThan(0);
    lab.clock.advance(500);
    const arrived = download.progress.bytes;
    lab.clock.advance(5000);
    expect(download.progress.bytes).toBe(arrived);
    expect(lab.guest.stack.nowMs()).toBe(timeMs);
    lab.guest.stack.start();
    expect(lab.until(() => download.report !== null)).toBe(true);
    expect(download.report!.problem).toBe(null);
  });
});

describe('two copies of one guest', () => {
  /** Every TCP payload byte the guest emitted, by port and by position behind its own SYN; plus its ISNs. */
  function emitted(entropySeed: number): { streams: Map<number, string>; isns: number[]; frames: number } {
    const lab = new Lab({ seed: 7 });
    const streams = new Map<number, string>();
    const isns: number[] = [];
    let frames = 0;
    const view = new FrameView();
    lab.guest = new Guest({
      ...lab.guestOptions,
      random: new SeededRandom(entropySeed),
      tcp: { segmentJitter: 0.3 },
      transmit: (frame) => {
        frames++;
        if (parseFrame(frame, 0, frame.length, 0, view) === FrameKind.TCP) {
          if ((view.tcpFlags & TcpFlag.SYN) !== 0) isns.push(view.seq);
          const text = frame.toString('latin1', view.payload, view.payload + view.payloadBytes);
          streams.set(view.destinationPort, (streams.get(view.destinationPort) ?? '') + text);
        }
        lab.toClient.send(frame);
      },
    });
    lab.guest.stack.start();
    const tasks = [lab.client.download(host(2).ipv4, 'w-50000.bin'), lab.client.count(host(2).ipv4, 10, 1)];
    lab.until(() => tasks.every((task) => task.report !== null));
    return { streams, isns, frames };
  }

  it('differ in ISN and segmentation, not in what they say', () => {
    const one = emitted(1);
    const other = emitted(2);
    expect(one.isns.length).toBe(2);
    for (const isn of one.isns) expect(other.isns).not.toContain(isn);
    expect(one.frames).not.toBe(other.frames);
    expect([...one.streams.values()]).toEqual([...other.streams.values()]);
  });

  it('answer rand and time differently', () => {
    const answers = [1, 2].map((seed) => {
      const lab = new Lab({ seed });
      lab.clock.advance(seed);
      const rand = lab.client.divergent(host(2).ipv4, 'rand');
      const time = lab.client.divergent(host(2).ipv4, 'time');
      lab.until(() => rand.report !== null && time.report !== null);
      return [rand.answer, time.answer];
    });
    expect(answers[0]![0]).not.toBe(answers[1]![0]);
    expect(answers[0]![1]).not.toBe(answers[1]![1]);
    expect(answers[0]![0]).toMatch(/^rand=/);
  });
});

describe('what Linux does that a proxy must respect', () => {
  it('an ACK of bytes never sent is dropped with its data', () => {
    const lab = new Lab();
    const counter = lab.client.count(host(2).ipv4, 1000, 10);
    lab.until(() => counter.progress.answers === 3);
    const [clientSide] = lab.client.stack.state.connections.values();
    const [guestSide] = lab.guest.stack.state.connections.values();
    // the client believes to have got more than the guest ever sent
    clientSide!.rcvNxt = (clientSide!.rcvNxt + 1000) >>> 0;
    const taken = guestSide!.rcvNxt;
    lab.clock.advance(300);
    expect(guestSide!.rcvNxt).toBe(taken);
    expect(counter.progress.answers).toBeLessThan(5);
  });

  it('after a timeout an ACK still comes from behind all that was sent', () => {
    const lab = new Lab({ faults: { delayMs: 2 } });
    lab.client.upload(host(2).ipv4, 'dark', 400_000);
    lab.clock.advance(21);
    const [connection] = lab.client.stack.state.connections.values();
    const view = new FrameView();
    const acks = new Set<number>();
    lab.toGuest.send = (frame) => {
      parseFrame(frame, 0, frame.length, 0, view);
      if (connection!.timeouts > 0 && view.payloadBytes === 0) acks.add(view.seq >>> 0);
    };
    lab.clock.advance(3000); // the guest repeats what the client has, which is answered
    expect(connection!.sndNxt).not.toBe(connection!.sndMax);
    expect([...acks]).toEqual([connection!.sndMax]);
  });

  it('a timestamp that goes back is refused (PAWS)', () => {
    const lab = new Lab();
    const counter = lab.client.count(host(2).ipv4, 1000, 10);
    lab.until(() => counter.progress.answers === 3);
    lab.guest.stack.state.timestampOffset -= 100_000;
    lab.clock.advance(1000);
    expect(counter.progress.answers).toBeLessThan(5);
    lab.guest.stack.state.timestampOffset += 100_000;
    expect(lab.until(() => counter.progress.answers > 10)).toBe(true);
  });

  it('a segment for no connection is answered with a reset', () => {
    const lab = new Lab();
    const counter = lab.client.count(host(2).ipv4, 1000, 10);
    lab.until(() => counter.progress.answers === 2);
    lab.guest.stack.state.connections.clear();
    lab.guest.stack.state.byAddress.clear();
    expect(lab.until(() => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBe('the connection was reset');
  });
});

describe('frames', () => {
  it('with SACK blocks and data are not longer than the link takes', async () => {
    const lab = new Lab({ seed: 11, faults: { delayMs: 0.5, jitterMs: 0.5, loss: 0.02 } });
    let longest = 0;
    for (const wire of [lab.toGuest, lab.toClient]) {
      const send = wire.send.bind(wire);
      wire.send = (frame) => {
        longest = Math.max(longest, frame.length);
        send(frame);
      };
    }
    const tasks = [host(2).ipv4, host(2).ipv6].map((ip) => lab.client.upload(ip, 'both-ways', 200_000));
    expect(lab.until(() => tasks.every(({ report }) => report !== null))).toBe(true);
    expect(tasks.map(({ report }) => report?.problem)).toEqual([null, null]);
    expect(longest).toBe(14 + 1500);
  });
});

describe('fragments', () => {
  it.each([host(2).ipv4, host(2).ipv6])(
    'large datagrams go there and come back, whatever the order',
    (server) => {
      const lab = new Lab({ faults: { jitterMs: 3 }, vlan: 100 * 4096 + 7 });
      const echo = lab.client.udpEcho(server, {
        count: 20,
        everyMs: 1,
        answerMsMax: 500,
        payloadBytes: 5000,
      });
      expect(lab.until(() => echo.report !== null)).toBe(true);
      expect(echo.report).toMatchObject({ problem: null, answers: 20, lost: 0 });
    },
  );
});

describe('hostile input', () => {
  it('no bytes make a machine throw', () => {
    const lab = new Lab();
    const counter = lab.client.count(host(2).ipv4, 1000, 1);
    lab.until(() => counter.progress.answers === 2);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        lab.guest.stack.receive(Buffer.from(bytes), 0, bytes.length);
      }),
      { numRuns: 500 },
    );
    expect(lab.until(() => counter.progress.answers > 10)).toBe(true);
  });
});
