import { SocketAddress } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  flowText,
  formatIpv4,
  formatIpv6,
  formatMac,
  formatVlan,
  parseIpAddress,
  parseIpv6Address,
  parseMac,
} from '../../../src/wire/addresses.js';
import { buildArp, buildEcho, buildIp, buildTcp, buildUdp, vlanTags } from '../../../src/wire/build.js';
import { FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

describe('addresses as text', () => {
  it.each([
    ['2001:db8::1'],
    ['::'],
    ['::1'],
    ['1::'],
    ['2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1::1'],
    ['2001:db8::1:0:0:1'],
    ['fe80::5054:ff:fe12:3456'],
    ['1:2:3:4:5:6:7:8'],
    ['0:2:3:4:5:6:7:8'],
  ])('%s is its own RFC 5952 form', (text) => {
    expect(formatIpv6(parseIpv6Address(text)!)).toBe(text);
  });
  it.each([
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
    ['0001::', '1::'],
  ])('%s becomes %s', (text, canonical) => {
    expect(formatIpv6(parseIpAddress(text)!)).toBe(canonical);
  });
  it.each([
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    '12345::',
    'g::',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4 ',
    '::1.2.3',
    '1.2.3.4::',
    '::1:2:3:4:5:6:7:1.2.3.4',
  ])('refuses %j', (text) => expect(parseIpAddress(text)).toBeUndefined());
  it('round trips any address, and Node.js reads it the same', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(0xffff), (bytes, zeros) => {
        for (let group = 0; group < 8; group++)
          if (zeros & (1 << group)) bytes.fill(0, 2 * group, 2 * group + 2);
        const text = formatIpv6(bytes);
        expect(parseIpAddress(text)).toEqual(Buffer.from(bytes));
        // inet_ntop writes some addresses with a dotted end; RFC 5952 leaves that open
        const theirs = new SocketAddress({ address: text, family: 'ipv6' }).address;
        if (!theirs.includes('.')) expect(text).toBe(theirs);
        expect(parseIpAddress(formatIpv4(bytes))).toEqual(Buffer.from(bytes.subarray(0, 4)));
        expect(parseMac(formatMac(bytes))).toEqual(Buffer.from(bytes.subarray(0, 6)));
      }),
    );
  });
  it('refuses what is no MAC', () => {
    for (const text of ['', '52:54:00:12:34', '52-54-00-12-34-56', '52:54:00:12:34:5g']) {
      expect(parseMac(text)).toBeUndefined();
    }
  });
  it('VLANs', () => expect([formatVlan(5), formatVlan(3 * 4096 + 5)]).toEqual(['5', '3.5']));
});

describe('flowText is from guest to client, whichever way the frame goes', () => {
  const text = (frame: Buffer, fromClient = false) => {
    const view = new FrameView();
    parseFrame(frame, 0, frame.length, 0, view);
    return flowText(view, fromClient);
  };
  const v4 = { source: '10.0.0.2', destination: '10.0.0.1' };
  const ports = { sourcePort: 80, destinationPort: 40000 };
  it.each([
    [
      text(buildTcp({ ...v4, ...ports, seq: 0, flags: 2, vlans: vlanTags(5) })),
      'tcp 10.0.0.2:80 > 10.0.0.1:40000 vlan 5',
    ],
    [text(buildTcp({ ...v4, ...ports, seq: 0, flags: 2 }), true), 'tcp 10.0.0.1:40000 > 10.0.0.2:80'],
    [
      text(buildUdp({ source: 'fd00::2', destination: 'fd00::1', ...ports })),
      'udp [fd00::2]:80 > [fd00::1]:40000',
    ],
    [text(buildEcho({ ...v4, identifier: 7, sequence: 1 })), 'icmp 10.0.0.2 > 10.0.0.1 id 7'],
    [text(buildIp(v4, 47, Buffer.alloc(4))), 'ip/47 10.0.0.2 > 10.0.0.1'],
    [
      text(buildIp({ ...v4, fragment: { offset: 8, more: true } }, 17, Buffer.alloc(8))),
      'fragment/17 10.0.0.2 > 10.0.0.1',
    ],
    [
      text(
        buildArp({
          operation: 1,
          senderMac: '52:54:00:00:00:01',
          senderIp: '10.0.0.2',
          targetIp: '10.0.0.1',
        }),
      ),
      'arp 0x0806',
    ],
    [text(Buffer.alloc(3)), 'malformed'],
  ])('%s', (actual, expected) => expect(actual).toBe(expected));
});
