import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openPacketSocket } from '../../native/index.js';
import { createLink } from '../../src/link/factory.js';
import type { Link } from '../../src/link/link.js';
import { memoryLinkPair } from '../../src/link/memory-link.js';
import { buildTcp, buildUdp } from '../../src/wire/build.js';
import { verifyIpv4Checksum, verifyL4Checksum } from '../../src/wire/checksum.js';
import { FrameKind, FrameView, TcpFlag } from '../../src/wire/frame-view.js';
import { parseFrame } from '../../src/wire/parse.js';
import { GsoType, VnetFlag, vnetGsoType } from '../../src/wire/vnet-header.js';
import { Collector, until } from '../unit/link/collect.js';
import { describeInNamespaces, type Namespace } from './harness.js';
import {
  closeAfterEach,
  closeLater,
  FrameReader,
  pause,
  TapHolder,
  useOwnNamespace,
} from './link-helpers.js';

/** One link and the other side of it: frames with their vnet header go in and come out there. */
interface Side {
  link: Link;
  put(frame: Buffer): void;
  take(): Buffer[];
  /** True when super-frames and partial checksums may come out. */
  offloads: boolean;
}

let made = 0;

function tapHeldByVm(host: Namespace, offload: 'none' | 'gso'): Side {
  const name = `p${made++}`;
  const holder = new TapHolder(name, offload);
  host.ip(`link set ${name} arp off addrgenmode none`);
  host.ip(`link set ${name} up`);
  return {
    link: createLink(`packet:${name}`),
    put: (frame) => holder.write(frame, 10),
    take: () => holder.read(1000),
    offloads: offload === 'gso',
  };
}

function tapHeldByUs(host: Namespace): Side {
  const name = `p${made++}`;
  let reader: FrameReader | undefined;
  const stack = (): FrameReader => {
    if (!reader) {
      host.ip(`link set ${name} addrgenmode none`);
      const port = openPacketSocket({
        interface: name,
        vnetHeader: true,
        promiscuous: true,
        receiveBufferBytes: 1 << 24,
      });
      reader = new FrameReader(port);
      closeLater(() => port.close());
    }
    return reader;
  };
  return {
    link: createLink(`tap:${name}`),
    put: (frame) => stack().write(frame, 10),
    take: () => stack().read(1000),
    offloads: true,
  };
}

function stream(): Side {
  const directory = mkdtempSync(join(tmpdir(), 'colo-pairs-'));
  closeLater(() => rmSync(directory, { recursive: true }));
  const peer = createLink(`stream:unix:${directory}/s,server`);
  closeLater(() => peer.close());
  const at = new Collector();
  void peer.open(at);
  return {
    link: createLink(`stream:unix:${directory}/s`, { reconnectMsMin: 5 }),
    ...throughLink(peer, at),
    offloads: false,
  };
}

function memory(vnetHeader: boolean): Side {
  const [link, peer] = memoryLinkPair({ abilities: { vnetHeader, gso: vnetHeader, frameBytesMax: 1522 } });
  const at = new Collector();
  void peer.open(at);
  return { link, ...throughLink(peer, at), offloads: vnetHeader };
}

function throughLink(peer: Link, at: Collector): Pick<Side, 'put' | 'take'> {
  return {
    put(frame) {
      expect(peer.send(frame, 10, frame.length - 10, 10)).toBe(true);
      peer.flush();
    },
    take() {
      peer.drain();
      const headers = at.vnetHeaders.splice(0);
      return at.frames.splice(0).map((frame, k) => {
        return Buffer.concat([headers[k]!.length === 10 ? headers[k]! : Buffer.alloc(10), frame]);
      });
    },
  };
}

const ETHERNET = { sourceMac: '52:54:00:00:00:01', destinationMac: '52:54:00:00:00:02' } as const;
const V4 = { ...ETHERNET, source: '10.1.1.1', destination: '10.1.1.2' } as const;
const V6 = { ...ETHERNET, source: 'fd00::1', destination: 'fd00::2' } as const;
const PORTS = { sourcePort: 8000, destinationPort: 8001 } as const;

function payload(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31) ^ (index >> 8);
  return bytes;
}

function tcp(
  ip: typeof V4 | typeof V6,
  payloadBytes: number,
  vlans: { vid: number }[],
  isSuper: boolean,
): Buffer {
  const l4 = 14 + 4 * vlans.length + (ip === V4 ? 20 : 40);
  return buildTcp({
    ...ip,
    ...PORTS,
    vlans,
    seq: 0xffff_f000,
    ack: 77,
    flags: TcpFlag.ACK | TcpFlag.PSH,
    options: { timestamp: { value: 5, echo: 6 } },
    payload: payload(payloadBytes),
    checksum: 'partial',
    vnet: {
      flags: VnetFlag.NEEDS_CSUM,
      checksumStart: l4,
      checksumOffset: 16,
      headerBytes: l4 + 32,
      ...(isSuper ? { gsoType: ip === V4 ? GsoType.TCPV4 : GsoType.TCPV6, gsoBytes: 1400 } : {}),
    },
  });
}

const FRAMES: Record<string, { frame: Buffer; payloadBytes: number; vlan: number }> = {
  'a plain datagram': {
    frame: buildUdp({ ...V4, ...PORTS, payload: payload(600), vnet: {} }),
    payloadBytes: 600,
    vlan: 0,
  },
  'a tagged datagram of full size': {
    frame: buildUdp({ ...V4, ...PORTS, vlans: [{ vid: 9 }], payload: payload(1472), vnet: {} }),
    payloadBytes: 1472,
    vlan: 9,
  },
  'a partial checksum': { frame: tcp(V4, 700, [], false), payloadBytes: 700, vlan: 0 },
  'a tagged partial checksum over IPv6': {
    frame: tcp(V6, 701, [{ vid: 3 }], false),
    payloadBytes: 701,
    vlan: 3,
  },
  'a super-frame': { frame: tcp(V4, 60_001, [], true), payloadBytes: 60_001, vlan: 0 },
  'a super-frame over IPv6': { frame: tcp(V6, 30_000, [], true), payloadBytes: 30_000, vlan: 0 },
  'a tagged super-frame': { frame: tcp(V4, 20_000, [{ vid: 7 }], true), payloadBytes: 20_000, vlan: 7 },
};

/** Checks each frame that came out by itself and returns the payload they carry together. */
function payloadOf(frames: Buffer[], side: Side, vlan: number): Buffer {
  const view = new FrameView();
  const pieces: { at: number; bytes: Buffer }[] = [];
  for (const frame of frames) {
    const kind = parseFrame(frame, 10, frame.length - 10, 10, view);
    if (kind !== FrameKind.TCP && kind !== FrameKind.UDP) continue; // the host's own multicast
    if (view.sourcePort !== PORTS.sourcePort) continue;
    const isSuper = vnetGsoType(frame, 0) !== GsoType.NONE;
    if (!side.offloads) {
      expect(isSuper).toBe(false);
      expect(view.partialChecksum).toBe(false);
    }
    if (!isSuper) expect(frame.length - 10).toBeLessThanOrEqual(1522);
    if (view.ipVersion === 4) expect(verifyIpv4Checksum(frame, view.l3)).toBe(true);
    expect(verifyL4Checksum(view)).toBe(true);
    expect(view.vlan).toBe(vlan);
    const at = kind === FrameKind.TCP ? (view.seq - 0xffff_f000) >>> 0 : 0;
    pieces.push({ at, bytes: Buffer.from(frame.subarray(view.payload, view.payload + view.payloadBytes)) });
  }
  const whole = Buffer.alloc(pieces.reduce((sum, piece) => sum + piece.bytes.length, 0));
  for (const { at, bytes } of pieces) bytes.copy(whole, at);
  return whole;
}

describeInNamespaces('every pair of links', () => {
  const host = useOwnNamespace('pairs');
  closeAfterEach();

  const kinds: Record<string, () => Side> = {
    'packet (guest with offloads)': () => tapHeldByVm(host, 'gso'),
    'packet (guest without)': () => tapHeldByVm(host, 'none'),
    tap: () => tapHeldByUs(host),
    stream: () => stream(),
    'memory with vnet headers': () => memory(true),
    'memory without': () => memory(false),
  };

  for (const [fromKind, makeFrom] of Object.entries(kinds)) {
    it.each(Object.entries(kinds))(`${fromKind} to %s`, async (_toKind, makeTo) => {
      const from = makeFrom();
      const to = makeTo();
      closeLater(() => to.link.close());
      closeLater(() => from.link.close());
      const refused: number[] = [];
      await to.link.open(new Collector());
      await from.link.open({
        receive({ slab, offsets, lengths, count, vnetHeaderBytes }) {
          for (let k = 0; k < count; k++) {
            if (!to.link.send(slab, offsets[k]!, lengths[k]!, vnetHeaderBytes)) refused.push(lengths[k]!);
          }
          to.link.flush();
        },
        stateChanged() {},
      });
      await until(() => from.link.state === 'up' && to.link.state === 'up', 'both up');
      // What the host itself said meanwhile, while there was no peer yet, is of no interest.
      to.take();
      refused.length = 0;
      const dropsBefore = to.link.counters.sendDrops;
      for (const [title, { frame, payloadBytes, vlan }] of Object.entries(FRAMES)) {
        from.put(Buffer.from(frame));
        const got: Buffer[] = [];
        const endMs = performance.now() + 5000;
        let whole: Buffer = Buffer.alloc(0);
        while (whole.length < payloadBytes && performance.now() < endMs) {
          from.link.drain();
          got.push(...to.take());
          whole = payloadOf(got, to, vlan);
          if (whole.length < payloadBytes) await pause(1);
        }
        expect(whole.length, title).toBe(payloadBytes);
        expect(whole.equals(payload(payloadBytes)), title).toBe(true);
      }
      expect(refused).toEqual([]);
      expect(to.link.counters.sendDrops).toBe(dropsBefore);
    });
  }
});
