/** T15, T16, T19 to T21, T23, T31: everything that is not a TCP stream. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Verdict } from '../../../src/compare/verdict.js';
import { buildEcho, buildIcmp, buildIp, buildUdp, type IpFields } from '../../../src/wire/build.js';
import { established, Guest, Harness } from './harness.js';

const V4: IpFields = { source: '10.0.0.2', destination: '10.0.0.1' };
const V6: IpFields = { source: 'fd00::2', destination: 'fd00::1' };

const udp = (payload: string, more: Partial<IpFields> = {}): Buffer =>
  buildUdp({ ...V4, sourcePort: 53, destinationPort: 9, payload: Buffer.from(payload), ...more });
const texts = (harness: Harness): string[] =>
  harness.released.map(({ view }) =>
    view.bytes.subarray(view.payload, view.payload + view.payloadBytes).toString(),
  );

describe('T15: datagrams', () => {
  it('match in any order and leave in the primary order', () => {
    const harness = new Harness();
    for (const text of ['a', 'bb', 'c']) harness.primary(udp(text));
    harness.secondary(udp('c'));
    harness.secondary(udp('bb'));
    expect(harness.released).toHaveLength(0);
    expect(harness.comparator.keptFrames).toBe(2);
    harness.secondary(udp('a'));
    expect(texts(harness)).toEqual(['a', 'bb', 'c']);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('the same content twice needs it twice', () => {
    const harness = new Harness();
    harness.primary(udp('a'));
    harness.primary(udp('a'));
    harness.secondary(udp('a'));
    expect(harness.released).toHaveLength(1);
    harness.secondary(udp('a'));
    expect(harness.released).toHaveLength(2);
  });

  it('for any orders of equal multisets everything is released unchanged, in order, and nothing diverges', () => {
    const arbitrary = fc
      .array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 20 })
      .chain((contents) =>
        fc.tuple(
          fc.constant(contents),
          fc.shuffledSubarray(contents, { minLength: contents.length }),
          fc.array(fc.boolean(), { minLength: 1, maxLength: 10 }),
        ),
      );
    fc.assert(
      fc.property(arbitrary, ([primary, secondary, turns]) => {
        const harness = new Harness();
        let p = 0;
        let s = 0;
        for (let turn = 0; p < primary.length || s < secondary.length; turn += 1) {
          if ((turns[turn % turns.length]! && p < primary.length) || s === secondary.length) {
            harness.primary(udp(`text ${primary[p]}`, { id: p }));
            p += 1;
          } else {
            harness.secondary(udp(`text ${secondary[s]}`, { id: 1000 + s, ttl: 3 }));
            s += 1;
          }
        }
        expect(texts(harness)).toEqual(primary.map((content) => `text ${content}`));
        expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
        harness.pass(100);
        expect(harness.divergences).toHaveLength(0);
      }),
      { numRuns: 200 },
    );
  });

  it('different content diverges after the reorder window, not before', () => {
    const harness = new Harness();
    harness.primary(udp('time 12:00'));
    harness.secondary(udp('time 12:01'));
    harness.pass(15);
    expect(harness.divergences).toHaveLength(0);
    harness.pass(10);
    expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['payload', 9]]);
    harness.commit();
    expect(harness.reasons).toEqual(['committed']);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('different length is told as such', () => {
    const harness = new Harness();
    harness.primary(udp('abc'));
    harness.secondary(udp('abcd'));
    harness.pass(25);
    expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['length', 3]]);
  });

  it('ICMP echo replies match by identifier and sequence', () => {
    for (const ip of [V4, V6]) {
      const harness = new Harness();
      const reply = (sequence: number) => buildEcho({ ...ip, identifier: 5, sequence, reply: true });
      harness.primary(reply(1));
      harness.secondary(reply(2));
      expect(harness.released).toHaveLength(0);
      harness.secondary(reply(1));
      expect(harness.reasons).toEqual(['matched']);
    }
  });

  it('ICMP errors about a TCP segment match whatever ack the secondary was given', () => {
    const harness = new Harness();
    const error = (guest: Guest) =>
      buildIcmp({ ...V4, type: 3, code: 10, payload: guest.fromClient({ at: 1, ack: 5 }).subarray(14) });
    harness.primary(error(new Guest(1000)));
    harness.secondary(error(new Guest(777_000)));
    expect(harness.reasons).toEqual(['matched']);
    harness.primary(buildIcmp({ ...V4, type: 3, code: 9, payload: Buffer.alloc(28) }));
    harness.secondary(buildIcmp({ ...V4, type: 3, code: 10, payload: Buffer.alloc(28) }));
    expect(harness.released).toHaveLength(1);
  });

  it('any other IP protocol is compared as the payload of its packet', () => {
    const harness = new Harness();
    const gre = (text: string, id: number) => buildIp({ ...V4, id, ttl: 9 + id }, 47, Buffer.from(text));
    harness.primary(gre('tunnel', 1));
    harness.secondary(gre('tunnel', 2));
    expect(harness.reasons).toEqual(['matched']);
  });
});

describe('T16: headers that each VM fills in on its own', () => {
  it('id, TTL, TOS, DF, flow label and checksum are not compared, and the primary own bytes leave', () => {
    const harness = new Harness();
    const own = udp('x', { id: 7, ttl: 64, dontFragment: true });
    harness.primary(own);
    harness.secondary(udp('x', { id: 9, ttl: 63, trafficClass: 4, checksum: 'none' }));
    expect(harness.released[0]!.bytes.equals(own)).toBe(true);
    const v6 = buildUdp({
      ...V6,
      flowLabel: 5,
      sourcePort: 1,
      destinationPort: 2,
      payload: Buffer.from('y'),
    });
    harness.primary(v6);
    harness.secondary(
      buildUdp({ ...V6, flowLabel: 6, sourcePort: 1, destinationPort: 2, payload: Buffer.from('y') }),
    );
    expect(harness.released).toHaveLength(2);
  });
});

describe('T16: fragments', () => {
  const piece = (ip: IpFields, id: number, offset: number, more: boolean, text: string): Buffer =>
    buildIp({ ...ip, id, fragment: { offset, more } }, 17, Buffer.from(text));

  const whole = (ip: IpFields, id: number, data: string, cuts: readonly number[]): Buffer[] => {
    const ends = [...cuts, data.length];
    return ends.map((end, index) => {
      const offset = index === 0 ? 0 : ends[index - 1]!;
      return piece(ip, id, offset, index < cuts.length, data.slice(offset, end));
    });
  };
  const hex = (frames: readonly { bytes: Buffer }[]) => frames.map(({ bytes }) => bytes.toString('hex'));
  const TEXT = 'A datagram that is too long for one frame, by far.';

  it('are put together to compare, however each VM cut them, and leave as they came', () => {
    for (const ip of [V4, V6]) {
      const harness = new Harness();
      const own = whole(ip, 7, TEXT, [8, 24]);
      for (const frame of own) harness.primary(frame);
      const others = whole(ip, 900, TEXT, [16, 32, 40]).reverse();
      for (const frame of others.slice(0, 3)) harness.secondary(frame);
      expect(harness.released).toHaveLength(0);
      harness.secondary(others[3]!);
      expect(hex(harness.released)).toEqual(own.map((frame) => frame.toString('hex')));
      expect(harness.comparator.keptFrames + harness.comparator.heldFrames).toBe(0);
    }
  });

  it('for any cuts, order and interleaving of equal datagrams all leaves in order and nothing diverges', () => {
    const cuts = fc.uniqueArray(
      fc.integer({ min: 1, max: 6 }).map((n) => n * 8),
      { minLength: 1, maxLength: 5 },
    );
    const sorted = cuts.map((list) => list.sort((a, b) => a - b));
    const datagrams = fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), sorted, sorted), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(datagrams, fc.infiniteStream(fc.nat(1000)), (list, choices) => {
        const harness = new Harness();
        const pick = (below: number): number => choices.next().value % below;
        const shuffled = (frames: Buffer[]): Buffer[] => {
          const left = [...frames];
          return frames.map(() => left.splice(pick(left.length), 1)[0]!);
        };
        const own = shuffled(list.flatMap(([text, cut], id) => whole(V4, id, `${text}${TEXT}`, cut)));
        const others = shuffled(
          list.flatMap(([text, , cut], id) => whole(V4, 500 + id, `${text}${TEXT}`, cut)),
        );
        for (let p = 0, s = 0; p < own.length || s < others.length; ) {
          if (s === others.length || (p < own.length && pick(2) === 0)) harness.primary(own[p++]!);
          else harness.secondary(others[s++]!);
        }
        harness.pass(100);
        expect(hex(harness.released)).toEqual(own.map((frame) => frame.toString('hex')));
        expect(harness.comparator.keptFrames + harness.comparator.heldFrames).toBe(0);
        expect(harness.divergences).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  it('one byte that differs is told at its place in the whole, and nothing leaves before a commit', () => {
    const harness = new Harness();
    for (const frame of whole(V4, 7, TEXT, [8, 24])) harness.primary(frame);
    for (const frame of whole(V4, 7, TEXT.replace('too', 'tOo'), [16])) harness.secondary(frame);
    harness.pass(25);
    const at = TEXT.indexOf('too') + 1;
    expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['payload', at]]);
    expect(harness.released).toHaveLength(0);
    harness.commit();
    expect(harness.reasons).toEqual(['committed', 'committed', 'committed']);
  });

  it('that overlap, contradict their end or reach beyond 64 KiB are refused and wait for a checkpoint', () => {
    const attacks = [
      // as many bytes as there should be, with a hole
      [
        piece(V4, 7, 0, true, '0123456789abcdef'),
        piece(V4, 7, 8, true, '89ABCDEF'),
        piece(V4, 7, 24, false, 'last ...'),
      ],
      [
        piece(V4, 7, 0, true, '0123456789abcdef'),
        piece(V4, 7, 8, true, '89ABCDEF'),
        piece(V4, 7, 16, false, 'x'),
      ],
      [piece(V4, 7, 8, false, '01234567'), piece(V4, 7, 16, true, '89abcdef')],
      [
        piece(V4, 7, 16, false, '01234567'),
        piece(V4, 7, 0, true, '0'.repeat(16)),
        piece(V4, 7, 24, false, 'x'),
      ],
      [piece(V4, 7, 0, true, '01234567'), piece(V4, 7, 65_528, false, '0'.repeat(100))],
    ];
    for (const [index, attack] of attacks.entries()) {
      const harness = new Harness({ holdMsMax: 100 });
      for (const frame of attack) {
        harness.primary(frame);
        harness.secondary(frame);
      }
      // one is whole before its last piece contradicts it
      expect(harness.released, `${index}`).toHaveLength(index === 3 ? 2 : 0);
      harness.pass(200);
      expect(harness.divergences.length, `${index}`).toBeGreaterThanOrEqual(1);
      harness.commit();
      expect(harness.released).toHaveLength(attack.length);
      expect(harness.comparator.keptFrames).toBe(0);
    }
  });

  it('of TCP are compared as they are, header and all: they wait for a checkpoint, and match after it', () => {
    const harness = new Harness();
    const { p, s } = established(harness);
    const pieces = (guest: Guest, id: number): Buffer[] => {
      const l4 = guest.frame({ at: 1, data: 'a segment that is too long' }).subarray(34);
      return [
        buildIp({ ...V4, id, fragment: { offset: 0, more: true } }, 6, l4.subarray(0, 24)),
        buildIp({ ...V4, id, fragment: { offset: 24, more: false } }, 6, l4.subarray(24)),
      ];
    };
    for (const frame of pieces(p, 1)) harness.primary(frame);
    for (const frame of pieces(s, 2)) harness.secondary(frame);
    harness.pass(100);
    expect(harness.released).toHaveLength(0);
    expect(harness.divergences.map(({ reason, offset }) => [reason, offset])).toEqual([['payload', 5]]);
    harness.commit();
    expect(harness.reasons).toEqual(['committed', 'committed']);
    // the loaded secondary has the primary's numbers
    for (const frame of pieces(p, 3)) harness.primary(frame);
    for (const frame of pieces(p, 4)) harness.secondary(frame);
    expect(harness.reasons.slice(2)).toEqual(['matched', 'matched']);
  });

  it('a piece repeated byte for byte is no overlap', () => {
    const harness = new Harness();
    const [first, second] = whole(V4, 7, TEXT, [8]);
    for (const frame of [first!, first!, second!]) harness.primary(frame);
    for (const frame of [first!, second!]) harness.secondary(frame);
    expect(harness.released).toHaveLength(3);
    expect(harness.comparator.keptFrames + harness.comparator.heldFrames).toBe(0);
  });

  it('an identification that comes round again is another datagram', () => {
    const harness = new Harness();
    for (const secondaryId of [900, 333]) {
      for (const frame of whole(V4, 7, TEXT, [16])) harness.primary(frame);
      for (const frame of whole(V4, secondaryId, TEXT, [24])) harness.secondary(frame);
    }
    expect(harness.released).toHaveLength(4);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('of more datagrams than are put together at one time wait for a checkpoint', () => {
    const harness = new Harness();
    for (let id = 0; id < 600; id += 1) harness.primary(piece(V4, id, 0, true, '01234567'));
    harness.pass(2000);
    expect(harness.divergences).toHaveLength(1);
    harness.commit();
    expect(harness.released).toHaveLength(600);
  });
});

describe('T18: datagrams in other frames on each side', () => {
  /** Many datagrams of `gsoBytes` in one frame. */
  const superFrame = (text: string, gsoBytes: number): Buffer =>
    buildUdp({
      ...V4,
      sourcePort: 53,
      destinationPort: 9,
      payload: Buffer.from(text),
      checksum: 'partial',
      vnet: { gsoType: 5, gsoBytes },
    });
  const single = (text: string): Buffer =>
    buildUdp({ ...V4, sourcePort: 53, destinationPort: 9, payload: Buffer.from(text), vnet: {} });
  const withVnet = (): Harness => {
    const harness = new Harness();
    harness.vnetHeaderBytes = 10;
    return harness;
  };

  it('USO: the same super-frame of both matches', () => {
    const harness = withVnet();
    harness.primary(superFrame('aaaabbbb', 4));
    harness.secondary(superFrame('aaaabbbb', 4));
    expect(harness.reasons).toEqual(['matched']);
  });

  it.each([
    ['the same bytes cut into other datagrams', [superFrame('aaaabbbb', 4)], [superFrame('aaaabbbb', 8)]],
    ['a super-frame against one datagram', [superFrame('aaaabbbb', 4)], [single('aaaabbbb')]],
    ['a super-frame against its datagrams', [superFrame('aaaabbbb', 4)], [single('aaaa'), single('bbbb')]],
    ['datagrams against their super-frame', [single('aaaa'), single('bbbb')], [superFrame('aaaabbbb', 4)]],
  ])('USO: %s waits for a checkpoint, and asks for one', (_name, own, others) => {
    const harness = withVnet();
    for (const frame of own) harness.primary(frame);
    for (const frame of others) harness.secondary(frame);
    harness.pass(1100);
    expect(harness.released).toHaveLength(0);
    expect(harness.divergences).toHaveLength(1);
    harness.commit();
    expect(harness.released.map(({ bytes }) => bytes.toString('hex'))).toEqual(
      own.map((frame) => frame.toString('hex')),
    );
    expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
  });

  it.each([
    ['whole', 'in fragments'],
    ['in fragments', 'whole'],
  ])('a datagram %s and of the secondary %s waits for a checkpoint, and asks for one', (ownForm) => {
    const harness = new Harness();
    const whole = udp('a datagram of 27 bytes data');
    const l4 = whole.subarray(34);
    const pieces = [
      buildIp({ ...V4, id: 5, fragment: { offset: 0, more: true } }, 17, l4.subarray(0, 24)),
      buildIp({ ...V4, id: 5, fragment: { offset: 24, more: false } }, 17, l4.subarray(24)),
    ];
    const [own, others] = ownForm === 'whole' ? [[whole], pieces] : [pieces, [whole]];
    for (const frame of own) harness.primary(frame);
    for (const frame of others) harness.secondary(frame);
    harness.pass(1100);
    expect(harness.released).toHaveLength(0);
    expect(harness.divergences.map(({ reason }) => reason).sort()).toEqual([
      'primary-only',
      'secondary-only',
    ]);
    harness.commit();
    expect(harness.reasons).toEqual(own.map(() => 'committed'));
    expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
  });
});

describe('T20, T21: IPv6 and VLAN', () => {
  it('a flow in one VLAN is not that of another', () => {
    const harness = new Harness();
    harness.primary(udp('x', { vlans: [{ vid: 5 }] }));
    harness.secondary(udp('x', { vlans: [{ vid: 6 }] }));
    harness.secondary(udp('x'));
    expect(harness.released).toHaveLength(0);
    harness.secondary(udp('x', { vlans: [{ vid: 5 }] }));
    expect(harness.released).toHaveLength(1);
    expect(harness.flows.count).toBe(3);
  });

  it('datagrams over IPv6 are compared behind their extension headers, whatever flow label and hop limit say', () => {
    const harness = new Harness();
    const ends = { source: 'fd00::2', destination: 'fd00::1', extensionProtocol: 60 };
    // destination options: the next header is UDP, 8 bytes, padding
    const ipOptions = Buffer.from([17, 0, 1, 4, 0, 0, 0, 0]);
    const frames = harness.comparator;
    harness.primary(udp('x', { ...ends, ipOptions, flowLabel: 1 }));
    harness.secondary(udp('y', { ...ends, ipOptions, flowLabel: 2 }));
    expect([harness.released.length, frames.keptFrames]).toEqual([0, 1]);
    harness.secondary(udp('x', { ...ends, ipOptions, flowLabel: 3 }));
    expect(harness.released).toHaveLength(1);
  });
});

describe('T19, T31: link control and what is unknown', () => {
  const arp = Buffer.concat([
    Buffer.alloc(12, 1),
    Buffer.from('08060001080006040001', 'hex'),
    Buffer.alloc(20),
  ]);

  it('ARP of the primary leaves at once, counted as waived; that of the secondary never', () => {
    const harness = new Harness();
    expect(harness.primary(arp)).toBe(Verdict.WAIVED);
    harness.secondary(arp);
    expect(harness.reasons).toEqual(['waived']);
    expect(harness.comparator.secondaryIgnored).toBe(1);
  });

  it('what is unknown or malformed waits for a checkpoint that it asks for', () => {
    const harness = new Harness({ holdMsMax: 100 });
    const unknown = Buffer.concat([Buffer.alloc(12, 1), Buffer.from('88b5', 'hex'), Buffer.alloc(46)]);
    const malformed = udp('x').subarray(0, 24);
    expect(harness.primary(unknown)).toBe(Verdict.HOLD);
    expect(harness.primary(malformed)).toBe(Verdict.HOLD);
    expect(harness.primary(unknown)).toBe(Verdict.HOLD);
    harness.pass(200);
    // one for the flow of that EtherType, one for what has no flow
    expect(harness.divergences.map(({ reason, flow }) => [reason, flow])).toEqual([
      ['unknown', 'ethernet 0x88b5'],
      ['unknown', 'malformed'],
    ]);
    harness.commit();
    expect(harness.reasons).toEqual(['committed', 'committed', 'committed']);
  });
});

describe('T23: limits', () => {
  it('near a limit a checkpoint is asked for; what is stored is never lost; what cannot be is counted', () => {
    const harness = new Harness({ heldFramesMax: 16 });
    for (let index = 0; index < 20; index += 1) harness.primary(udp(`${index}`));
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['limit']);
    expect(harness.comparator.unstorable[0]).toBe(4);
    harness.commit();
    expect(harness.released).toHaveLength(16);
  });

  it('one flow has a limit of its own', () => {
    const harness = new Harness({ heldBytesPerFlowMax: 2000 });
    const { p } = established(harness);
    harness.primary(p.frame({ at: 1, data: Buffer.alloc(1400) }));
    expect(harness.divergences).toHaveLength(0);
    harness.primary(p.frame({ at: 1401, data: Buffer.alloc(1400) }));
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['limit']);
    expect(harness.comparator.heldFrames).toBe(2);
  });

  it('a full flow table holds what it cannot compare', () => {
    const harness = new Harness({ flowsMax: 2, holdMsMax: 100 });
    for (let port = 1; port <= 3; port += 1) harness.primary(new Guest(1, 0, { guestPort: port }).synAck());
    expect(harness.comparator.heldFrames).toBe(3);
    harness.pass(200);
    expect(harness.divergences.map((divergence) => divergence.reason)).toContain('limit');
    harness.commit();
    expect(harness.released).toHaveLength(3);
  });

  it('a guest that sends its stream backwards costs a bounded search', () => {
    const harness = new Harness();
    const { s } = established(harness);
    for (let index = 3000; index > 0; index -= 1)
      harness.secondary(s.frame({ at: 1 + index * 2, data: 'xy' }));
    expect(harness.comparator.keptFrames).toBeLessThanOrEqual(1100);
    expect(harness.divergences.map((divergence) => divergence.reason)).toEqual(['limit']);
  });
});

describe('T33: any bytes', () => {
  it('never throw, on either side, and never make room for themselves for ever', () => {
    const frames = [
      udp('abc'),
      new Guest(1).synAck(),
      new Guest(1).frame({ at: 1, data: 'hi' }),
      buildEcho({ ...V6, identifier: 1, sequence: 2 }),
    ];
    const mutated = fc
      .tuple(
        fc.constantFrom(...frames),
        fc.array(fc.tuple(fc.nat(90), fc.nat(255)), { maxLength: 6 }),
        fc.nat(100),
      )
      .map(([frame, edits, cut]) => {
        const copy = Buffer.from(frame.subarray(0, Math.max(0, frame.length - (cut > 60 ? cut - 60 : 0))));
        for (const [at, value] of edits) if (at < copy.length) copy[at] = value;
        return copy;
      });
    const any = fc.oneof(
      mutated,
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    );
    const step = fc.tuple(fc.constantFrom('primary', 'secondary', 'client', 'watch', 'commit', 'pass'), any);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const harness = new Harness({ heldFramesMax: 32, flowsMax: 8 });
        let primaries = 0;
        for (const [what, frame] of steps) {
          if (what === 'commit') harness.commit();
          else if (what === 'pass') harness.pass(60);
          else {
            harness[what as 'primary'](frame);
            if (what === 'primary') primaries += 1;
          }
        }
        harness.commit();
        expect(harness.comparator.heldFrames + harness.comparator.keptFrames).toBe(0);
        const released = harness.reasons.length - harness.comparator.releasesByReason[1]!;
        expect(released + harness.comparator.unstorable[0]!).toBeLessThanOrEqual(primaries);
      }),
      { numRuns: 300 },
    );
  });
});
