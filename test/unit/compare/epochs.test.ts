/** Checkpoints and failovers as the comparator sees them: T6, T7, T10, T25, T28, T30, half-open connections. */
import { describe, expect, it } from 'vitest';
import { FlowFlag } from '../../../src/flow/flow-state.js';
import { fromPrimary, toPrimary } from '../../../src/translate/translate.js';
import { buildUdp } from '../../../src/wire/build.js';
import { readU32 } from '../../../src/wire/bytes.js';
import { ACK, established, FIN, Guest, Harness, SYN, sound, viewOf } from './harness.js';

const udp = (payload: string, id = 0): Buffer =>
  buildUdp({
    source: '10.0.0.2',
    destination: '10.0.0.1',
    sourcePort: 53,
    destinationPort: 9,
    payload: Buffer.from(payload),
    id,
  });

describe('commit', () => {
  it('T30: releases everything held in the order it was emitted, across flows', () => {
    const harness = new Harness();
    const { p } = established(harness);
    const frames = [
      udp('a'),
      p.frame({ at: 1, data: 'one' }),
      udp('b'),
      p.frame({ at: 4, data: 'two' }),
      Buffer.alloc(60, 0xaa),
      udp('a'),
    ];
    for (const frame of frames) harness.primary(frame);
    expect(harness.released).toHaveLength(0);
    harness.commit();
    expect(harness.take().map((frame) => frame.bytes.toString('hex'))).toEqual(
      frames.map((frame) => frame.toString('hex')),
    );
  });

  it('T6: afterwards both sides are one: no difference, the primary acks and windows count for both', () => {
    const harness = new Harness();
    const { p } = established(harness);
    harness.primary(p.frame({ at: 1, data: 'hello', ack: 301 }));
    harness.secondary(new Guest(9, 0, { guestPort: 5 }).frame({ at: 1, data: 'x' }));
    harness.commit();
    harness.take();
    const flow = harness.flow(p.frame({}));
    expect(harness.flows.state.seqDelta[flow]).toBe(0);
    expect(harness.flows.state.tsDelta[flow]).toBe(0);
    // the secondary speaks in the primary's space now
    harness.secondary(p.frame({ at: 6, data: 'more', ack: 301 }));
    harness.primary(p.frame({ at: 6, data: 'more', ack: 301 }));
    harness.primary(p.frame({ at: 1, data: 'hello', ack: 301 }));
    expect(harness.reasons).toEqual(['matched', 'retransmission']);
    // a pure ack up to what the primary had acknowledged before needs nobody
    harness.primary(p.frame({ at: 10, ack: 301 }));
    expect(harness.released).toHaveLength(3);
    expect(harness.divergences).toHaveLength(0);
  });

  it('T6: a connection half open at the checkpoint goes on', () => {
    const harness = new Harness();
    const p = new Guest(1000, 5);
    const clientSyn = p.fromClient({ flags: SYN, options: { windowScale: 7 } });
    harness.client(clientSyn);
    harness.primary(p.synAck());
    harness.commit();
    expect(harness.reasons).toEqual(['committed']);
    harness.client(p.fromClient({ at: 1, ack: 1 }));
    expect(harness.flows.state.seqDelta[harness.flow(p.frame({}))]).toBe(0);
    harness.secondary(p.synAck());
    harness.primary(p.synAck());
    harness.primary(p.frame({ at: 1, data: 'hi' }));
    harness.secondary(p.frame({ at: 1, data: 'hi' }));
    expect(harness.released).toHaveLength(3);
    expect(harness.divergences).toHaveLength(0);
  });

  it("T6: half open with two ISNs, the loaded secondary repeats its SYN-ACK with the primary's", () => {
    const harness = new Harness();
    const p = new Guest(1000, 5);
    harness.client(p.fromClient({ flags: SYN, options: { windowScale: 7 } }));
    harness.primary(p.synAck());
    harness.secondary(new Guest(7000, 5).synAck());
    harness.commit();
    const flow = harness.flow(p.frame({}));
    harness.secondary(p.synAck());
    expect(harness.flows.state.seqDelta[flow]).toBe(0);
    expect(harness.flows.state.has(flow, FlowFlag.PAIRED)).toBe(true);
    expect(harness.flows.state.isnSecondary[flow]).toBe(harness.flows.state.isnPrimary[flow]);
    harness.client(p.fromClient({ at: 1, ack: 1 }));
    harness.take();
    harness.primary(p.frame({ at: 1, data: 'hi' }));
    harness.secondary(p.frame({ at: 1, data: 'hi' }));
    expect(harness.released).toHaveLength(1);
    expect(harness.divergences).toHaveLength(0);
  });

  it('T6: half open, and only the secondary had answered: it is forgotten', () => {
    const harness = new Harness();
    harness.client(new Guest(1).fromClient({ flags: SYN }));
    harness.secondary(new Guest(1).synAck());
    harness.commit();
    harness.primary(new Guest(5).synAck());
    harness.secondary(new Guest(6).synAck());
    expect(harness.flows.state.seqDelta[harness.flow(new Guest(5).frame({}))]).toBe(-1);
    expect(harness.released).toHaveLength(1);
  });

  it('T25: any number of contradictions of one flow ask once, and again in the next epoch', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    for (const epoch of [0, 1]) {
      const at = 1 + epoch * 10;
      const other = epoch === 0 ? s : p;
      for (let index = 0; index < 5; index += 1) {
        harness.secondary(other.frame({ at: at + index, data: 'x' }));
        harness.primary(p.frame({ at: at + index, data: 'y' }));
      }
      harness.pass(2000);
      expect(harness.divergences).toHaveLength(1 + epoch);
      if (epoch === 0) {
        harness.primary(p.frame({ at: 6, data: 'zzzzz' }));
        harness.commit();
      }
    }
  });

  it('an ack that was lowered is shown in full', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: 'hello' }));
    harness.primary(p.frame({ at: 1, data: 'hello', ack: 200 }));
    harness.take();
    harness.commit();
    const [owed] = harness.take();
    expect((owed!.view.ack - p.clientIsn) | 0).toBe(200);
    expect(sound(owed!.view)).toBe(true);
  });

  it('begins protection from what was watched', () => {
    const harness = new Harness();
    const p = new Guest(1000, 5);
    harness.client(p.fromClient({ flags: SYN, options: { windowScale: 7 } }));
    harness.watch(p.synAck());
    harness.watch(p.frame({ at: 1, data: 'hello', ack: 40 }));
    harness.commit();
    expect(harness.released).toHaveLength(0);
    harness.primary(p.frame({ at: 6, data: 'x', ack: 40 }));
    harness.secondary(p.frame({ at: 6, data: 'x', ack: 40 }));
    expect(harness.reasons).toEqual(['matched']);
    // what was shown before protection may be repeated by the primary alone
    harness.primary(p.frame({ at: 1, data: 'hello', ack: 40 }));
    expect(harness.reasons).toEqual(['matched', 'retransmission']);
    expect(harness.divergences).toHaveLength(0);
  });

  it('does not take a hole in what the client was shown for shown', () => {
    const harness = new Harness();
    const { p } = established(harness);
    harness.primary(p.frame({ at: 11, data: 'after a hole' }));
    harness.commit();
    harness.take();
    // repeated by one or both, in any order: shown before, or compared
    harness.secondary(p.frame({ at: 11, data: 'after a hole' }));
    harness.secondary(p.frame({ at: 1, data: '0123456789' }));
    harness.primary(p.frame({ at: 1, data: '0123456789' }));
    harness.primary(p.frame({ at: 11, data: 'after a hole' }));
    expect(harness.reasons).toEqual(['matched', 'retransmission']);
    expect(harness.comparator.keptFrames).toBe(0);
  });
});

describe('the secondary dies', () => {
  it('T27: everything held leaves in order', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 4, data: 'other' }));
    const frames = [udp('a'), p.frame({ at: 1, data: 'one' }), udp('b'), p.frame({ at: 4, data: 'two' })];
    for (const frame of frames) harness.primary(frame);
    harness.comparator.releaseAllPrimary(harness.nowMs);
    expect(harness.released.map((frame) => frame.bytes.toString('hex'))).toEqual(
      frames.map((frame) => frame.toString('hex')),
    );
    expect(new Set(harness.reasons)).toEqual(new Set(['survivor']));
    expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
    expect(harness.flows.state.seqDelta[harness.flow(p.frame({}))]).toBe(0);
  });
});

describe('the primary dies', () => {
  /** What the data plane does, frame by frame. */
  function failOver(harness: Harness): ReturnType<typeof viewOf>[] {
    harness.comparator.dropPrimary();
    harness.comparator.adoptSecondary();
    const out: ReturnType<typeof viewOf>[] = [];
    harness.comparator.takeSecondary((bytes, offset, length, vnet, flow) => {
      const view = viewOf(Buffer.from(bytes.subarray(offset - vnet, offset + length)), vnet);
      if (harness.flows.hasClientTranslation(flow)) fromPrimary(view, harness.flows, flow);
      out.push(view);
    });
    return out;
  }

  it('T28: the client gets what the secondary had sent and nobody had seen, in its own space', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    const stamped = (guest: Guest, at: number, data: string, stamp: number) =>
      guest.frame({ at, data, options: { timestamp: { value: guest.tsBase + stamp, echo: 3 } } });
    harness.secondary(stamped(s, 1, 'hello', 10));
    harness.primary(stamped(p, 1, 'hello', 10));
    harness.secondary(stamped(s, 6, 'world', 20));
    harness.secondary(udp('dns'));
    harness.primary(p.frame({ at: 6, data: 'never seen' }));
    harness.take();
    const out = failOver(harness);
    expect(out).toHaveLength(2);
    expect(out[0]!.seq).toBe((p.isn + 6) >>> 0);
    expect(out[0]!.bytes.subarray(out[0]!.payload).toString()).toBe('world');
    expect(readU32(out[0]!.bytes, out[0]!.timestamp)).toBe(520);
    expect(out.every((view) => sound(view))).toBe(true);
    expect(harness.released).toHaveLength(0);
    expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
  });

  it('gives the client the newest acknowledgement that only the secondary had sent', () => {
    const harness = new Harness();
    const { s, p } = established(harness);
    harness.secondary(s.frame({ at: 1, ack: 101 }));
    harness.secondary(s.frame({ at: 1, ack: 201 }));
    const out = failOver(harness);
    expect(out.map((view) => [(view.seq - p.isn) | 0, (view.ack - p.clientIsn) | 0])).toEqual([[1, 201]]);
  });

  it('T7, T10: the connection goes on translated, both ways, for life; TSval never goes back', () => {
    const harness = new Harness();
    const p = new Guest(1_000_000, 5000);
    const s = new Guest(3_000_000, 100);
    harness.client(p.fromClient({ flags: SYN }));
    harness.primary(p.synAck());
    harness.secondary(s.synAck());
    const stamp = (guest: Guest, after: number) => ({ timestamp: { value: guest.tsBase + after, echo: 1 } });
    harness.secondary(s.frame({ at: 1, data: 'hello', options: stamp(s, 10) }));
    harness.primary(p.frame({ at: 1, data: 'hello', options: stamp(p, 60) }));
    harness.take();
    failOver(harness);
    const flow = harness.flow(p.frame({}));
    expect(harness.flows.hasClientTranslation(flow)).toBe(true);

    for (const round of [0, 1]) {
      // the new primary's own clock is behind what the client was shown
      const view = viewOf(s.frame({ at: 6 + round, data: 'w', options: stamp(s, 20 + round) }));
      harness.comparator.watch(view, flow, harness.nowMs);
      fromPrimary(view, harness.flows, flow);
      expect((view.seq - p.isn) | 0).toBe(6 + round);
      expect(readU32(view.bytes, view.timestamp)).toBe(5060 + round);
      expect(sound(view)).toBe(true);
      const shown = readU32(view.bytes, view.timestamp);

      const answer = viewOf(
        p.fromClient({
          at: 1,
          ack: 7 + round,
          options: { timestamp: { value: 9, echo: shown }, sack: [[p.isn + 50, p.isn + 60]] },
        }),
      );
      harness.comparator.fromClient(answer, flow, harness.nowMs);
      toPrimary(answer, harness.flows, flow);
      expect((answer.ack - s.isn) | 0).toBe(7 + round);
      expect(readU32(answer.bytes, answer.sack)).toBe(s.isn + 50);
      expect(readU32(answer.bytes, answer.timestamp + 4)).toBe(s.tsBase + 20 + round);
      expect(sound(answer)).toBe(true);
      // a checkpoint with a new secondary leaves the client table alone
      harness.commit();
      expect(harness.flows.hasClientTranslation(flow)).toBe(true);
    }
    // compared again: both VMs in the new primary's space, released in it
    harness.secondary(s.frame({ at: 8, data: 'again' }));
    harness.primary(s.frame({ at: 8, data: 'again' }));
    expect(harness.reasons).toEqual(['matched']);
  });

  it('T7: a second failover adds up', () => {
    const harness = new Harness();
    const a = new Guest(1_000);
    const b = new Guest(50_000);
    harness.primary(a.synAck());
    harness.secondary(b.synAck());
    failOver(harness);
    harness.commit();
    const flow = harness.flow(a.frame({}));
    // after a checkpoint the third VM has the second one's numbers
    harness.secondary(b.frame({ at: 1, data: 'x' }));
    harness.primary(b.frame({ at: 1, data: 'x' }));
    failOver(harness);
    expect(harness.flows.state.clientSeqDelta[flow]).toBe(1_000 - 50_000);
    const view = viewOf(b.frame({ at: 2, data: 'y' }));
    harness.comparator.watch(view, flow, harness.nowMs);
    fromPrimary(view, harness.flows, flow);
    expect((view.seq - a.isn) | 0).toBe(2);
  });

  it('T7: a new connection on the same ports is nobody else', () => {
    const harness = new Harness();
    const { p } = established(harness);
    failOver(harness);
    const flow = harness.flow(p.frame({}));
    const next = new Guest(42);
    harness.client(next.fromClient({ flags: SYN }));
    harness.watch(next.synAck());
    expect(harness.flows.hasClientTranslation(flow)).toBe(false);
    expect(harness.flows.state.clientSeqDelta[flow]).toBe(0);
  });

  it('a connection that no client has seen yet is not translated', () => {
    const harness = new Harness();
    const s = new Guest(3_000_000);
    harness.secondary(s.synAck());
    const out = failOver(harness);
    expect(out).toHaveLength(1);
    expect(out[0]!.seq).toBe(3_000_000);
    expect(harness.flows.hasClientTranslation(harness.flow(s.frame({})))).toBe(false);
  });

  it('a frame whose half was shown is given whole: the client drops what it has', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    harness.secondary(s.frame({ at: 1, data: 'hello world', flags: ACK | FIN }));
    harness.primary(p.frame({ at: 1, data: 'hello' }));
    const out = failOver(harness);
    expect(out.map((view) => [(view.seq - p.isn) | 0, view.payloadBytes])).toEqual([[1, 11]]);
    expect(harness.flows.state.has(harness.flow(p.frame({})), FlowFlag.FIN_PRIMARY)).toBe(true);
  });
});
