/** Periodic checkpoints: nothing is compared, everything waits for the commit. */
import { describe, expect, it } from 'vitest';
import { buildArp, buildUdp } from '../../../src/wire/build.js';
import { ACK, established, Guest, Harness, SYN } from './harness.js';

const udp = (payload: string): Buffer =>
  buildUdp({
    source: '10.0.0.2',
    destination: '10.0.0.1',
    sourcePort: 53,
    destinationPort: 9,
    payload: Buffer.from(payload),
  });

function buffering(limits = {}): Harness {
  const harness = new Harness(limits);
  harness.comparator.buffersOnly = true;
  return harness;
}

describe('an epoch that is only buffered', () => {
  it('shows nothing before the commit, agreeing or not, and then everything in order', () => {
    const harness = buffering();
    const p = new Guest(1_000_000);
    const s = new Guest(3_000_000);
    harness.client(p.fromClient({ flags: SYN }));
    const frames = [
      udp('same'),
      p.synAck(),
      udp('only the primary'),
      p.frame({ at: 1, data: 'one', ack: 9 }),
      p.frame({ at: 4, ack: 20 }),
      Buffer.alloc(60, 0xaa),
    ];
    harness.secondary(udp('same'));
    harness.secondary(s.synAck());
    for (const frame of frames) harness.primary(frame);
    harness.secondary(s.frame({ at: 1, data: 'other', ack: 9 }));
    harness.secondary(udp('only the secondary'));
    harness.pass(20_000);
    expect(harness.released).toEqual([]);
    expect(harness.divergences, 'nobody compares').toEqual([]);
    harness.commit();
    expect(harness.take().map(({ bytes, reason }) => [bytes.toString('hex'), reason])).toEqual(
      frames.map((frame) => [frame.toString('hex'), 'committed']),
    );
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('lets link control pass', () => {
    const harness = buffering();
    harness.primary(
      buildArp({
        operation: 2,
        senderMac: '52:54:00:00:00:01',
        senderIp: '10.0.0.2',
        targetIp: '10.0.0.1',
      }),
    );
    expect(harness.reasons).toEqual(['waived']);
  });

  it('asks for a checkpoint when it is nearly full', () => {
    const harness = buffering({ heldFramesMax: 64 });
    for (let index = 0; index < 60; index++) harness.primary(udp(`${index}`));
    expect(harness.divergences.map(({ reason }) => reason)).toEqual(['limit']);
  });

  it('is followed by comparing that knows where each side is', () => {
    const harness = buffering();
    const { p, s } = established(harness);
    harness.primary(p.frame({ at: 1, data: 'abc', ack: 1 }));
    harness.secondary(s.frame({ at: 1, data: 'xyz', ack: 1 }));
    harness.commit();
    harness.comparator.buffersOnly = false;
    harness.take();
    harness.primary(p.frame({ at: 4, data: 'def', ack: 1 }));
    expect(harness.released, 'waits for its like').toEqual([]);
    harness.secondary(p.frame({ at: 4, data: 'def', ack: 1 }));
    expect(harness.reasons).toEqual(['matched']);
    expect(harness.divergences).toEqual([]);
  });

  it('the primary dies: what the secondary said leaves, in its order', () => {
    const harness = buffering();
    const { s } = established(harness);
    harness.commit();
    const p = new Guest(1_000_000, 500);
    harness.take();
    const sent = [udp('s1'), p.frame({ at: 1, data: 'secondary', ack: 1 }), udp('s2')];
    harness.primary(udp('p1'));
    harness.primary(p.frame({ at: 1, data: 'primary!!', ack: 1 }));
    for (const frame of sent) harness.secondary(frame);
    expect(harness.comparator.dropPrimary()).toBe(2);
    const shown: string[] = [];
    harness.comparator.takeSecondary((bytes, offset, length) =>
      shown.push(bytes.toString('hex', offset, offset + length)),
    );
    harness.comparator.adoptSecondary();
    expect(shown).toEqual(sent.map((frame) => frame.toString('hex')));
    expect(harness.comparator.buffersOnly).toBe(false);
    expect(s.isn).not.toBe(p.isn);
  });

  it('the secondary dies: everything held leaves, and nothing is held any more', () => {
    const harness = buffering();
    const { p } = established(harness);
    harness.primary(p.frame({ at: 1, data: 'held', ack: 1, flags: ACK }));
    harness.comparator.releaseAllPrimary(harness.nowMs);
    expect(harness.reasons.at(-1)).toBe('survivor');
    expect(harness.comparator.buffersOnly).toBe(false);
    expect(harness.comparator.heldFrames).toBe(0);
  });
});
