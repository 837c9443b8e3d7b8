import { describe, expect, it } from 'vitest';
import { GuestAddresses } from '../../../src/dataplane/guest-addresses.js';
import { Neighbours } from '../../../src/dataplane/neighbours.js';
import type { Link } from '../../../src/link/link.js';
import { ArpField, ArpOperation } from '../../../src/wire/arp.js';
import {
  buildArp,
  buildNeighbourAdvertisement,
  buildNeighbourSolicitation,
  buildUdp,
} from '../../../src/wire/build.js';
import { FrameKind, FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

const GUEST = '52:54:00:77:00:10';
const CLIENT = '02:00:00:00:00:01';

function parsed(frame: Buffer): FrameView {
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  return view;
}

describe('GuestAddresses', () => {
  it('learns IPv4 from ARP and IP, IPv6 from ND and IP, each once, with its VLAN', () => {
    const guest = new GuestAddresses();
    const frames = [
      buildArp({
        operation: ArpOperation.REQUEST,
        senderMac: GUEST,
        senderIp: '10.0.0.2',
        targetIp: '10.0.0.1',
      }),
      buildUdp({
        sourceMac: GUEST,
        source: '10.0.0.3',
        destination: '10.0.0.1',
        sourcePort: 1,
        destinationPort: 2,
      }),
      buildUdp({
        sourceMac: GUEST,
        source: '10.0.0.3',
        destination: '10.0.0.9',
        sourcePort: 1,
        destinationPort: 2,
      }),
      buildUdp({
        sourceMac: GUEST,
        source: '10.0.0.3',
        destination: '10.0.0.1',
        sourcePort: 1,
        destinationPort: 2,
        vlans: [{ vid: 7 }],
      }),
      buildNeighbourAdvertisement({ ownMac: GUEST, ownIp: 'fd00::2' }),
    ];
    for (const frame of frames) guest.learn(parsed(frame));
    const seen = guest.addresses.map(({ ip, vlan }) => `${ip.toString('hex')}/${vlan}`);
    expect(seen).toEqual(['0a000002/0', '0a000003/0', '0a000003/7', 'fd000000000000000000000000000002/0']);
    expect(guest.mac?.toString('hex')).toBe('525400770010');
    expect(guest.isOwnSource(frames[0]!, 0)).toBe(true);
  });

  it('never learns the unspecified address or a multicast source, and is bounded', () => {
    const guest = new GuestAddresses();
    guest.learn(
      parsed(
        buildArp({
          operation: ArpOperation.REQUEST,
          senderMac: GUEST,
          senderIp: '0.0.0.0',
          targetIp: '10.0.0.1',
        }),
      ),
    );
    expect(guest.addresses).toEqual([]);
    for (let index = 0; index < 1000; index++) {
      const source = `10.1.${index >> 8}.${index & 255}`;
      guest.learn(
        parsed(
          buildUdp({ sourceMac: GUEST, source, destination: '10.0.0.1', sourcePort: 1, destinationPort: 2 }),
        ),
      );
    }
    expect(guest.addresses.length).toBe(256);
  });
});

describe('Neighbours', () => {
  function secondaryLink(): { link: Link; sent: Buffer[] } {
    const sent: Buffer[] = [];
    const send = (bytes: Buffer, offset: number, length: number): boolean => {
      sent.push(Buffer.from(bytes.subarray(offset, offset + length)));
      return true;
    };
    return { link: { send } as unknown as Link, sent };
  }

  it('answers the secondary’s ARP request for a neighbour that was seen', () => {
    const neighbours = new Neighbours();
    const { link, sent } = secondaryLink();
    const request = buildArp({
      operation: ArpOperation.REQUEST,
      senderMac: GUEST,
      senderIp: '10.0.0.2',
      targetIp: '10.0.0.1',
    });
    expect(neighbours.answer(parsed(request), link)).toBe(false);
    neighbours.learn(
      parsed(
        buildArp({
          operation: ArpOperation.REQUEST,
          senderMac: CLIENT,
          senderIp: '10.0.0.1',
          targetIp: '10.0.0.2',
        }),
      ),
    );
    expect(neighbours.answer(parsed(request), link)).toBe(true);
    const answer = parsed(sent[0]!);
    expect(answer.kind).toBe(FrameKind.ARP);
    expect(sent[0]!.readUInt16BE(answer.network + ArpField.OPERATION)).toBe(ArpOperation.REPLY);
    expect(
      sent[0]!
        .subarray(answer.network + ArpField.SENDER_MAC)
        .subarray(0, 6)
        .toString('hex'),
    ).toBe('020000000001');
    expect(sent[0]!.subarray(0, 6).toString('hex')).toBe('525400770010');
  });

  it('answers a neighbour solicitation, in the right VLAN only', () => {
    const neighbours = new Neighbours();
    const { link, sent } = secondaryLink();
    const vlans = [{ vid: 9 }];
    neighbours.learn(parsed(buildNeighbourAdvertisement({ ownMac: CLIENT, ownIp: 'fd00::1', vlans })));
    const ask = { senderMac: GUEST, senderIp: 'fd00::2', targetIp: 'fd00::1' };
    expect(neighbours.answer(parsed(buildNeighbourSolicitation(ask)), link)).toBe(false);
    expect(neighbours.answer(parsed(buildNeighbourSolicitation({ ...ask, vlans })), link)).toBe(true);
    const answer = parsed(sent[0]!);
    expect(answer.kind).toBe(FrameKind.ND);
    expect(answer.icmpType).toBe(136);
    expect(answer.vlan).toBe(9);
  });
});
