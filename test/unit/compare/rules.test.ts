/** Rules: exceptions from comparing, written down with their why (trap T31 and the operator's choices). */
import { describe, expect, it, vi } from 'vitest';
import { checkRules, ruleScope } from '../../../src/compare/rule-checks.js';
import { compileRules } from '../../../src/compare/rules.js';
import { Verdict } from '../../../src/compare/verdict.js';
import { ruleSchema } from '../../../src/config/rule-schema.js';
import { buildEcho, buildEthernet, buildIcmp, buildIp, buildUdp } from '../../../src/wire/build.js';
import { Guest, Harness } from './harness.js';

type Input = Record<string, unknown>;

const rule = (fields: Input) =>
  ruleSchema.parse({ why: 'a reason', action: 'waive', protocol: 'udp', ...fields });
const harnessWith = (...rules: Input[]): Harness => new Harness({}, compileRules(rules.map(rule)));
const udp = (payload: string, guestPort = 53, destination = '10.0.0.1'): Buffer =>
  buildUdp({
    source: '10.0.0.2',
    destination,
    sourcePort: guestPort,
    destinationPort: 4000,
    payload: Buffer.from(payload),
  });

describe('waive', () => {
  it('lets the flow go at once, counted by rule; what the secondary says of it is thrown away', () => {
    const harness = harnessWith({ guestPort: 99 }, { guestPort: 53 });
    expect(harness.primary(udp('a'))).toBe(Verdict.WAIVED);
    harness.secondary(udp('b'));
    harness.pass(2000);
    expect(harness.reasons).toEqual(['waived']);
    expect(harness.divergences).toEqual([]);
    expect(harness.comparator.keptFrames).toBe(0);
    expect([...harness.comparator.waivedFrames]).toEqual([0, 0, 1]);
    expect([...harness.comparator.waivedBytes]).toEqual([0, 0, udp('a').length]);
  });

  it('leaves every other flow compared', () => {
    const harness = harnessWith({ guestPort: 53, client: '10.0.0.0/8' });
    expect(harness.primary(udp('a', 54))).toBe(Verdict.HOLD);
    expect(harness.primary(udp('a', 53, '11.0.0.1'))).toBe(Verdict.HOLD);
    expect(harness.comparator.heldFrames).toBe(2);
  });

  it('the first rule that fits decides, so that an exception may stand before', () => {
    const harness = harnessWith({ action: 'compare', client: '10.0.0.1' }, {});
    expect(harness.primary(udp('a'))).toBe(Verdict.HOLD);
    expect(harness.primary(udp('a', 53, '10.0.0.9'))).toBe(Verdict.WAIVED);
  });

  it('other rules hold from the next commit on, also for flows that are known', () => {
    const harness = harnessWith({ guestPort: 53 });
    expect(harness.primary(udp('a'))).toBe(Verdict.WAIVED);
    expect(harness.primary(udp('a', 54))).toBe(Verdict.HOLD);
    harness.comparator.reconfigure(compileRules([rule({ guestPort: 54 })]));
    expect(harness.primary(udp('b'))).toBe(Verdict.WAIVED);
    expect(harness.primary(udp('b', 54))).toBe(Verdict.HOLD);
    harness.comparator.commit(harness.nowMs);
    expect(harness.reasons).toEqual(['waived', 'waived', 'committed', 'committed']);
    expect(harness.primary(udp('c'))).toBe(Verdict.HOLD);
    expect(harness.primary(udp('c', 54))).toBe(Verdict.WAIVED);
    expect([...harness.comparator.waivedFrames]).toEqual([0, 1]);
  });

  it('a waived TCP connection is still translated for the secondary', () => {
    const harness = harnessWith({ protocol: 'tcp', guestPort: 80 });
    const [p, s] = [new Guest(1000), new Guest(901_000)];
    harness.primary(p.synAck());
    harness.secondary(s.synAck());
    const flow = harness.flow(p.synAck());
    expect(harness.flows.state.seqDelta[flow]).toBe(1000 - 901_000);
    expect(harness.primary(p.frame({ at: 1, data: 'p' }))).toBe(Verdict.WAIVED);
    harness.secondary(s.frame({ at: 1, data: 's' }));
    expect(harness.divergences).toEqual([]);
    expect(harness.comparator.keptFrames).toBe(0);
  });

  it('a rule that asks for ports does not let fragments go, which have none', () => {
    const harness = harnessWith({ guestPort: 53 });
    const fragment = { offset: 8, more: true };
    const frame = buildIp({ source: '10.0.0.2', destination: '10.0.0.1', fragment }, 17, Buffer.alloc(8));
    expect(harness.primary(frame)).toBe(Verdict.HOLD);
  });
});

describe('by ICMP type', () => {
  const ends = { source: '10.0.0.2', destination: '10.0.0.1' };
  const ends6 = { source: 'fd00::2', destination: 'fd00::1' };

  it('lets messages of that type go and no others, of ICMP and ICMPv6 each', () => {
    const harness = harnessWith({ protocol: 'icmp', icmpType: 11 }, { protocol: 'icmpv6', icmpType: 129 });
    const error = (type: number): Buffer => buildIcmp({ ...ends, type, code: 0, payload: Buffer.alloc(28) });
    const echo = (reply: boolean): Buffer => buildEcho({ ...ends6, identifier: 5, sequence: 1, reply });
    expect([error(11), error(3), echo(true), echo(false)].map((frame) => harness.primary(frame))).toEqual([
      Verdict.WAIVED,
      Verdict.HOLD,
      Verdict.WAIVED,
      Verdict.HOLD,
    ]);
    const fragment = { offset: 0, more: true };
    expect(harness.primary(buildIp({ ...ends, fragment }, 1, Buffer.alloc(8, 11)))).toBe(Verdict.HOLD);
    expect([...harness.comparator.waivedFrames]).toEqual([0, 1, 1]);
  });

  it('who opened an echo is known from the question to the answer', () => {
    const harness = harnessWith({ protocol: 'icmp', openedBy: 'guest' });
    const question = buildEcho({
      source: ends.destination,
      destination: ends.source,
      identifier: 5,
      sequence: 1,
    });
    harness.clientOpens(question);
    expect(harness.primary(buildEcho({ ...ends, identifier: 5, sequence: 1, reply: true }))).toBe(
      Verdict.HOLD,
    );
    // a question of its own with the same identifier is another flow
    expect(harness.primary(buildEcho({ ...ends, identifier: 5, sequence: 1 }))).toBe(Verdict.WAIVED);
  });
});

describe('by EtherType', () => {
  const ptp = (text: string, vid = 0): Buffer =>
    buildEthernet(vid === 0 ? {} : { vlans: [{ vid }] }, 0x88f7, Buffer.from(text.padEnd(46)));

  it('lets those frames go, of any VLAN or of one, looked up once', () => {
    const rules = compileRules([rule({ protocol: 'any', etherType: 0x88f7, vlan: 0 })]);
    const find = vi.spyOn(rules, 'find');
    const harness = new Harness({}, rules);
    for (let count = 0; count < 9; count += 1) {
      expect(harness.primary(ptp(`${count}`))).toBe(Verdict.WAIVED);
      harness.secondary(ptp('other'));
    }
    expect(harness.primary(ptp('x', 5))).toBe(Verdict.HOLD);
    expect(harness.primary(buildEthernet({}, 0x88f8, Buffer.alloc(46)))).toBe(Verdict.HOLD);
    expect(find).toHaveBeenCalledTimes(3);
    expect([...harness.comparator.waivedFrames]).toEqual([0, 9]);
    harness.commit();
    expect(harness.reasons.filter((reason) => reason === 'committed')).toHaveLength(2);
  });

  it('a rule for any protocol is one for IP alone: what is unknown still waits', () => {
    const harness = harnessWith({ protocol: 'any' });
    expect(harness.primary(ptp('x'))).toBe(Verdict.HOLD);
    expect(harness.primary(udp('x'))).toBe(Verdict.WAIVED);
    harness.pass(2000);
    expect(harness.divergences.map(({ reason, flow }) => [reason, flow])).toEqual([
      ['unknown', 'ethernet 0x88f7'],
    ]);
  });

  it('checkpoint asks for one at once, and once', () => {
    const harness = harnessWith({ action: 'checkpoint', protocol: 'any', etherType: 0x88f7 });
    harness.primary(ptp('x'));
    expect(harness.divergences.map(({ reason }) => reason)).toEqual(['rule']);
    harness.pass(2000);
    expect(harness.divergences).toHaveLength(1);
    harness.commit();
    expect(harness.reasons).toEqual(['committed']);
  });
});

describe('once per flow', () => {
  it('rules are looked through with the first frame of a flow, and again only when others hold', () => {
    const rules = compileRules([rule({ guestPort: 54 }), rule({ guestPort: 53 })]);
    const find = vi.spyOn(rules, 'find');
    const harness = new Harness({}, rules);
    for (let count = 0; count < 50; count += 1) {
      harness.primary(udp(`${count}`));
      harness.secondary(udp(`${count}`));
      harness.primary(udp(`${count}`, 99));
      harness.secondary(udp(`${count}`, 99));
      if (count % 10 === 9) harness.commit();
    }
    expect([...harness.comparator.waivedFrames]).toEqual([0, 0, 50]);
    expect(find).toHaveBeenCalledTimes(2);

    const others = compileRules([rule({ guestPort: 99 })]);
    const findOthers = vi.spyOn(others, 'find');
    harness.comparator.reconfigure(others);
    harness.commit();
    for (let count = 0; count < 50; count += 1) harness.primary(udp(`${count}`, 99));
    expect([...harness.comparator.waivedFrames]).toEqual([0, 50]);
    expect(find).toHaveBeenCalledTimes(2);
    expect(findOthers).toHaveBeenCalledTimes(1);
  });
});

describe('checkpoint', () => {
  it('compares nothing and asks at once, once an epoch', () => {
    const harness = harnessWith({ action: 'checkpoint' });
    harness.secondary(udp('a'));
    expect(harness.primary(udp('a'))).toBe(Verdict.HOLD);
    harness.primary(udp('a'));
    expect(harness.divergences.map(({ reason }) => reason)).toEqual(['rule']);
    harness.secondary(udp('a'));
    harness.pass(2000);
    expect(harness.released).toEqual([]);
    harness.commit();
    expect(harness.reasons).toEqual(['committed', 'committed']);
    harness.primary(udp('a'));
    expect(harness.divergences).toHaveLength(2);
  });

  it('holds TCP too', () => {
    const harness = harnessWith({ action: 'checkpoint', protocol: 'tcp' });
    const guest = new Guest(1000);
    harness.secondary(guest.synAck());
    harness.primary(guest.synAck());
    expect(harness.released).toEqual([]);
    expect(harness.divergences.map(({ reason }) => reason)).toEqual(['rule']);
    harness.commit();
    expect(harness.reasons).toEqual(['committed']);
  });
});

describe('who opened a flow', () => {
  it('of TCP is told by the SYN; picked up in mid-stream, no such rule applies', () => {
    const harness = harnessWith({ protocol: 'tcp', openedBy: 'guest' });
    expect(harness.primary(new Guest(1, 0, { clientPort: 1 }).frame({ flags: 2 }))).toBe(Verdict.WAIVED);
    expect(harness.primary(new Guest(1, 0, { clientPort: 2 }).synAck())).toBe(Verdict.HOLD);
    expect(harness.primary(new Guest(1, 0, { clientPort: 3 }).frame({ at: 1, data: 'x' }))).toBe(
      Verdict.HOLD,
    );
  });

  it('of datagrams is who spoke first', () => {
    const harness = harnessWith({ openedBy: 'guest' });
    harness.clientFirst(udp('query', 53));
    expect(harness.primary(udp('answer', 53))).toBe(Verdict.HOLD);
    expect(harness.primary(udp('query', 5353))).toBe(Verdict.WAIVED);
  });
});

describe('tests that rules carry', () => {
  const dns = (tests: Input[]) => rule({ guestPort: 53, client: 'fd00::/16', vlan: 5, tests });

  it('say which rule decides over a flow', () => {
    const flow = 'udp [fd00::2]:53 > [fd00::1]:4000 vlan 5';
    expect(checkRules([dns([{ flow, applies: true }])])).toEqual([]);
    const [problem] = checkRules([dns([{ flow, applies: false }])]);
    expect(problem?.path).toEqual(['rules', '0', 'tests', '0']);
    expect(problem?.what).toContain('test failed: rule 1 applies');
    for (const other of [
      'udp [fd00::2]:53 > [fd00::1]:4000',
      'tcp [fd00::2]:53 > [fd00::1]:4000 vlan 5',
      'udp [fd00::2]:54 > [fd00::1]:4000 vlan 5',
      'udp [fd00::2]:53 > [fe80::1]:4000 vlan 5',
      'udp 10.0.0.2:53 > 10.0.0.1:4000 vlan 5',
    ]) {
      expect(checkRules([dns([{ flow: other, applies: false }])]), other).toEqual([]);
    }
  });

  it('tell ICMP types and EtherTypes', () => {
    const icmp = (flow: string, applies: boolean) =>
      checkRules([rule({ protocol: 'icmpv6', icmpType: 3, vlan: 5, tests: [{ flow, applies }] })]);
    expect(icmp('icmpv6 fd00::2 > fd00::1 type 3 vlan 5', true)).toEqual([]);
    expect(icmp('icmpv6 fd00::2 > fd00::1 type 4 vlan 5', false)).toEqual([]);
    expect(icmp('icmpv6 fd00::2 > fd00::1 vlan 5', false)).toEqual([]);
    const ether = (flow: string, applies: boolean) =>
      checkRules([rule({ protocol: 'any', etherType: 0x88f7, tests: [{ flow, applies }] })]);
    expect(ether('ethernet 0x88f7', true)).toEqual([]);
    expect(ether('ethernet 0x88f7 vlan 3.5', true)).toEqual([]);
    expect(ether('ethernet 0x88f8', false)).toEqual([]);
    expect(ether('udp 10.0.0.2:53 > 10.0.0.1:35063', false)).toEqual([]); // port 0x88f7
  });

  it('of no flow are refused', () => {
    for (const flow of [
      '',
      'udp 10.0.0.2 > 10.0.0.1',
      'udp 10.0.0.2:53 > [fd00::1]:1',
      'foo 1.1.1.1 > 1.1.1.2',
      'icmp 10.0.0.2 > 10.0.0.1 type 256',
      'gre 10.0.0.2 > 10.0.0.1 type 3',
      'ethernet 0x88f',
      'ethernet 0x88f7 vlan 5000',
    ]) {
      expect(checkRules([dns([{ flow, applies: false }])])[0]?.what, flow).toContain('tells no flow');
    }
  });
});

describe('a rule that cannot be meant', () => {
  it.each([
    [{ protocol: 'icmp', guestPort: 5 }, 'guestPort'],
    [{ guest: '10.0.0.300' }, 'guest'],
    [{ guest: '10.0.0.1/8' }, 'guest'],
    [{ client: '10.0.0.0/33' }, 'client'],
    [{ guest: '10.0.0.1', client: 'fd00::1' }, 'client'],
    [{ clientPort: '9-8' }, 'clientPort'],
    [{ clientPort: '1-70000' }, 'clientPort'],
    [{ vlan: '5000.1' }, 'vlan'],
    [{ icmpType: 3 }, 'icmpType'],
    [{ etherType: 0x88f7 }, 'etherType'],
    [{ protocol: 'any', etherType: 0x0800 }, 'etherType'],
    [{ protocol: 'any', etherType: 0x0806 }, 'etherType'],
    [{ protocol: 'any', etherType: 0x88f7, guest: '10.0.0.1' }, 'guest'],
    [{ protocol: 'any', etherType: 0x88f7, client: '10.0.0.1' }, 'client'],
    [{ protocol: 'any', etherType: 0x88f7, guestPort: 5 }, 'guestPort'],
    [{ protocol: 'any', etherType: 0x88f7, icmpType: 5 }, 'icmpType'],
  ])('%j is refused at %s', (fields, key) => {
    expect(checkRules([rule(fields)]).map(({ path }) => path)).toEqual([['rules', '0', key]]);
  });

  it('without a why there is none', () => {
    expect(ruleSchema.safeParse({ action: 'waive', protocol: 'udp' }).success).toBe(false);
    expect(ruleSchema.safeParse({ action: 'waive', protocol: 'udp', why: '  ' }).success).toBe(false);
  });

  it('its scope is told in words', () => {
    expect(ruleScope(rule({ guestPort: 53, client: '10.0.0.0/8', vlan: 0, openedBy: 'client' }))).toBe(
      'udp, guest port 53, client 10.0.0.0/8, untagged, opened by the client',
    );
    expect(ruleScope(rule({ protocol: 'icmp', icmpType: 3 }))).toBe('icmp, type 3');
    expect(ruleScope(rule({ protocol: 'any', etherType: 0x88f7, vlan: 5 }))).toBe('EtherType 0x88f7, VLAN 5');
  });
});
