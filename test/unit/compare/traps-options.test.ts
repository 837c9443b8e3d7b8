/** T11: what the options of a SYN decide for all that follows. */
import { describe, expect, it } from 'vitest';
import { Verdict } from '../../../src/compare/verdict.js';
import { ACK, Guest, Harness, SYN } from './harness.js';

const HELLO = 'hello world';

describe('T11: options of the SYN', () => {
  const cases = {
    mss: { mss: 1400 },
    'window scale': { windowScale: 8 },
    'SACK permitted': { sackPermitted: false },
  };
  for (const [name, options] of Object.entries(cases)) {
    it(`a different ${name} is a divergence`, () => {
      const harness = new Harness();
      harness.primary(new Guest(1).synAck());
      harness.secondary(new Guest(2).synAck(options));
      expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['syn-options']);
      expect(harness.released).toHaveLength(0);
    });
  }

  it.each([undefined, 0, 1, 0x7fff, 0x8000, 0xffff])('an MSS of %s is equal to itself alone', (mss) => {
    for (const other of [undefined, 0, 1, 0x7fff, 0x8000, 0xffff]) {
      const harness = new Harness();
      const synAck = (guest: Guest, value: number | undefined) =>
        guest.frame({
          flags: SYN | ACK,
          options: { windowScale: 14, ...(value !== undefined && { mss: value }) },
        });
      harness.primary(synAck(new Guest(1), mss));
      harness.secondary(synAck(new Guest(2), other));
      expect(harness.divergences).toHaveLength(mss === other ? 0 : 1);
    }
  });

  it('timestamps on one side only are a divergence', () => {
    const harness = new Harness();
    const p = new Guest(1);
    harness.primary(p.frame({ flags: SYN | ACK, options: { mss: 1460, timestamp: { value: 1, echo: 2 } } }));
    harness.secondary(new Guest(2).frame({ flags: SYN | ACK, options: { mss: 1460 } }));
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['syn-options']);
  });

  it.each([SYN, SYN | ACK])(
    'the cookie of fast open is each VM own secret: not compared (flags %i)',
    (flags) => {
      const harness = new Harness();
      const options = (byte: number) => ({ mss: 1460, fastOpenCookie: Buffer.alloc(8, byte) });
      const own = new Guest(1).frame({ flags, options: options(0xaa) });
      harness.primary(own);
      harness.secondary(new Guest(2).frame({ flags, options: options(0xbb) }));
      expect(harness.reasons).toEqual(['matched']);
      expect(harness.released[0]!.bytes.equals(own)).toBe(true);
      // one VM has none at all, and the same data goes with the SYN or behind it
      const other = new Harness();
      other.primary(new Guest(1).frame({ flags, data: HELLO, options: options(0xaa) }));
      other.secondary(new Guest(2).frame({ flags, options: { mss: 1460 } }));
      expect(other.released).toHaveLength(0);
      other.secondary(new Guest(2).frame({ at: 1, data: HELLO, flags: ACK }));
      expect(other.reasons).toEqual(['matched']);
      expect(other.divergences).toHaveLength(0);
    },
  );

  it('a signed segment is never rewritten: it waits instead', () => {
    const harness = new Harness();
    const p = new Guest(1);
    const s = new Guest(2);
    const options = { md5: Buffer.alloc(16, 1) };
    harness.primary(p.frame({ flags: SYN | ACK, options }));
    harness.secondary(s.frame({ flags: SYN | ACK, options }));
    harness.take();
    harness.secondary(s.frame({ at: 1, data: HELLO, ack: 1, options }));
    expect(harness.primary(p.frame({ at: 1, data: HELLO, ack: 101, options }))).toBe(Verdict.HOLD);
    harness.secondary(s.frame({ at: 12, ack: 101, options }));
    expect((harness.take()[0]!.view.ack - p.clientIsn) | 0).toBe(101);
  });
});
