/** One or more tests for each trap of docs/design/traps.md that concerns TCP output, named after it. */
import { describe, expect, it } from 'vitest';
import { Verdict } from '../../../src/compare/verdict.js';
import { buildTcp } from '../../../src/wire/build.js';
import { ACK, established, FIN, Guest, Harness, PSH, RST, SYN, sound } from './harness.js';

const HELLO = 'hello world';

describe('T1: nothing leaves that the survivor could not go on from', () => {
  it('holds data until the secondary has produced it, then releases it at once', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    expect(harness.primary(p.frame({ at: 1, data: HELLO }))).toBe(Verdict.HOLD);
    expect(harness.released).toHaveLength(0);
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    expect(harness.reasons).toEqual(['matched']);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('releases at once what the secondary has produced before', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    expect(harness.comparator.keptFrames).toBe(1);
    expect(harness.primary(p.frame({ at: 1, data: HELLO }))).toBe(Verdict.RELEASE);
    expect(harness.comparator.keptFrames).toBe(0);
  });
});

describe('T2: acknowledgements', () => {
  it('holds a pure ack until the secondary has acknowledged as much', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    expect(harness.primary(p.frame({ at: 1, ack: 101 }))).toBe(Verdict.HOLD);
    harness.secondary(s.frame({ at: 1, ack: 51 }));
    expect(harness.released).toHaveLength(0);
    harness.secondary(s.frame({ at: 1, ack: 101 }));
    expect(harness.reasons).toEqual(['nothing-new']);
  });

  it('lowers the ack of a data segment, never below what was shown, and shows it in full later', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 51 }));
    harness.primary(p.frame({ at: 1, ack: 51 }));
    harness.take();
    harness.secondary(s.frame({ at: 1, data: HELLO, ack: 51 }));
    expect(harness.primary(p.frame({ at: 1, data: HELLO, ack: 101 }))).toBe(Verdict.RELEASE);
    const [lowered] = harness.take();
    expect((lowered!.view.ack - p.clientIsn) | 0).toBe(51);
    expect(sound(lowered!.view)).toBe(true);
    harness.secondary(s.frame({ at: 12, ack: 101 }));
    const [owed] = harness.take();
    expect((owed!.view.ack - p.clientIsn) | 0).toBe(101);
    expect(owed!.view.seq).toBe((p.isn + 12) >>> 0);
    expect(owed!.view.payloadBytes).toBe(0);
    expect(sound(owed!.view)).toBe(true);
    expect(harness.divergences).toHaveLength(0);
  });

  it('owes nothing once a newer segment has shown it', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO, ack: 1 }));
    harness.primary(p.frame({ at: 1, data: HELLO, ack: 101 }));
    harness.primary(p.frame({ at: 12, ack: 101 }));
    harness.take();
    harness.secondary(s.frame({ at: 12, ack: 101 }));
    expect(harness.take()).toHaveLength(1);
  });

  it('compares acks across the wrap', () => {
    const harness = new Harness();
    const p = new Guest(10, 0, { clientIsn: 0xfffffff0 });
    const s = new Guest(20, 0, { clientIsn: 0xfffffff0 });
    harness.primary(p.synAck());
    harness.secondary(s.synAck());
    harness.take();
    harness.secondary(s.frame({ at: 1, ack: 8 }));
    expect(harness.primary(p.frame({ at: 1, ack: 40 }))).toBe(Verdict.HOLD);
    harness.secondary(s.frame({ at: 1, ack: 40 }));
    expect(harness.released).toHaveLength(1);
  });

  it('never asks for a checkpoint early for ack lag alone', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    for (let index = 0; index < 100; index += 1) {
      harness.secondary(s.frame({ at: 1 + index, data: 'x' }));
      harness.primary(p.frame({ at: 1 + index, data: 'x' }));
    }
    harness.pass(10);
    expect(harness.comparator.holdMs).toBe(50);
    harness.primary(p.frame({ at: 101, ack: 500 }));
    harness.pass(400);
    expect(harness.divergences).toHaveLength(0);
    harness.pass(700);
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['primary-only']);
  });
});

describe('T3: windows', () => {
  it('lowers a window whose right edge is beyond the secondary one', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 101, window: 500 }));
    harness.primary(p.frame({ at: 1, ack: 101, window: 900 }));
    const [frame] = harness.take();
    expect(frame!.view.window).toBe(500);
    expect(sound(frame!.view)).toBe(true);
  });

  it('takes each side with its own scale', () => {
    const harness = new Harness();
    const p = new Guest(1, 0);
    const s = new Guest(2, 0);
    harness.client(p.fromClient({ flags: SYN, options: { windowScale: 2 } }));
    harness.primary(p.synAck({ windowScale: 3 }, 100));
    harness.secondary(s.synAck({ windowScale: 3 }, 100));
    harness.take();
    harness.secondary(s.frame({ at: 1, ack: 101, window: 100 }));
    harness.primary(p.frame({ at: 1, ack: 1, window: 113 }));
    // edge 1 + 904 against 101 + 800: shown as it is would be 4 bytes too far
    expect(harness.take()[0]!.view.window).toBe(112);
  });

  it('does not scale when the client does not', () => {
    const harness = new Harness();
    const p = new Guest(1, 0);
    const s = new Guest(2, 0);
    harness.client(p.fromClient({ flags: SYN }));
    harness.primary(p.synAck());
    harness.secondary(s.synAck());
    harness.take();
    harness.secondary(s.frame({ at: 1, ack: 101, window: 1000 }));
    harness.primary(p.frame({ at: 1, ack: 51, window: 2000 }));
    expect(harness.take()[0]!.view.window).toBe(1050);
  });

  it('does not close a window that the primary keeps open', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 2001, window: 0 }));
    expect(harness.primary(p.frame({ at: 1, ack: 2001, window: 100 }))).toBe(Verdict.HOLD);
    harness.secondary(s.frame({ at: 1, ack: 2001, window: 100 }));
    expect(harness.take()[0]!.view.window).toBe(100);
  });

  it('never moves the shown edge left', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 101, window: 800 }));
    harness.primary(p.frame({ at: 1, ack: 101, window: 800 }));
    harness.secondary(s.frame({ at: 1, ack: 101, window: 10 }));
    harness.primary(p.frame({ at: 1, ack: 101, window: 800 }));
    expect(harness.take().map((frame) => frame.view.window)).toEqual([800, 800]);
  });

  it('compares the raw fields of a flow picked up in mid-stream', () => {
    const harness = new Harness();
    const p = new Guest(1_000, 0);
    harness.secondary(p.frame({ at: 1, ack: 101, window: 300 }));
    harness.primary(p.frame({ at: 1, ack: 101, window: 400 }));
    expect(harness.take()[0]!.view.window).toBe(300);
  });
});

describe('T4: SACK', () => {
  const options = (blocks: [number, number][]) => ({ sack: blocks });

  it('passes blocks that the secondary has shown too', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    const block: [number, number] = [p.clientIsn + 201, p.clientIsn + 301];
    harness.secondary(s.frame({ at: 1, ack: 1, options: options([block]) }));
    harness.primary(p.frame({ at: 1, ack: 1, options: options([block]) }));
    expect(harness.take()[0]!.view.sackBlocks).toBe(1);
  });

  it('waits a little for them, then shows only what both hold, the rest as NOPs', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    const a: [number, number] = [p.clientIsn + 201, p.clientIsn + 301];
    const b: [number, number] = [p.clientIsn + 401, p.clientIsn + 501];
    harness.secondary(s.frame({ at: 1, ack: 1, options: options([[a[0], a[0] + 40]]) }));
    expect(harness.primary(p.frame({ at: 1, ack: 1, options: options([b, a]) }))).toBe(Verdict.HOLD);
    harness.pass(15);
    expect(harness.released).toHaveLength(0);
    harness.pass(10);
    const [frame] = harness.take();
    expect(frame!.view.sackBlocks).toBe(1);
    expect(frame!.view.bytes.readUInt32BE(frame!.view.sack)).toBe(a[0]);
    expect(frame!.view.bytes.readUInt32BE(frame!.view.sack + 4)).toBe(a[0] + 40);
    expect(sound(frame!.view)).toBe(true);
  });

  it('blanks the option when the secondary holds nothing of it', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 1 }));
    harness.primary(p.frame({ at: 1, ack: 1, options: options([[p.clientIsn + 201, p.clientIsn + 301]]) }));
    harness.pass(25);
    const [frame] = harness.take();
    expect(frame!.view.sackBlocks).toBe(0);
    expect(sound(frame!.view)).toBe(true);
  });

  it('passes a D-SACK of what both have acknowledged', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 301 }));
    harness.primary(p.frame({ at: 1, ack: 301, options: options([[p.clientIsn + 201, p.clientIsn + 301]]) }));
    expect(harness.take()[0]!.view.sackBlocks).toBe(1);
  });
});

describe('T5: initial sequence numbers', () => {
  it('holds the SYN-ACK until the secondary has answered too, and learns both differences', () => {
    const harness = new Harness();
    const p = new Guest(100, 7000);
    const s = new Guest(0xfffffff0, 6000);
    expect(harness.primary(p.synAck())).toBe(Verdict.HOLD);
    harness.secondary(s.synAck());
    expect(harness.reasons).toEqual(['matched']);
    const flow = harness.flow(p.synAck());
    expect(harness.flows.state.seqDelta[flow]).toBe(116);
    expect(harness.flows.state.tsDelta[flow]).toBe(1000);
  });

  it('learns from both SYNs when the guest opens', () => {
    const harness = new Harness();
    const p = new Guest(5000, 10);
    const s = new Guest(9000, 30);
    const options = { mss: 1460, windowScale: 7, sackPermitted: true };
    harness.secondary(s.frame({ flags: SYN, options }));
    harness.primary(p.frame({ flags: SYN, options }));
    expect(harness.reasons).toEqual(['matched']);
    expect(harness.flows.state.seqDelta[harness.flow(p.synAck())]).toBe(-4000);
  });

  it('takes a repeated SYN as one, and a SYN with a new number as another connection', () => {
    const harness = new Harness();
    const p = new Guest(5000);
    const s = new Guest(9000);
    harness.primary(p.frame({ flags: SYN }));
    harness.secondary(s.frame({ flags: SYN }));
    harness.primary(p.frame({ flags: SYN }));
    expect(harness.reasons).toEqual(['matched', 'retransmission']);
    const p2 = new Guest(70_000);
    const s2 = new Guest(50_000);
    harness.primary(p2.frame({ flags: SYN }));
    expect(harness.comparator.heldFrames).toBe(1);
    harness.secondary(s2.frame({ flags: SYN }));
    expect(harness.flows.state.seqDelta[harness.flow(p.frame({}))]).toBe(20_000);
    expect(harness.released).toHaveLength(3);
    expect(harness.divergences).toHaveLength(0);
  });

  it('survives the simultaneous open', () => {
    const harness = new Harness();
    const p = new Guest(5000);
    const s = new Guest(9000);
    harness.primary(p.frame({ flags: SYN }));
    harness.secondary(s.frame({ flags: SYN }));
    harness.client(p.fromClient({ flags: SYN }));
    harness.primary(p.frame({ flags: SYN | ACK, ack: 1 }));
    expect(harness.released).toHaveLength(1);
    harness.secondary(s.frame({ flags: SYN | ACK, ack: 1 }));
    expect(harness.released).toHaveLength(2);
    expect(harness.divergences).toHaveLength(0);
  });

  it('compares data in the SYN (fast open)', () => {
    const harness = new Harness();
    const p = new Guest(5000);
    const s = new Guest(9000);
    harness.primary(p.frame({ flags: SYN, data: HELLO }));
    harness.secondary(s.frame({ flags: SYN, data: 'hello' }));
    expect(harness.released).toHaveLength(0);
    harness.secondary(s.frame({ at: 6, data: ' world' }));
    expect(harness.released).toHaveLength(1);
    harness.primary(p.frame({ at: 12, data: 'more' }));
    harness.secondary(s.frame({ at: 12, data: 'more' }));
    expect(harness.reasons).toEqual(['matched', 'matched']);
  });

  it('follows another connection on the same ports', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    for (const side of ['secondary', 'primary'] as const) {
      const guest = side === 'primary' ? p : s;
      harness[side](guest.frame({ at: 1, data: HELLO, flags: ACK | FIN }));
    }
    harness.client(p.fromClient({ at: 1, ack: 13, flags: ACK | FIN }));
    harness.secondary(s.frame({ at: 13, ack: 2 }));
    harness.primary(p.frame({ at: 13, ack: 2 }));
    expect(harness.take()).toHaveLength(2);
    for (const order of ['secondary first', 'primary first']) {
      const isn = order === 'primary first' ? 77_000 : 99_000;
      const p2 = new Guest(isn, 0, { clientIsn: isn + 1 });
      const s2 = new Guest(isn * 3, 0, { clientIsn: isn + 1 });
      harness.client(p2.fromClient({ flags: SYN }));
      if (order === 'primary first') harness.primary(p2.synAck());
      harness.secondary(s2.synAck());
      if (order !== 'primary first') harness.primary(p2.synAck());
      harness.secondary(s2.frame({ at: 1, data: 'again' }));
      harness.primary(p2.frame({ at: 1, data: 'again' }));
      expect(harness.take()).toHaveLength(2);
    }
    expect(harness.divergences).toHaveLength(0);
  });
});

describe('T12: streams, not packets', () => {
  it('counts FIN as a position, with or without data', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.primary(p.frame({ at: 1, data: HELLO, flags: ACK | FIN }));
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    expect(harness.released).toHaveLength(0);
    harness.secondary(s.frame({ at: 12, flags: ACK | FIN }));
    expect(harness.reasons).toEqual(['matched']);
  });

  it('FIN where the other side has data is a divergence, whichever ends first', () => {
    const shorter = new Harness();
    const a = established(shorter);
    shorter.primary(a.p.frame({ at: 1, data: 'hello', flags: ACK | FIN }));
    shorter.secondary(a.s.frame({ at: 1, data: HELLO }));
    expect(shorter.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['length', 5]]);

    const longer = new Harness();
    const b = established(longer);
    longer.primary(b.p.frame({ at: 1, data: HELLO }));
    longer.secondary(b.s.frame({ at: 1, data: 'hello', flags: ACK | FIN }));
    expect(longer.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['length', 5]]);
    expect(longer.released).toHaveLength(0);
  });

  it('RST leaves only with the secondary RST at the same position', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    expect(harness.primary(p.frame({ at: 1, flags: RST | ACK }))).toBe(Verdict.HOLD);
    harness.secondary(s.frame({ at: 5, flags: RST | ACK }));
    expect(harness.released).toHaveLength(0);
    harness.secondary(s.frame({ at: 1, flags: RST | ACK }));
    expect(harness.reasons).toEqual(['matched']);
  });

  it('a RST that only the primary sends waits for a checkpoint', () => {
    const harness = new Harness();
    const { p } = established(harness);
    harness.primary(p.frame({ at: 1, flags: RST }));
    harness.pass(1100);
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['primary-only']);
    harness.commit();
    expect(harness.reasons).toEqual(['committed']);
  });

  it('a RST that answers a SYN to a closed port matches', () => {
    const harness = new Harness();
    const p = new Guest(0);
    harness.primary(p.frame({ at: 0, flags: RST | ACK, ack: 1, window: 0 }));
    harness.secondary(p.frame({ at: 0, flags: RST | ACK, ack: 1, window: 0 }));
    expect(harness.reasons).toEqual(['matched']);
  });

  it('what the secondary has not sent yet is waited for, though it has sent what lies around it', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.primary(p.frame({ at: 1, data: 'abcdef' }));
    harness.secondary(s.frame({ at: 1, data: 'ab' }));
    harness.secondary(s.frame({ at: 5, data: 'ef' }));
    expect(harness.take()).toEqual([]);
    harness.secondary(s.frame({ at: 3, data: 'cd' }));
    expect(harness.reasons).toEqual(['matched']);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('what was verified of a segment that could not be held says nothing of the next', () => {
    const harness = new Harness({ heldBytesMax: 500 });
    const { p, s } = established(harness);
    const data = Buffer.from(Array.from({ length: 400 }, (_, index) => index % 251));
    harness.secondary(s.frame({ at: 1, data: data.subarray(0, 100) }));
    harness.primary(p.frame({ at: 1, data }));
    expect(harness.comparator.heldFrames).toBe(0);
    harness.secondary(s.frame({ at: 101, data: data.subarray(100, 220) }));
    harness.take();
    data[60] = 0xff;
    harness.primary(p.frame({ at: 51, data: data.subarray(50, 220) }));
    expect(harness.divergences.map(({ reason }) => reason)).toEqual(['limit']);
    expect(harness.released).toEqual([]);
  });

  it('keeps what the secondary sent to its last byte', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO, flags: ACK | FIN }));
    for (let index = 0; index < HELLO.length; index += 1) {
      expect(harness.primary(p.frame({ at: 1 + index, data: HELLO[index]! }))).toBe(Verdict.RELEASE);
    }
    expect(harness.comparator.keptFrames).toBe(1);
    expect(harness.primary(p.frame({ at: 12, flags: ACK | FIN }))).toBe(Verdict.RELEASE);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('a retransmission with the same content is free', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    harness.primary(p.frame({ at: 1, data: HELLO }));
    expect(harness.primary(p.frame({ at: 4, data: 'lo wo' }))).toBe(Verdict.RELEASE);
    expect(harness.reasons).toEqual(['matched', 'retransmission']);
  });

  it('a retransmission with other content is a divergence', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    harness.primary(p.frame({ at: 1, data: HELLO }));
    expect(harness.primary(p.frame({ at: 4, data: 'lo Wo' }))).toBe(Verdict.DIVERGED);
    expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([
      ['retransmission', 6],
    ]);
    expect(harness.released).toHaveLength(1);
  });

  it('a retransmission whose bytes have left the record needs the secondary to repeat it too', () => {
    const harness = new Harness({ releasedRecordBytesMax: 64 });
    const { p, s } = established(harness);
    for (let index = 0; index < 10; index += 1) {
      const data = Buffer.alloc(32, index);
      harness.secondary(s.frame({ at: 1 + index * 32, data }));
      harness.primary(p.frame({ at: 1 + index * 32, data }));
    }
    expect(harness.take()).toHaveLength(10);
    const first = { at: 1, data: Buffer.alloc(32, 0) };
    expect(harness.primary(p.frame(first))).toBe(Verdict.HOLD);
    harness.secondary(s.frame(first));
    expect(harness.reasons).toEqual(['retransmission']);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('crosses the wrap of the sequence space', () => {
    const harness = new Harness();
    const { p, s } = established(harness, 0xfffffffa, 12);
    harness.primary(p.frame({ at: 1, data: HELLO }));
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    harness.primary(p.frame({ at: 12, data: HELLO }));
    harness.secondary(s.frame({ at: 12, data: 'hellO world' }));
    expect(harness.released).toHaveLength(1);
    expect(harness.divergences[0]!.offset).toBe(15);
  });

  it('urgent data is compared in its place, and what the secondary has not called urgent waits', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    const urgent = (guest: Guest, data: string, pointer = 3) =>
      buildTcp({
        source: '10.0.0.2',
        destination: '10.0.0.1',
        sourcePort: 80,
        destinationPort: 40_000,
        seq: guest.isn + 1,
        ack: guest.clientIsn + 1,
        flags: ACK | PSH | 0x20,
        urgent: pointer,
        window: 10,
        payload: Buffer.from(data),
      });
    harness.primary(urgent(p, 'abc'));
    harness.secondary(urgent(s, 'abc', 2));
    expect(harness.released).toHaveLength(0);
    harness.secondary(urgent(s, 'abc'));
    expect(harness.released).toHaveLength(1);
    harness.primary(urgent(p, 'abc'));
    // the pointer may run ahead of the data, in a segment without any
    harness.primary(urgent(p, '', 9));
    expect(harness.reasons).toEqual(['matched', 'retransmission']);
    harness.secondary(urgent(s, '', 9));
    expect(harness.released).toHaveLength(3);
  });
});

describe('T13: segments without a partner', () => {
  it('keep-alives, probes and window updates leave at once', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO, ack: 101, window: 900 }));
    harness.primary(p.frame({ at: 1, data: HELLO, ack: 101 }));
    harness.client(p.fromClient({ at: 101, ack: 12 }));
    harness.take();
    expect(harness.primary(p.frame({ at: 11, ack: 101 }))).toBe(Verdict.RELEASE); // keep-alive
    expect(harness.primary(p.frame({ at: 11, data: '\0', ack: 101 }))).toBe(Verdict.RELEASE); // with a garbage byte
    expect(harness.primary(p.frame({ at: 12, ack: 101, window: 800 }))).toBe(Verdict.RELEASE); // window update
    expect(harness.primary(p.frame({ at: 12, ack: 101, window: 0 }))).toBe(Verdict.RELEASE); // closed window
    expect(harness.released).toHaveLength(4);
    expect(harness.divergences).toHaveLength(0);
  });
});

describe('T14: one-sided output', () => {
  it('of the primary asks once for a checkpoint after the hold timer, and leaves with it', () => {
    const harness = new Harness({ holdMsMax: 200 });
    const { p } = established(harness);
    harness.primary(p.frame({ at: 1, data: HELLO }));
    harness.pass(190);
    expect(harness.divergences).toHaveLength(0);
    harness.pass(500);
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['primary-only']);
    expect(Buffer.from(harness.divergences[0]!.primaryBytes).toString()).toBe(HELLO);
    harness.commit();
    expect(harness.reasons).toEqual(['committed']);
  });

  it('of the secondary never leaves and asks for a checkpoint too', () => {
    const harness = new Harness({ holdMsMax: 200 });
    const { s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    harness.secondary(new Guest(4, 0, { guestPort: 12_345 }).frame({ flags: SYN }));
    harness.pass(700);
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual([
      'secondary-only',
      'secondary-only',
    ]);
    harness.commit();
    expect(harness.released).toHaveLength(0);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('may still match after the timer: late is not wrong', () => {
    const harness = new Harness({ holdMsMax: 100 });
    const { p, s } = established(harness);
    harness.primary(p.frame({ at: 1, data: HELLO }));
    harness.pass(300);
    harness.secondary(s.frame({ at: 1, data: HELLO }));
    expect(harness.reasons).toEqual(['matched']);
  });

  it('waits as long as the lag between the VMs says', () => {
    const harness = new Harness({ holdMsMin: 50, holdMsMax: 1000 });
    const { p, s } = established(harness);
    for (let index = 0; index < 200; index += 1) {
      harness.primary(p.frame({ at: 1 + index, data: 'x' }));
      harness.pass(30);
      harness.secondary(s.frame({ at: 1 + index, data: 'x' }));
    }
    harness.pass(5);
    expect(harness.comparator.holdMs).toBeGreaterThan(100);
    expect(harness.comparator.holdMs).toBeLessThan(250);
  });
});

describe('T17, T18: padding and partial checksums', () => {
  it('padding is not payload', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: 'a' }));
    const padded = Buffer.concat([p.frame({ at: 1, data: 'a' }), Buffer.alloc(20, 9)]);
    expect(harness.primary(padded)).toBe(Verdict.RELEASE);
    expect(harness.released[0]!.bytes.equals(padded)).toBe(true);
  });

  it('a partial checksum stays as it is when ack and window are lowered', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: HELLO, ack: 51, window: 10 }));
    harness.vnetHeaderBytes = 10;
    const frame = buildTcp({
      source: '10.0.0.2',
      destination: '10.0.0.1',
      sourcePort: 80,
      destinationPort: 40_000,
      seq: p.isn + 1,
      ack: p.clientIsn + 101,
      flags: ACK,
      window: 20,
      payload: Buffer.from(HELLO),
      vnet: {},
      checksum: 'partial',
    });
    harness.primary(frame);
    const [released] = harness.take();
    const at = released!.view.l4 + 16;
    expect((released!.view.ack - p.clientIsn) | 0).toBe(51);
    expect(released!.bytes.readUInt16BE(at)).toBe(frame.readUInt16BE(at));
  });
});
