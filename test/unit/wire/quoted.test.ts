import { describe, expect, it } from 'vitest';
import { flowText } from '../../../src/wire/addresses.js';
import { buildEcho, buildIcmp, buildIp, buildTcp, buildUdp, vlanTags } from '../../../src/wire/build.js';
import { FLOW_KEY_WORDS, flowKeyEquals, writeFlowKey } from '../../../src/wire/flow-key.js';
import { FrameKind, FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { isIcmpError, parseQuoted } from '../../../src/wire/quoted.js';

const V4 = { source: '10.0.0.2', destination: '10.0.0.1' };
const V6 = { source: 'fd00::2', destination: 'fd00::1' };
const PORTS = { sourcePort: 80, destinationPort: 40000 };
const ROUTER = { source: '10.0.0.254', destination: '10.0.0.2' };
const ROUTER6 = { source: 'fd00::ff', destination: 'fd00::2' };

function parse(frame: Buffer): FrameView {
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  return view;
}

/** An error about the packet inside `frame`, quoting `bytes` of it. */
function errorAbout(frame: Buffer, bytes = 1000, type = frame[12] === 0x86 ? 1 : 3, vlan = 0): FrameView {
  const route = frame[12] === 0x86 ? ROUTER6 : ROUTER;
  return parse(buildIcmp({ ...route, type, payload: frame.subarray(14, 14 + bytes), vlans: vlanTags(vlan) }));
}

describe('the packet an ICMP error quotes', () => {
  it.each([
    ['IPv4, 8 bytes', V4, 28],
    ['IPv4, all', V4, 1000],
    ['IPv6, all', V6, 1000],
  ])('TCP over %s', (_name, addresses, bytes) => {
    const packet = buildTcp({
      ...addresses,
      ...PORTS,
      seq: 0xfffffff0,
      ack: 7,
      flags: 0x10,
      payload: Buffer.alloc(60),
    });
    const quoted = new FrameView();
    expect(parseQuoted(errorAbout(packet, bytes), quoted)).toBe(true);
    expect([quoted.kind, quoted.sourcePort, quoted.destinationPort, quoted.seq]).toEqual([
      FrameKind.TCP,
      80,
      40000,
      0xfffffff0,
    ]);
    expect(quoted.bytes.readUInt32BE(quoted.l4 + 4)).toBe(0xfffffff0);
    expect(quoted.l3End - quoted.l4).toBe(Math.min(bytes - 20, 80));
  });

  it('has the key of the flow it belongs to, VLAN included, seen from the other direction', () => {
    const packet = buildTcp({ ...V4, ...PORTS, seq: 1, flags: 0x10, vlans: [] });
    const tagged = buildTcp({ ...V4, ...PORTS, seq: 1, flags: 0x10, vlans: vlanTags(9) });
    const quoted = new FrameView();
    const error = errorAbout(packet, 28, 3, 9);
    expect(parseQuoted(error, quoted)).toBe(true);
    const keys = [new Int32Array(FLOW_KEY_WORDS), new Int32Array(FLOW_KEY_WORDS)] as const;
    // the error came from the client's side about a packet of the guest
    writeFlowKey(quoted, false, keys[0], 0);
    writeFlowKey(parse(tagged), false, keys[1], 0);
    expect(flowKeyEquals(keys[0], 0, keys[1], 0)).toBe(true);
    expect(flowText(quoted, false)).toBe('tcp 10.0.0.2:80 > 10.0.0.1:40000 vlan 9');
  });

  it('UDP, echo, GRE, fragments, extension headers', () => {
    const quoted = new FrameView();
    expect(parseQuoted(errorAbout(buildUdp({ ...V6, ...PORTS })), quoted)).toBe(true);
    expect([quoted.kind, quoted.sourcePort, quoted.seq]).toEqual([FrameKind.UDP, 80, 0]);
    expect(parseQuoted(errorAbout(buildEcho({ ...V4, identifier: 7, sequence: 1 })), quoted)).toBe(true);
    expect([quoted.kind, quoted.sourcePort, quoted.destinationPort]).toEqual([FrameKind.ICMP, 7, 7]);
    expect(parseQuoted(errorAbout(buildEcho({ ...V6, identifier: 8, sequence: 1 })), quoted)).toBe(true);
    expect([quoted.kind, quoted.sourcePort]).toEqual([FrameKind.ICMPV6, 8]);
    expect(parseQuoted(errorAbout(buildIp(V4, 47, Buffer.alloc(8))), quoted)).toBe(true);
    expect([quoted.kind, quoted.ipProtocol]).toEqual([FrameKind.IP_OTHER, 47]);
    for (const addresses of [V4, V6]) {
      const later = buildIp({ ...addresses, fragment: { offset: 8, more: true } }, 6, Buffer.alloc(8, 1));
      expect(parseQuoted(errorAbout(later), quoted)).toBe(true);
      expect([quoted.kind, quoted.sourcePort]).toEqual([FrameKind.FRAGMENT, 0]);
    }
    const extended = buildUdp({
      ...V6,
      ...PORTS,
      extensionProtocol: 60,
      ipOptions: Buffer.from('1100000000000000', 'hex'),
    });
    expect(parseQuoted(errorAbout(extended), quoted)).toBe(true);
    expect(quoted.sourcePort).toBe(80);
  });

  it.each([
    ['too short', errorAbout(buildTcp({ ...V4, ...PORTS, seq: 1, flags: 2 }), 27)],
    [
      'too short for its IHL',
      errorAbout(buildTcp({ ...V4, ...PORTS, seq: 1, flags: 2, ipOptions: Buffer.alloc(40) }), 67),
    ],
    [
      'of the other IP version',
      parse(
        buildIcmp({
          ...ROUTER,
          type: 3,
          payload: buildTcp({ ...V6, ...PORTS, seq: 1, flags: 2 }).subarray(14),
        }),
      ),
    ],
    ['IHL under 5', parse(buildIcmp({ ...ROUTER, type: 3, payload: Buffer.alloc(60, 0x44) }))],
    [
      'extension header beyond the quote',
      parse(
        buildIcmp({
          ...ROUTER6,
          type: 1,
          payload: buildUdp({
            ...V6,
            ...PORTS,
            extensionProtocol: 60,
            ipOptions: Buffer.from('11ff000000000000', 'hex'),
          }).subarray(14),
        }),
      ),
    ],
    [
      'in an echo',
      parse(
        buildEcho({
          ...V4,
          identifier: 1,
          sequence: 1,
          payload: buildTcp({ ...V4, ...PORTS, seq: 1, flags: 2 }).subarray(14),
        }),
      ),
    ],
    ['in a TCP segment', parse(buildTcp({ ...V4, ...PORTS, seq: 1, flags: 2 }))],
  ])('is refused when %s', (_name, view) => {
    const quoted = new FrameView();
    expect(parseQuoted(view, quoted)).toBe(false);
    expect([quoted.kind, quoted.l3, quoted.l4, quoted.ipVersion]).toEqual([FrameKind.MALFORMED, 0, 0, 0]);
  });

  it.each([
    [V4, [3, 4, 5, 11, 12], [0, 8, 9, 10, 13, 30]],
    [V6, [1, 2, 3, 4], [0, 100, 128, 129, 134, 137]],
  ])('knows which types are errors: %o', (addresses, errors, others) => {
    for (const type of errors) expect(isIcmpError(parse(buildIcmp({ ...addresses, type })))).toBe(true);
    for (const type of others) expect(isIcmpError(parse(buildIcmp({ ...addresses, type })))).toBe(false);
  });
});
