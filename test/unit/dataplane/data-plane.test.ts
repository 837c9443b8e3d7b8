import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildArp, buildIcmp, buildIp, buildTcp, buildUdp, type TcpFields } from '../../../src/wire/build.js';
import { FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { anyFrame } from '../wire/arbitraries.js';
import { Rig } from './rig.js';

const seatsInTurn = ['client', 'primary', 'secondary'] as const;

const GUEST_MAC = '52:54:00:77:00:10';
const CLIENT_MAC = '02:00:00:00:00:01';
const GUEST = {
  sourceMac: GUEST_MAC,
  destinationMac: CLIENT_MAC,
  source: '10.0.0.2',
  destination: '10.0.0.1',
};
const CLIENT = {
  sourceMac: CLIENT_MAC,
  destinationMac: GUEST_MAC,
  source: '10.0.0.1',
  destination: '10.0.0.2',
};

function answer(text: string): Buffer {
  return buildUdp({ ...GUEST, sourcePort: 7, destinationPort: 4000, payload: Buffer.from(text) });
}

function request(text: string): Buffer {
  return buildUdp({ ...CLIENT, sourcePort: 4000, destinationPort: 7, payload: Buffer.from(text) });
}

function guestTcp(fields: Partial<TcpFields>): Buffer {
  return buildTcp({ ...GUEST, sourcePort: 80, destinationPort: 5000, window: 1000, ...fields } as TcpFields);
}

function clientTcp(fields: Partial<TcpFields>): Buffer {
  return buildTcp({ ...CLIENT, sourcePort: 5000, destinationPort: 80, window: 1000, ...fields } as TcpFields);
}

function seen(frame: Buffer): FrameView {
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  return view;
}

const texts = (frames: Buffer[]): string[] => frames.map((frame) => frame.subarray(42).toString());

describe('while there is no pair', () => {
  it('passes the primary’s traffic both ways and lets the secondary neither hear nor speak', async () => {
    const rig = await new Rig().open();
    rig.from('client', request('ask'));
    rig.from('primary', answer('yes'));
    rig.from('secondary', answer('no'));
    expect(texts(rig.take('primary'))).toEqual(['ask']);
    expect(rig.take('secondary')).toEqual([]);
    expect(texts(rig.take('client'))).toEqual(['yes']);
    expect(rig.plane.counters.framesReleased.unprotected).toBe(1);
    expect(rig.plane.counters.drops.void).toBe(1);
  });
});

describe('under protection', () => {
  it('mirrors client frames and lets the primary’s out when the secondary said the same', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    rig.from('client', request('ask'));
    expect(texts(rig.take('primary'))).toEqual(['ask']);
    expect(texts(rig.take('secondary'))).toEqual(['ask']);
    rig.from('primary', answer('yes'));
    expect(rig.take('client')).toEqual([]);
    rig.from('secondary', answer('yes'));
    expect(texts(rig.take('client'))).toEqual(['yes']);
  });

  it('shows a witness what both VMs are given, as the client sent it, and nothing without a pair', async () => {
    const shown: Buffer[] = [];
    const keep = (view: FrameView) => shown.push(Buffer.from(view.bytes.subarray(view.start, view.end)));
    const rig = await new Rig({}, { clientWitness: { keep } }).open();
    rig.from('client', request('alone'));
    await rig.checkpoint();
    const opening = { flags: TcpFlag.SYN | TcpFlag.ACK, ack: 1 };
    rig.from('primary', guestTcp({ ...opening, seq: 1000 }));
    rig.from('secondary', guestTcp({ ...opening, seq: 7000 }));
    const acknowledgement = clientTcp({ flags: TcpFlag.ACK, seq: 1, ack: 1001 });
    rig.from('client', request('both'), acknowledgement);
    expect(shown).toEqual([request('both'), acknowledgement]);
    expect(seen(rig.take('secondary').at(-1)!).ack).toBe(7001);
  });

  it('holds what the secondary contradicts, asks for a checkpoint, and releases it at the commit only', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    rig.from('primary', answer('one'));
    rig.from('secondary', answer('two'));
    rig.clock.advance(2000);
    expect(rig.take('client')).toEqual([]);
    expect(rig.divergences.length).toBeGreaterThan(0);
    await rig.plane.closeGate();
    await rig.plane.secondaryStopped();
    await rig.plane.primaryStopped();
    expect(rig.take('client')).toEqual([]);
    await rig.plane.commit();
    expect(texts(rig.take('client'))).toEqual(['one']);
  });

  it('does not take for missing what waited unread while the process could not run', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    rig.clock.advance(10);
    rig.from('primary', answer('a'));
    rig.clock.freeze(10_000);
    rig.clock.step();
    rig.from('secondary', answer('a'));
    rig.clock.advance(1000);
    expect(rig.divergences).toEqual([]);
    expect(rig.take('client')).toHaveLength(1);
  });

  it('takes for missing what is not there when the sockets were read after such a time', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    rig.clock.advance(10);
    rig.from('primary', answer('a'));
    rig.clock.freeze(10_000);
    rig.clock.step();
    expect(rig.divergences).toEqual([]);
    rig.clock.freeze(10_000);
    rig.clock.step();
    expect(rig.divergences).toHaveLength(1);
  });

  it('T8: keeps client frames at the gate for both, and the secondary’s early output for the next epoch', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    await rig.plane.closeGate();
    rig.from('client', request('late'));
    expect(rig.take('primary')).toEqual([]);
    expect(rig.take('secondary')).toEqual([]);
    await rig.plane.secondaryStopped();
    await rig.plane.primaryStopped();
    rig.from('secondary', answer('next epoch')); // it runs before LOADED has been processed
    await rig.plane.commit();
    await rig.plane.openGate();
    expect(texts(rig.take('primary'))).toEqual(['late']);
    expect(texts(rig.take('secondary'))).toEqual(['late']);
    expect(rig.take('client')).toEqual([]);
    rig.from('primary', answer('next epoch'));
    expect(texts(rig.take('client'))).toEqual(['next epoch']);
    expect(rig.divergences).toEqual([]);
  });

  it('T8: what a VM sent before it stopped belongs to the ended epoch, even when it is read late', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    await rig.plane.closeGate();
    await rig.plane.secondaryStopped();
    rig.from('primary', answer('before the stop'));
    await rig.plane.primaryStopped();
    expect(rig.take('client')).toEqual([]);
    await rig.plane.commit();
    expect(texts(rig.take('client'))).toEqual(['before the stop']);
  });

  it('refuses the newest client frame of a full gate and counts it', async () => {
    const rig = await new Rig({ gate: { framesMax: 2, bytesMax: 1 << 20 } }).open();
    await rig.checkpoint();
    await rig.plane.closeGate();
    rig.from('client', request('a'), request('b'), request('c'));
    await rig.plane.openGate();
    expect(texts(rig.take('primary'))).toEqual(['a', 'b']);
    expect(rig.plane.counters.drops['gate-full']).toBe(1);
  });

  it('counts what the secondary said while it waited and nobody will compare', async () => {
    const rig = await new Rig({ parked: { framesMax: 2, bytesMax: 1 << 20 } }).open();
    await rig.checkpoint();
    await rig.plane.secondaryStopped();
    rig.from('secondary', answer('a'), answer('b'), answer('c'));
    rig.plane.continueOnPrimary();
    expect(rig.plane.counters.drops).toMatchObject({ 'parked-full': 1, void: 2 });
  });

  it('T9: both VMs get the same frames in the same order, whoever sent them', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    const asked = ['a', 'b', 'c', 'd'];
    rig.from('client', request('a'), request('b'));
    rig.from('client', request('c'));
    rig.from('client', request('d'));
    expect(texts(rig.take('primary'))).toEqual(asked);
    expect(texts(rig.take('secondary'))).toEqual(asked);
  });

  it('T5: translates a client’s acknowledgement into the secondary’s sequence space', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    rig.from('client', clientTcp({ seq: 1, flags: TcpFlag.SYN }));
    const synAck = { ack: 2, flags: TcpFlag.SYN | TcpFlag.ACK };
    rig.from('primary', guestTcp({ seq: 1_000_000, ...synAck }));
    rig.from('secondary', guestTcp({ seq: 5_000_000, ...synAck }));
    expect(rig.take('client').length).toBe(1);
    rig.take('primary');
    rig.take('secondary');
    rig.from('client', clientTcp({ seq: 2, ack: 1_000_001, flags: TcpFlag.ACK }));
    expect(seen(rig.take('primary')[0]!).ack).toBe(1_000_001);
    expect(seen(rig.take('secondary')[0]!).ack).toBe(5_000_001);
  });
});

describe('when a VM is gone', () => {
  async function connected(): Promise<Rig> {
    const rig = await new Rig().open();
    await rig.checkpoint();
    rig.from('client', clientTcp({ seq: 1, flags: TcpFlag.SYN }));
    const synAck = { ack: 2, flags: TcpFlag.SYN | TcpFlag.ACK };
    rig.from('primary', guestTcp({ seq: 1000, ...synAck }));
    rig.from('secondary', guestTcp({ seq: 9000, ...synAck }));
    rig.from('client', clientTcp({ seq: 2, ack: 1001, flags: TcpFlag.ACK }));
    for (const seat of ['client', 'primary', 'secondary'] as const) rig.take(seat);
    return rig;
  }
  const data = (seq: number, text: string): Buffer =>
    guestTcp({ seq, ack: 2, flags: TcpFlag.ACK | TcpFlag.PSH, payload: Buffer.from(text) });

  it.each([
    ['MD5', { md5: Buffer.alloc(16, 0x5a) }],
    ['AO', { raw: Buffer.from('1d10010212345678123456781234567812345678', 'hex').fill(0x01, 16) }],
  ])(
    'T11: a segment signed with %s passes untouched, is counted, and told once a tick',
    async (_name, options) => {
      const rig = await connected();
      const signed = clientTcp({ seq: 2, ack: 1001, flags: TcpFlag.ACK, options });
      expect(seen(signed).signed).toBe(true);
      rig.from('client', Buffer.from(signed), Buffer.from(signed));
      expect(rig.take('secondary').map((frame) => frame.equals(signed))).toEqual([true, true]);
      expect(rig.plane.flows.state.signedUntouched).toBe(2);
      rig.clock.advance(20);
      expect(rig.signed).toBe(2);
      // the same without a signature is translated, and nothing is told
      rig.from('client', clientTcp({ seq: 2, ack: 1001, flags: TcpFlag.ACK }));
      expect(seen(rig.take('secondary')[0]!).ack).toBe(9001);
      rig.clock.advance(20);
      expect(rig.signed).toBe(2);
    },
  );

  it('T28: drops what only the primary said, gives out what only the secondary said, and translates on', async () => {
    const rig = await connected();
    rig.from('primary', data(1001, 'primary alone'));
    rig.from('secondary', data(9001, 'hello'));
    rig.clock.advance(1);
    rig.take('client');
    rig.plane.promoteSecondary();
    rig.plane.releaseSurvivor();
    const [first] = rig.take('client');
    expect(seen(first!).seq).toBe(1001);
    expect(first!.subarray(seen(first!).payload).toString()).toBe('hello');
    rig.from('client', clientTcp({ seq: 2, ack: 1006, flags: TcpFlag.ACK }));
    expect(rig.take('primary')).toEqual([]);
    expect(seen(rig.take('secondary')[0]!).ack).toBe(9006);
    rig.from('secondary', data(9006, 'more'));
    expect(seen(rig.take('client')[0]!).seq).toBe(1006);
    rig.from('primary', data(1001, 'a ghost'));
    expect(rig.take('client')).toEqual([]);
  });

  it('T28: fragments and ICMP errors of a connection that lived through it are translated like its segments', async () => {
    const rig = await connected();
    rig.plane.promoteSecondary();
    rig.plane.releaseSurvivor();
    const piece = (ends: typeof GUEST, segment: Buffer, from: number, to: number): Buffer =>
      buildIp(
        { ...ends, id: 5, fragment: { offset: from, more: to < segment.length - 34 } },
        6,
        segment.subarray(34 + from, 34 + to),
      );
    const answered = data(9001, 'a segment in two pieces');
    const pieces = [piece(GUEST, answered, 0, 24), piece(GUEST, answered, 24, answered.length - 34)];
    rig.from('secondary', ...pieces.map((frame) => Buffer.from(frame)));
    const [first, last] = rig.take('client');
    expect(first!.readUInt32BE(34 + 4)).toBe(1001);
    expect(last!.equals(pieces[1]!)).toBe(true);
    // together they are the segment that the client should get, checksum and all
    expect(
      Buffer.concat([first!.subarray(34), last!.subarray(34)]).equals(
        data(1001, 'a segment in two pieces').subarray(34),
      ),
    ).toBe(true);

    const asked = clientTcp({
      seq: 2,
      ack: 1024,
      flags: TcpFlag.ACK,
      payload: Buffer.from('also in pieces'),
    });
    rig.from('client', piece(CLIENT, asked, 0, 24), piece(CLIENT, asked, 24, asked.length - 34));
    const [told, rest] = rig.take('secondary');
    expect(told!.readUInt32BE(34 + 8)).toBe(9024);
    expect(rest!.subarray(34).equals(asked.subarray(34 + 24))).toBe(true);

    const quote = clientTcp({ seq: 2, ack: 9024, flags: TcpFlag.ACK }).subarray(14);
    rig.from('secondary', buildIcmp({ ...GUEST, type: 3, code: 2, payload: quote }));
    const [error] = rig.take('client');
    expect(
      error!.subarray(42).equals(clientTcp({ seq: 2, ack: 1024, flags: TcpFlag.ACK }).subarray(14)),
    ).toBe(true);
  });

  it('T27: releases everything held, in order, when the secondary is void', async () => {
    const rig = await connected();
    rig.from('primary', data(1001, 'one'), data(1004, 'two'));
    expect(rig.take('client')).toEqual([]);
    await rig.plane.closeGate();
    rig.from('client', clientTcp({ seq: 2, ack: 1001, flags: TcpFlag.ACK, payload: Buffer.from('x') }));
    rig.plane.continueOnPrimary();
    expect(rig.take('client').map((frame) => seen(frame).seq)).toEqual([1001, 1004]);
    expect(rig.take('primary').length).toBe(1);
    expect(rig.take('secondary')).toEqual([]);
    rig.from('secondary', data(9001, 'void'));
    expect(rig.take('client')).toEqual([]);
  });
});

describe('hostile and mistaken input', () => {
  it('drops client frames that carry the guest’s own MAC, counts them and tells', async () => {
    const rig = await new Rig().open();
    rig.from('primary', answer('this is me'));
    rig.from('client', answer('an echo of me'));
    rig.clock.advance(10);
    expect(rig.take('primary')).toEqual([]);
    expect(rig.plane.counters.drops.loop).toBe(1);
    expect(rig.loops).toBe(1);
  });

  it('limits broadcasts, with a counter', async () => {
    const rig = await new Rig({ broadcastPerSecondMax: 10 }).open();
    const ask = buildArp({ operation: 1, senderMac: CLIENT_MAC, senderIp: '10.0.0.1', targetIp: '10.0.0.2' });
    rig.clock.advance(1000);
    rig.from('client', ...Array.from({ length: 50 }, () => ask));
    expect(rig.take('primary').length).toBe(10);
    expect(rig.plane.counters.drops['broadcast-limit']).toBe(40);
  });

  it('takes any bytes on any link in any mode without throwing, and holds nothing after a commit', async () => {
    const base = [request('abc'), answer('abc'), guestTcp({ seq: 1, ack: 1, flags: TcpFlag.ACK })];
    const frame = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.record({ of: fc.constantFrom(...base), at: fc.nat(100), to: fc.nat(255) }).map(({ of, at, to }) => {
        const bytes = Buffer.from(of);
        bytes[at % bytes.length] = to;
        return bytes;
      }),
    );
    const step = fc.record({
      seat: fc.constantFrom('client' as const, 'primary' as const, 'secondary' as const),
      frames: fc.array(frame, { minLength: 1, maxLength: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 30 }), async (isProtected, steps) => {
        const rig = await new Rig().open();
        if (isProtected) await rig.checkpoint();
        for (const { seat, frames } of steps) {
          rig.from(seat, ...frames);
          rig.clock.advance(7);
        }
        await rig.checkpoint();
        expect(rig.plane.comparator.heldFrames).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it('takes frames of 0 to 65,550 bytes on any side, whatever they claim to be', async () => {
    const rig = await new Rig().open();
    await rig.checkpoint();
    const heads = [request('abc'), answer('abc'), guestTcp({ seq: 1, ack: 1, flags: TcpFlag.ACK })];
    const seats = ['client', 'primary', 'secondary'] as const;
    let sent = 0;
    for (const bytes of [0, 1, 13, 14, 15, 33, 34, 53, 54, 60, 1514, 9014, 65_535, 65_549, 65_550]) {
      for (const [index, head] of heads.entries()) {
        const frame = Buffer.alloc(bytes, index * 85);
        head.copy(frame);
        // the length field says what there is room for, more than that, or nothing
        if (bytes > 18) frame.writeUInt16BE([Math.min(bytes - 14, 0xffff), 0xffff, 0][index]!, 16);
        for (const seat of seats) rig.from(seat, frame);
        sent++;
      }
      rig.clock.advance(3);
    }
    rig.clock.advance(2000);
    await rig.checkpoint();
    const { comparator, counters } = rig.plane;
    expect(comparator.heldFrames + comparator.heldBytes + comparator.keptFrames + comparator.keptBytes).toBe(
      0,
    );
    const released = Object.values(counters.framesReleased).reduce((sum, count) => sum + count, 0);
    const refused = counters.drops.malformed + (comparator.unstorable[0] ?? 0);
    expect(released).toBeGreaterThan(0);
    expect(released).toBeLessThanOrEqual(sent);
    // what is shorter than an Ethernet header is counted, on either VM's side
    expect(refused).toBeGreaterThanOrEqual(2 * 2 * heads.length);
  });

  it('takes any frame of every kind and of any length, at every time of a pair, and never throws', async () => {
    const frame = fc
      .record({
        head: anyFrame,
        bytes: fc.oneof(
          fc.constant(-1),
          fc.nat(200),
          fc.nat(65_550),
          fc.constantFrom(65_535, 65_549, 65_550),
        ),
        edits: fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
        isHonest: fc.boolean(),
      })
      .map(({ head, bytes, edits, isHonest }) => {
        const whole = bytes === -1 ? Buffer.from(head) : Buffer.alloc(bytes, 0x45);
        if (bytes !== -1) head.copy(whole);
        for (const [at, value] of edits) if (at < whole.length) whole[at] = value;
        // an IPv4 packet that fills the frame
        if (isHonest && whole.length > 34 && whole.readUInt16BE(12) === 0x0800) {
          whole.writeUInt16BE(Math.min(whole.length - 14, 0xffff), 16);
        }
        return whole;
      });
    const seat = fc.constantFrom('client' as const, 'primary' as const, 'secondary' as const);
    const frames = fc.array(fc.tuple(seat, frame), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.array(frames, { minLength: 5, maxLength: 5 }), async (phases) => {
        const rig = await new Rig().open();
        const { plane } = rig;
        const say = (phase: number): void => {
          for (const [from, bytes] of phases[phase]!) {
            rig.from(from, bytes);
            // what was said before is said again, by whoever and of connections that are known
            rig.from(seatsInTurn[(phase + bytes.length) % 3]!, bytes);
          }
          rig.clock.advance(40);
        };
        say(0);
        await rig.checkpoint();
        say(1);
        await plane.closeGate();
        say(2);
        await plane.secondaryStopped();
        await plane.primaryStopped();
        await plane.commit();
        await plane.openGate();
        say(3);
        plane.promoteSecondary();
        plane.releaseSurvivor();
        say(4);
        const { comparator } = plane;
        expect(comparator.heldFrames + comparator.keptFrames + plane.gate.frames).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
