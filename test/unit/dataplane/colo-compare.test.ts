import { beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_COMPARE_LIMITS, type Divergence } from '../../../src/compare/verdict.js';
import { ColoCompare, type ColoCompareLink } from '../../../src/dataplane/colo-compare.js';
import type { FrameBatch } from '../../../src/link/link.js';
import { type MemoryLink, memoryLinkPair } from '../../../src/link/memory-link.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { buildTcp, buildUdp } from '../../../src/wire/build.js';
import { TcpFlag } from '../../../src/wire/frame-view.js';

const NAMES: readonly ColoCompareLink[] = ['primary-in', 'secondary-in', 'outdev', 'notify-dev'];
const addresses = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 80, destinationPort: 4000 };
const ACK = TcpFlag.ACK;
const SYN_ACK = TcpFlag.SYN | TcpFlag.ACK;

let clock: ManualClock;
let compare: ColoCompare;
let far: Record<ColoCompareLink, MemoryLink>;
let divergences: Divergence[];
let refused: string[];
const received = { outdev: [] as Buffer[], 'notify-dev': [] as Buffer[] };

beforeEach(async () => {
  clock = new ManualClock();
  divergences = [];
  refused = [];
  received.outdev = [];
  received['notify-dev'] = [];
  const near = {} as Record<ColoCompareLink, MemoryLink>;
  far = {} as Record<ColoCompareLink, MemoryLink>;
  for (const name of NAMES) [near[name], far[name]] = memoryLinkPair({ name });
  compare = new ColoCompare({
    links: near,
    clock,
    limits: DEFAULT_COMPARE_LIMITS,
    flowSeed: 1,
    expiredScanMs: 1000,
    events: {
      diverged: (divergence) => divergences.push(divergence),
      linkChanged() {},
      wordRefused: (word) => refused.push(word),
    },
  });
  for (const name of NAMES) {
    await far[name].open({
      receive: (batch: FrameBatch) => {
        if (name !== 'outdev' && name !== 'notify-dev') return;
        for (let index = 0; index < batch.count; index++) {
          const start = batch.offsets[index]!;
          received[name].push(Buffer.from(batch.slab.subarray(start, start + batch.lengths[index]!)));
        }
      },
      stateChanged() {},
    });
  }
  await compare.open();
});

function feed(name: ColoCompareLink, ...frames: Buffer[]): void {
  for (const frame of frames) far[name].send(frame, 0, frame.length, 0);
  far[name].flush();
  clock.advance(1);
}

const say = (word: string): void => feed('notify-dev', Buffer.from(word));
const words = (): string[] => received['notify-dev'].map(String);
const data = (seq: number, text: string, ack = 501): Buffer =>
  buildTcp({ ...addresses, seq, ack, flags: ACK, payload: Buffer.from(text) });
const synAck = (seq: number): Buffer => buildTcp({ ...addresses, seq, ack: 501, flags: SYN_ACK });
const datagram = (text: string): Buffer => buildUdp({ ...addresses, payload: Buffer.from(text) });

describe('colo-compare', () => {
  it('releases what both sent, and asks for a checkpoint about what only one or the other did', () => {
    feed('primary-in', datagram('same'));
    expect(received.outdev).toEqual([]);
    feed('secondary-in', datagram('same'));
    expect(received.outdev).toEqual([datagram('same')]);
    feed('primary-in', datagram('mine'));
    feed('secondary-in', datagram('other'));
    clock.advance(DEFAULT_COMPARE_LIMITS.reorderMsMax + 10);
    expect(divergences.map(({ reason }) => reason)).toEqual(['payload']);
    expect(words()).toEqual(['DO_CHECKPOINT']);
  });

  it('COLO_CHECKPOINT lets what is held go, once, in order, and ends the asking', () => {
    feed('primary-in', data(1001, 'one'), data(1004, 'two'));
    feed('secondary-in', data(1001, 'ONE'));
    expect(words()).toEqual(['DO_CHECKPOINT']);
    say('COLO_CHECKPOINT');
    expect(received.outdev).toEqual([data(1001, 'one'), data(1004, 'two')]);
    expect(compare.comparator.keptFrames).toBe(0);
    clock.advance(5000);
    expect(words()).toEqual(['DO_CHECKPOINT']);
  });

  it('asks again every scan cycle while no checkpoint comes; many divergences are one request', () => {
    feed('primary-in', data(1001, 'one'), datagram('x'));
    feed('secondary-in', data(1001, 'ONE'), datagram('y'));
    clock.advance(500);
    expect(divergences.length).toBe(2);
    expect(words().length).toBe(1);
    clock.advance(1000);
    expect(words().length).toBe(2);
  });

  it('knows the words of libxl, and tells of others', () => {
    say('COLO_USERSPACE_PROXY_INIT');
    expect(words()).toEqual(['COLO_COMPARE_GET_XEN_INIT']);
    say('COLO_USERSPACE_PROXY_INIT2');
    say('x'.repeat(1000));
    expect(refused).toEqual(['COLO_USERSPACE_PROXY_INIT2', 'x'.repeat(64)]);
    expect(words().length).toBe(1);
  });

  it.each(['primary', 'secondary'])(
    "the rewriter leaves the secondary's SYN-ACK as it is: the streams stay in step, the %s first",
    (first) => {
      if (first === 'primary') {
        feed('primary-in', synAck(1000));
        feed('secondary-in', synAck(777_000));
      } else {
        feed('secondary-in', synAck(777_000));
        feed('primary-in', synAck(1000));
      }
      expect(received.outdev).toEqual([synAck(1000)]);
      feed('primary-in', data(1001, 'hello'));
      feed('secondary-in', data(1001, 'hello'));
      expect(received.outdev.length).toBe(2);
      // the same ports again
      feed('secondary-in', synAck(888_000));
      feed('primary-in', synAck(90_000));
      feed('primary-in', data(90_001, 'again'));
      feed('secondary-in', data(90_001, 'again'));
      expect(received.outdev.length).toBe(4);
      clock.advance(10_000);
      expect(divergences).toEqual([]);
    },
  );

  it('frames that are none are counted', () => {
    feed('primary-in', Buffer.alloc(13));
    feed('secondary-in', Buffer.alloc(1));
    expect(compare.malformed).toBe(2);
  });
});
