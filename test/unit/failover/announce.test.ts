import { describe, expect, it } from 'vitest';
import { Announcer, announcementFrames } from '../../../src/failover/announce.js';
import { PRIMARY_LOST_RULES, primaryLostRule } from '../../../src/failover/rules.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { ArpField, ArpOperation } from '../../../src/wire/arp.js';
import { FrameKind, FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

const mac = Buffer.from('525400770010', 'hex');
const ipv4 = Buffer.from([10, 0, 0, 2]);
const ipv6 = Buffer.from('fd000000000000000000000000000002', 'hex');

function kinds(frames: readonly Buffer[]): string[] {
  const view = new FrameView();
  return frames.map((frame) => {
    const kind = parseFrame(frame, 0, frame.length, 0, view);
    if (kind === FrameKind.ARP) {
      const operation = frame.readUInt16BE(view.network + ArpField.OPERATION);
      return `arp ${operation === ArpOperation.REQUEST ? 'request' : 'reply'} vlan ${view.vlan}`;
    }
    if (kind === FrameKind.ND) return `nd ${view.icmpType} vlan ${view.vlan}`;
    return kind === FrameKind.LINK_CONTROL ? `rarp vlan ${view.vlan}` : `kind ${kind}`;
  });
}

describe('announcements (T19)', () => {
  it('has both ARP forms, an unsolicited NA, and one RARP for each MAC and VLAN', () => {
    const frames = announcementFrames([
      { mac, ip: ipv4, vlan: 0 },
      { mac, ip: ipv6, vlan: 0 },
      { mac, ip: ipv4, vlan: 5 },
    ]);
    expect(kinds(frames)).toEqual([
      'rarp vlan 0',
      'arp request vlan 0',
      'arp reply vlan 0',
      'nd 136 vlan 0',
      'rarp vlan 5',
      'arp request vlan 5',
      'arp reply vlan 5',
    ]);
    for (const frame of frames) expect(frame.subarray(6, 12).equals(mac)).toBe(true);
  });

  it('is repeated, then stops', () => {
    const clock = new ManualClock();
    let sent = 0;
    const announcer = new Announcer({ clock, count: 3, everyMs: 100 }, () => sent++);
    announcer.start([{ mac, ip: ipv4, vlan: 0 }]);
    expect(sent).toBe(3);
    clock.advance(10_000);
    expect(sent).toBe(9);
  });
});

describe('what the primary’s death means', () => {
  it('never promotes a secondary that has loaded no checkpoint', () => {
    for (const phase of Object.keys(PRIMARY_LOST_RULES) as (keyof typeof PRIMARY_LOST_RULES)[]) {
      expect(primaryLostRule(phase, false)).toBe('no-replica');
    }
  });

  it('waits for LOADED exactly from RECEIVED on', () => {
    const waiting = Object.entries(PRIMARY_LOST_RULES).filter(([, rule]) => rule === 'wait-loaded');
    expect(waiting.map(([phase]) => phase)).toEqual(['loading', 'committing']);
  });
});
