import { describe, expect, it } from 'vitest';
import type { DivergenceFrame } from '../../../src/compare/verdict.js';
import { ClientFrames } from '../../../src/evidence/client-frames.js';
import { buildGratuitousArp } from '../../../src/wire/build.js';
import { Guest, viewOf } from '../compare/harness.js';

const guest = new Guest(1_000_000);
const other = new Guest(1_000_000, 0, { clientPort: 40_001 });
const version6 = new Guest(1_000_000, 0, { ipv6: true });

/** What evidence has of a frame of the guest: its beginning. */
function copyOf(frame: Buffer, bytesMax = 16_384): DivergenceFrame {
  const nothing = { payloadAt: 0, payloadBytes: 0, position: 0 };
  return {
    side: 'primary',
    bytes: frame.subarray(0, bytesMax),
    wireBytes: frame.length,
    atMs: 1,
    ...nothing,
  };
}

const answer = copyOf(guest.frame({ at: 1, data: 'answer' }));

describe("the clients' latest frames", () => {
  it('are found by the flow that a frame of the guest belongs to', () => {
    const kept = new ClientFrames();
    const asked = guest.fromClient({ at: 1, data: 'GET / HTTP/1.1' });
    const asked6 = version6.fromClient({ at: 1, data: 'GET /6' });
    kept.keep(viewOf(asked), 10);
    kept.keep(viewOf(other.fromClient({ at: 1, data: 'not this' })), 11);
    kept.keep(viewOf(asked6), 12);
    kept.keep(viewOf(guest.fromClient({ at: 15, data: '' })), 13);
    const found = kept.ofFlow(answer);
    expect(found.map(({ atMs }) => atMs)).toEqual([10, 13]);
    expect(found[0]).toMatchObject({ bytes: asked, wireBytes: asked.length });
    expect(kept.ofFlow(copyOf(version6.frame({ at: 1 })))).toMatchObject([{ bytes: asked6 }]);
  });

  it('are the last eight of the flow', () => {
    const kept = new ClientFrames();
    for (let at = 1; at <= 20; at++) kept.keep(viewOf(guest.fromClient({ at, data: 'x' })), at);
    expect(kept.ofFlow(answer).map(({ atMs }) => atMs)).toEqual([13, 14, 15, 16, 17, 18, 19, 20]);
  });

  it('are forgotten behind many others', () => {
    const kept = new ClientFrames();
    const [own, others] = [guest.fromClient({ at: 1 }), other.fromClient({ at: 1 })].map((frame) =>
      viewOf(frame),
    );
    kept.keep(own!, 1);
    for (let count = 0; count < 4095; count++) kept.keep(others!, 2);
    expect(kept.ofFlow(answer)).toHaveLength(1);
    kept.keep(others!, 3);
    expect(kept.ofFlow(answer)).toEqual([]);
  });

  it('are cut, and a longer one before leaves nothing behind a shorter one', () => {
    const kept = new ClientFrames();
    const long = guest.fromClient({ at: 1, data: Buffer.alloc(1400, 7) });
    const short = guest.fromClient({ at: 1401, data: 'x' });
    kept.keep(viewOf(long), 1);
    for (let count = 1; count < 4096; count++) kept.keep(viewOf(other.fromClient({ at: 1 })), 2);
    expect(kept.ofFlow(answer)).toMatchObject([{ bytes: long.subarray(0, 512), wireBytes: long.length }]);
    kept.keep(viewOf(short), 3);
    expect(kept.ofFlow(answer)).toMatchObject([{ bytes: short, wireBytes: short.length }]);
  });

  it('are found for a super-frame of which only the beginning is at hand', () => {
    const kept = new ClientFrames();
    kept.keep(viewOf(guest.fromClient({ at: 1, data: 'GET /' })), 1);
    const superFrame = copyOf(guest.frame({ at: 1, data: Buffer.alloc(60_000) }));
    expect(kept.ofFlow(superFrame)).toHaveLength(1);
  });

  it('without a flow are none of any flow', () => {
    const kept = new ClientFrames();
    kept.keep(viewOf(buildGratuitousArp('02:00:00:00:00:01', '10.0.0.1', 'request')), 1);
    expect(kept.ofFlow(answer)).toEqual([]);
  });
});
