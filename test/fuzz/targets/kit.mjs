/** What several targets share. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CAPTURES = fileURLToPath(new URL('../../fixtures/captures', import.meta.url));

export function captureFiles() {
  const names = readdirSync(CAPTURES).filter((name) => /\.p?cap(ng)?$/.test(name));
  return names.sort().map((name) => readFileSync(join(CAPTURES, name)));
}

export function must(condition, what) {
  if (!condition) throw new Error(typeof what === 'function' ? what() : what);
}

/** Runs `action`; a ColoError is returned, anything else it throws goes on. */
export function refusalOf(action, ColoError) {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof ColoError) return error;
    throw error;
  }
}

/** The bytes as a stream may bring them. */
export function* cut(bytes, random) {
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + (random() % 64);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

const HOSTILE_VALUES = [
  null,
  true,
  -1,
  0.5,
  2 ** 53,
  '',
  'x',
  '__proto__',
  [],
  [null],
  {},
  { toString: 0, valueOf: 0 },
];

/** JSON text with one of its values replaced by one of another type; text that is no JSON stays as it is. */
export function hostileJson(text, random) {
  let root;
  try {
    root = { value: JSON.parse(text) };
  } catch {
    return text;
  }
  let holder = root;
  let name = 'value';
  while (typeof holder[name] === 'object' && holder[name] !== null && random() % 4 !== 0) {
    const names = Object.keys(holder[name]);
    if (names.length === 0) break;
    holder = holder[name];
    name = names[random() % names.length];
  }
  holder[name] = HOSTILE_VALUES[random() % HOSTILE_VALUES.length];
  return JSON.stringify(root.value);
}

/** A sequence of steps in one input: a byte that says what to do, a length of two bytes, that many bytes. */
export function step(what, bytes) {
  const head = Buffer.from([what, bytes.length >> 8, bytes.length]);
  return Buffer.concat([head, bytes]);
}

export function* steps(bytes) {
  for (let at = 0; bytes.length - at >= 3; ) {
    const length = bytes.readUInt16BE(at + 1);
    yield { what: bytes[at], bytes: bytes.subarray(at + 3, at + 3 + length) };
    at += 3 + length;
  }
}

/** Frames of every kind, with the options that are read. `guest` true: from the guest to the client. */
export async function sampleFrames(load) {
  const build = await load('wire/build.js');
  const guestMac = '52:54:00:00:00:01';
  const clientMac = '52:54:00:00:00:02';
  const addresses = [
    ['10.0.0.1', '10.0.0.2'],
    ['fd00::1', 'fd00::2'],
  ];
  const make = ([guest, client], isGuest) => {
    const ends = isGuest
      ? { sourceMac: guestMac, destinationMac: clientMac, source: guest, destination: client }
      : { sourceMac: clientMac, destinationMac: guestMac, source: client, destination: guest };
    const ports = isGuest
      ? { sourcePort: 80, destinationPort: 1000 }
      : { sourcePort: 1000, destinationPort: 80 };
    const tcp = { ...ends, ...ports, seq: 0xffff_fff0, ack: 77, flags: 0x10, window: 500 };
    const timestamp = { value: 0xffff_fff0, echo: 6 };
    const payload = Buffer.from('some bytes of a stream');
    const sack = [
      [100, 200],
      [300, 0xffff_ffff],
    ];
    const syn = { mss: 1460, windowScale: 7, sackPermitted: true, timestamp };
    const reset = build.buildTcp({ ...tcp, flags: 0x14, seq: 0 });
    return [
      build.buildTcp({ ...tcp, payload, options: { timestamp, sack } }),
      build.buildTcp({
        ...tcp,
        payload,
        flags: 0x18,
        options: { raw: Buffer.from('01080a0000000500000006', 'hex') },
      }),
      build.buildTcp({ ...tcp, flags: isGuest ? 0x12 : 0x02, options: syn, vlans: [{ vid: 5 }] }),
      build.buildTcp({ ...tcp, flags: 0x11, options: { md5: Buffer.alloc(16, 7) } }),
      reset,
      build.buildUdp({ ...ends, ...ports, payload: Buffer.from('datagram') }),
      build.buildEcho({ ...ends, identifier: 1, sequence: 2, payload: Buffer.from('ping') }),
      build.buildIp({ ...ends, id: 9, fragment: { offset: 0, more: true } }, 17, Buffer.alloc(16, 1)),
      build.buildIp({ ...ends, id: 9, fragment: { offset: 16, more: false } }, 17, Buffer.alloc(9, 2)),
      quoting(build, ends, reset),
    ];
  };
  const fromGuest = addresses.flatMap((pair) => make(pair, true));
  const fromClient = addresses.flatMap((pair) => make(pair, false));
  return { fromGuest, fromClient, all: [...fromGuest, ...fromClient] };
}

/** An ICMP error of a router about a frame. */
function quoting(build, ends, frame) {
  const isIpv4 = ends.source.includes('.');
  const body = Buffer.concat([
    Buffer.from([isIpv4 ? 3 : 1, isIpv4 ? 1 : 0, 0, 0, 0, 0, 0, 0]),
    frame.subarray(14),
  ]);
  return build.buildTransport(ends, isIpv4 ? 1 : 58, body, 2);
}
