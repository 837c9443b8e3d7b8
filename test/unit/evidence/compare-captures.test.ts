import { describe, expect, it } from 'vitest';
import { compareCaptures, type OpenCapture } from '../../../src/evidence/compare-captures.js';
import { inOrder } from '../../../src/evidence/in-order.js';
import { Guest, SYN } from '../compare/harness.js';

function captureOf(...frames: Buffer[]): OpenCapture {
  return () =>
    frames.map((bytes, index) => ({
      bytes,
      wireBytes: bytes.length,
      atMs: 1_700_000_000_000 + index,
      linkType: 1,
    }));
}

describe('two plain captures', () => {
  const [p, s] = [new Guest(1_000_000, 500), new Guest(3_000_000, 900)];
  const syn = p.fromClient({ flags: SYN, options: { windowScale: 7, mss: 1460 } });
  const primary = captureOf(syn, p.synAck(), p.frame({ at: 1, data: 'HTTP/1.1 200 OK\r\nDate: 1' }));

  it('the same bytes, cut differently, are equal', () => {
    const secondary = captureOf(
      syn,
      s.synAck(),
      s.frame({ at: 1, data: 'HTTP/1.1 ' }),
      s.frame({ at: 10, data: '200 OK\r\nDate: 1' }),
    );
    const found = compareCaptures(primary, secondary);
    expect(found).toMatchObject({
      guest: '10.0.0.2',
      frames: { client: 1, primary: 2, secondary: 3 },
      held: 0,
      divergences: [],
    });
  });

  it('what differs is explained, what is missing is told', () => {
    const other = captureOf(syn, s.synAck(), s.frame({ at: 1, data: 'HTTP/1.1 200 OK\r\nDate: 2' }));
    const found = compareCaptures(primary, other);
    expect(found.divergences.map(({ field }) => field)).toEqual(['HTTP header Date']);
    expect(found.held).toBe(1);
    const missing = compareCaptures(primary, captureOf(syn, s.synAck()));
    expect(missing.divergences.map(({ summary }) => summary.split(' (')[0])).toEqual([
      expect.stringMatching(/only the primary sent something$/),
    ]);
  });

  it('without a connection the guest must be named', () => {
    expect(() => compareCaptures(captureOf(syn), captureOf())).toThrow(/--guest ADDRESS/);
    expect(compareCaptures(captureOf(syn), captureOf(), '10.0.0.1').frames.primary).toBe(1);
  });

  it('frames that are a little out of order in a file are put right', () => {
    const frames = [...primary()];
    const shuffled = (): Iterable<(typeof frames)[number]> => inOrder([frames[2]!, frames[0]!, frames[1]!]);
    expect([...shuffled()]).toEqual(frames);
    const secondary = captureOf(syn, s.synAck(), s.frame({ at: 1, data: 'HTTP/1.1 200 OK\r\nDate: 1' }));
    expect(compareCaptures(() => [frames[2]!, frames[0]!, frames[1]!], secondary)).toMatchObject({
      held: 0,
      divergenceCount: 0,
    });
  });
});
