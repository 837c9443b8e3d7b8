import { describe, expect, it } from 'vitest';
import type { LinkAbilities } from '../../../src/link/link.js';
import { OffloadStage } from '../../../src/link/offload.js';
import { SendQueue } from '../../../src/link/send-queue.js';
import { buildTcp, buildUdp } from '../../../src/wire/build.js';
import { verifyL4Checksum } from '../../../src/wire/checksum.js';
import { FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { GsoType, VnetFlag } from '../../../src/wire/vnet-header.js';

const IP = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 1, destinationPort: 2 } as const;
const plain = (payloadBytes: number): Buffer =>
  buildUdp({ ...IP, payload: Buffer.alloc(payloadBytes, 1), vnet: {} });
const tcp = (payloadBytes: number, gsoBytes = 0): Buffer =>
  buildTcp({
    ...IP,
    seq: 1,
    flags: TcpFlag.ACK,
    payload: Buffer.alloc(payloadBytes, 2),
    checksum: 'partial',
    vnet: {
      flags: VnetFlag.NEEDS_CSUM,
      checksumStart: 34,
      checksumOffset: 16,
      headerBytes: 54,
      ...(gsoBytes > 0 ? { gsoType: GsoType.TCPV4, gsoBytes } : {}),
    },
  });

function stage(abilities: Partial<LinkAbilities>, prefixBytes: number, bytesMax = 1_000_000) {
  const queue = new SendQueue({ prefixBytes, bytesMax, framesMax: 1000 });
  const offload = new OffloadStage(
    { vnetHeader: false, gso: false, frameBytesMax: 1522, ...abilities },
    queue,
  );
  return { queue, offload, push: (frame: Buffer) => offload.queue(frame, 10, frame.length - 10, 10) };
}

describe('offload stage', () => {
  it('completes a partial checksum in a copy, and leaves the frame it was given as it was', () => {
    const { queue, push } = stage({}, 4);
    const frame = tcp(501);
    const before = Buffer.from(frame);
    expect(push(frame)).toBe(true);
    expect(frame.equals(before)).toBe(true);
    const at = queue.offsets[0]!;
    expect(queue.slab.readUInt32BE(at - 4)).toBe(frame.length - 10);
    const view = new FrameView();
    parseFrame(queue.slab, at, queue.lengths[0]!, 0, view);
    expect(verifyL4Checksum(view)).toBe(true);
    expect(queue.slab.compare(frame, 10, frame.length, at, at + queue.lengths[0]!)).not.toBe(0);
  });

  it('puts an empty header before a frame that has none, whatever lay there', () => {
    const { queue, offload } = stage({ vnetHeader: true, gso: true }, 10);
    queue.slab.fill(0xee);
    const frame = plain(10).subarray(10);
    offload.queue(frame, 0, frame.length, 0);
    expect(queue.slab.subarray(0, 10).equals(Buffer.alloc(10))).toBe(true);
  });

  it('queues all segments of a super-frame or none', () => {
    const room = stage({}, 4, 8 * (1000 + 54 + 4));
    expect(room.push(tcp(8000, 1000))).toBe(true);
    expect(room.queue.count).toBe(8);
    const tight = stage({}, 4, 8 * (1000 + 54 + 4) - 1);
    expect(tight.push(plain(10))).toBe(true);
    expect(tight.push(tcp(8000, 1000))).toBe(false);
    expect(tight.queue.count).toBe(1);
    expect(tight.push(plain(10))).toBe(true);
  });

  it('refuses what is too long for the link, whole or in segments', () => {
    const { queue, push } = stage({}, 4);
    expect(push(plain(1522 - 42))).toBe(true);
    expect(push(plain(1522 - 42 + 1))).toBe(false);
    expect(push(tcp(9000, 3000))).toBe(false);
    expect(queue.count).toBe(1);
  });

  it('refuses what cannot be cut or completed', () => {
    const { queue, push } = stage({}, 4);
    const udp = plain(3000);
    udp[1] = GsoType.UDP;
    udp[4] = 100;
    expect(push(udp)).toBe(false);
    const outside = tcp(10);
    outside.writeUInt16LE(5000, 6);
    expect(push(outside)).toBe(false);
    for (let length = 0; length < 60; length++) {
      const garbage = Buffer.alloc(10 + length, 0xff);
      garbage[1] = GsoType.TCPV4;
      expect(push(garbage)).toBe(false);
    }
    expect(queue.count).toBe(0);
  });

  it('cuts what the driver cannot take, and only that', () => {
    const { queue, offload, push } = stage({ vnetHeader: true, gso: true }, 10);
    expect(push(tcp(4000, 1000))).toBe(true);
    expect(queue.count).toBe(1);
    offload.driver = { tcp4: false, tcp6: true, tcpEcn: true, udp: true };
    expect(push(tcp(4000, 1000))).toBe(true);
    expect(queue.count).toBe(5);
    offload.driver = { tcp4: true, tcp6: true, tcpEcn: false, udp: false };
    expect(push(tcp(4000, 1000))).toBe(true);
    expect(queue.count).toBe(6);
    const ecn = tcp(4000, 1000);
    ecn[1]! |= GsoType.ECN;
    expect(push(ecn)).toBe(true);
    expect(queue.count).toBe(10);
  });
});
