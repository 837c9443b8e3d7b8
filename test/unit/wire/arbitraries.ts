/** Frames of every kind for property tests. */
import fc from 'fast-check';
import {
  buildArp,
  buildEcho,
  buildEthernet,
  buildGratuitousArp,
  buildIcmp,
  buildIp,
  buildNeighbourAdvertisement,
  buildNeighbourSolicitation,
  buildRarp,
  buildTcp,
  buildUdp,
  type IpFields,
  vlanTags,
} from '../../../src/wire/build.js';

export const vid = fc.integer({ min: 1, max: 4094 });
export const vlan = fc.oneof(
  fc.constant(0),
  vid,
  fc.tuple(vid, vid).map(([outer, inner]) => outer * 4096 + inner),
);
export const u16 = fc.integer({ min: 0, max: 0xffff });
export const u32 = fc.integer({ min: 0, max: 0xffffffff });
export const payload = fc.uint8Array({ maxLength: 300 });

const address = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes });
export const addressPair = fc.oneof(fc.tuple(address(4), address(4)), fc.tuple(address(16), address(16)));

export const ipFields: fc.Arbitrary<IpFields & { vlan: number }> = fc
  .record({ pair: addressPair, vlan, id: u16, ttl: fc.integer({ min: 1, max: 255 }), padding: fc.nat(20) })
  .map(({ pair, vlan: tag, id, ttl, padding }) => ({
    source: pair[0],
    destination: pair[1],
    sourceMac: '52:54:00:00:00:01',
    destinationMac: '52:54:00:00:00:02',
    vlans: vlanTags(tag),
    vlan: tag,
    id,
    ttl,
    paddingBytes: padding,
  }));

export const tcpOptions = fc.record(
  {
    mss: u16,
    windowScale: fc.integer({ min: 0, max: 14 }),
    sackPermitted: fc.boolean(),
    timestamp: fc.record({ value: u32, echo: u32 }),
  },
  { requiredKeys: [] },
);

export const tcpFields = fc
  .record({
    ip: ipFields,
    sourcePort: u16,
    destinationPort: u16,
    seq: u32,
    ack: u32,
    flags: fc.integer({ min: 0, max: 255 }),
    window: u16,
    options: tcpOptions,
    payload,
  })
  .map(({ ip, ...tcp }) => ({ ...ip, ...tcp }));

export const udpFields = fc
  .record({ ip: ipFields, sourcePort: u16, destinationPort: u16, payload })
  .map(({ ip, ...udp }) => ({ ...ip, ...udp }));

const echoFields = fc
  .record({ ip: ipFields, identifier: u16, sequence: u16, reply: fc.boolean(), payload })
  .map(({ ip, ...echo }) => ({ ...ip, ...echo }));

const mac = '52:54:00:12:34:56';

/** A valid frame of any kind. */
export const anyFrame: fc.Arbitrary<Buffer> = fc.oneof(
  tcpFields.map((fields) => buildTcp(fields)),
  udpFields.map((fields) => buildUdp(fields)),
  echoFields.map((fields) => buildEcho(fields)),
  fc
    .tuple(tcpFields, fc.integer({ min: 0, max: 255 }))
    .map(([fields, type]) =>
      buildIcmp({ ...fields, type, payload: buildTcp({ ...fields, vlans: [] }).subarray(14) }),
    ),
  fc
    .tuple(ipFields, fc.integer({ min: 0, max: 255 }), payload)
    .map(([ip, protocol, bytes]) => buildIp(ip, protocol, bytes)),
  fc
    .tuple(
      ipFields,
      payload,
      fc.oneof(fc.constant(0), fc.nat(8000)),
      fc.boolean(),
      fc.constantFrom(1, 6, 17, 58),
    )
    .map(([ip, bytes, offset, more, protocol]) =>
      buildIp({ ...ip, fragment: { offset: offset * 8, more } }, protocol, bytes),
    ),
  fc
    .tuple(ipFields, fc.integer({ min: 0x0600, max: 0xffff }), payload)
    .map(([ip, etherType, bytes]) => buildEthernet(ip, etherType, bytes)),
  fc.constant(buildGratuitousArp(mac, '10.0.0.2', 'request', 7)),
  fc.constant(buildArp({ operation: 1, senderMac: mac, senderIp: '10.0.0.2', targetIp: '10.0.0.1' })),
  fc.constant(buildRarp(mac)),
  fc.constant(buildNeighbourSolicitation({ senderMac: mac, senderIp: 'fe80::1', targetIp: 'fe80::2' })),
  fc.constant(buildNeighbourAdvertisement({ ownMac: mac, ownIp: 'fd00::2' })),
);
