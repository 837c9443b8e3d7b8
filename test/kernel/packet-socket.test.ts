/**
 * Kernel facts about AF_PACKET sockets (net/packet/af_packet.c).
 *
 * Product rules that rest on them:
 * - no ring: what one call returns is all that the VM has sent, so that a drain is one (T8);
 * - the receive buffer is forced to its size, and what the kernel lost all the same is counted;
 * - received VLAN tags are put back from the control message, and the vnet header's positions moved by them;
 * - super-frames with partial checksums pass unchanged both ways, so bulk TCP is never cut up in the proxy
 *   (T18: a vnet header decides whether a checksum is complete);
 * - a TAP made by the proxy has an MTU 8 bytes above the VM's, so that two tags fit;
 * - after ENETDOWN a link watches rtnetlink and opens anew: the socket of a vanished interface stays deaf.
 */
import { expect, it, onTestFinished } from 'vitest';
import {
  type FramePort,
  type NativeError,
  openPacketSocket,
  openTap,
  type TapOptions,
} from '../../native/index.js';
import {
  decodeVnetHeader,
  encodeVnetHeader,
  prints,
  probe,
  receiveAll,
  sendFrame,
  tcpFrame,
  VnetFlag,
  VnetGso,
} from '../netns/frames.js';
import { describeInNamespaces, useNamespace } from '../netns/harness.js';

// linux/if_packet.h
const PACKET_AUXDATA = 8;
const PACKET_VNET_HDR = 15;

describeInNamespaces('kernel: packet sockets', () => {
  const host = useNamespace('packet');

  function tap(name: string, options: Omit<TapOptions, 'name'> = {}): FramePort {
    const port = host.within(() => openTap({ name, ...options }));
    host.ip(`link set dev ${name} arp off addrgenmode none`);
    host.ip(`link set dev ${name} up`);
    onTestFinished(() => port.close());
    return port;
  }

  function packet(name: string, receiveBufferBytes: number, vnetHeader = false): FramePort {
    const port = host.within(() => openPacketSocket({ interface: name, receiveBufferBytes, vnetHeader }));
    onTestFinished(() => port.close());
    return port;
  }

  /** What a plain packet socket on `name` sees (python3's socket module) of the frame that `send` sends. */
  async function plainSocket(name: string, option: number, read: string, send: () => void): Promise<string> {
    const child = host.spawn('python3', [
      '-c',
      `
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, int(sys.argv[2]), 1)
s.bind((sys.argv[1], 0))
s.settimeout(10)
print('bound', flush=True)
${read}`,
      name,
      String(option),
    ]);
    let output = '';
    child.stdout?.on('data', (text) => {
      if (output === '') send();
      output += text;
    });
    await new Promise((resolve) => child.on('close', resolve));
    return output.replace('bound\n', '').trim();
  }

  it('a default receive buffer keeps a few hundred unread frames of 5,000, a forced one keeps all', () => {
    const vm = tap('p0');
    const systemDefault = Number(host.run('sysctl', '-n', 'net.core.rmem_default'));
    const small = packet('p0', systemDefault / 2);
    const large = packet('p0', 16 << 20);
    expect(sendFrame(vm, probe(1400), 5000)).toBe(5000);
    const kept = receiveAll(small).length;
    expect(kept).toBeLessThan(1000);
    expect(small.statistics()).toMatchObject({ packets: 5000, drops: 5000 - kept });
    expect(receiveAll(large)).toHaveLength(5000);
    expect(large.statistics()).toMatchObject({ packets: 5000, drops: 0 });
  });

  it('without a ring a frame is there when the send that caused it has returned', () => {
    const vm = tap('p9');
    const wire = packet('p9', 1 << 20);
    for (let round = 0; round < 100; round++) {
      expect(sendFrame(vm, probe(100), 3)).toBe(3);
      expect(receiveAll(wire)).toHaveLength(3);
    }
  });

  it('a ring with blocks (TPACKET_V3) keeps one to itself until its timer retires the block', async () => {
    const vm = tap('p10');
    const script = `
import mmap, socket, struct, sys, time
ring = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ring.setsockopt(263, 10, 2)  # PACKET_VERSION, TPACKET_V3
ring.setsockopt(263, 5, struct.pack('7I', 65536, 4, 2048, 128, 400, 0, 0))  # PACKET_RX_RING, retired after 400 ms
memory = mmap.mmap(ring.fileno(), 4 * 65536)
ring.bind((sys.argv[1], 0))
plain = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
plain.bind((sys.argv[1], 0))
plain.settimeout(10)
print('ready', flush=True)
plain.recv(2000)
status, frames = struct.unpack_from('II', memory, 8)  # block_status of struct tpacket_hdr_v1, TP_STATUS_USER
deadline = time.monotonic() + 10
later = status
while later == 0 and time.monotonic() < deadline:
    time.sleep(0.05)
    later, frames = struct.unpack_from('II', memory, 8)
print(status & 1, later & 1, frames)
`;
    const child = host.spawn('python3', ['-c', script, 'p10']);
    let output = '';
    child.stdout?.on('data', (text) => {
      if (output === '') sendFrame(vm, probe(100), 1);
      output += text;
    });
    await new Promise((resolve) => child.on('close', resolve));
    expect(output).toBe('ready\n0 1 1\n');
  });

  it('the outermost VLAN tag is in the control message, not in the frame', async () => {
    const vm = tap('p1');
    const frame = probe(28, 1, [[0x8100, 0x2064]]);
    expect(frame).toHaveLength(46);
    const read = `
data, control, flags, address = s.recvmsg(2000, 100)
status, length, snaplen, mac, net, tci, tpid = struct.unpack('IIIHHHH', control[0][2])
print(len(data), hex(struct.unpack('>H', data[12:14])[0]), hex(tci), hex(tpid), bool(status & 16), bool(status & 64))
`;
    const seen = await plainSocket('p1', PACKET_AUXDATA, read, () => sendFrame(vm, frame));
    expect(seen).toBe('42 0x88b5 0x2064 0x8100 True True');
  });

  it("on a tagged frame the vnet header's csum_start is for the frame without the tag", async () => {
    const vm = tap('p2', { vnetHeader: true, offload: 'gso' });
    const header = encodeVnetHeader({
      flags: VnetFlag.NEEDS_CSUM,
      gsoType: VnetGso.TCPV4,
      headerLength: 58,
      gsoSize: 1000,
      checksumStart: 38,
      checksumOffset: 16,
    });
    const read = "data = s.recv(70000)\nprint(len(data), *struct.unpack('<BBHHHH', data[:10]))";
    const frame = tcpFrame(Buffer.alloc(40_000), true, [[0x8100, 5]]);
    const seen = await plainSocket('p2', PACKET_VNET_HDR, read, () => sendFrame(vm, frame, 1, header));
    // 10 + 40,058 - 4 bytes; hdr_len and csum_start 4 less than what was written with the tag in place.
    expect(seen).toBe('40064 1 1 54 1000 34 16');
  });

  it('a super-frame passes whole both ways with its vnet header unchanged; our own sends stay out', () => {
    const vm = tap('p3', { vnetHeader: true, offload: 'gso' });
    const wire = packet('p3', 1 << 22, true);
    const frame = tcpFrame(Buffer.alloc(60_000, 'x'), true);
    const fields = {
      flags: VnetFlag.NEEDS_CSUM,
      gsoType: VnetGso.TCPV4,
      headerLength: 54,
      gsoSize: 1448,
      checksumStart: 34,
      checksumOffset: 16,
    };
    sendFrame(vm, frame, 1, encodeVnetHeader(fields));
    const [up] = receiveAll(wire);
    expect([prints([up]), decodeVnetHeader(up.vnetHeader)]).toEqual([prints([frame]), fields]);
    sendFrame(wire, frame, 1, encodeVnetHeader(fields));
    const [down] = receiveAll(vm);
    expect([prints([down]), decodeVnetHeader(down.vnetHeader)]).toEqual([prints([frame]), fields]);
    expect(receiveAll(wire)).toEqual([]);
  });

  it('towards a holder without offloads the kernel cuts a super-frame and completes its checksums', () => {
    const vm = tap('p4');
    const wire = packet('p4', 1 << 22, true);
    const payload = Buffer.alloc(5000, 'y');
    const fields = {
      flags: VnetFlag.NEEDS_CSUM,
      gsoType: VnetGso.TCPV4,
      headerLength: 54,
      gsoSize: 1448,
      checksumStart: 34,
      checksumOffset: 16,
    };
    expect(sendFrame(wire, tcpFrame(payload, true), 1, encodeVnetHeader(fields))).toBe(1);
    expect(receiveAll(vm).map((frame) => frame.bytes.length - 54)).toEqual([1448, 1448, 1448, 656]);
    expect(
      sendFrame(
        wire,
        tcpFrame(Buffer.alloc(99), true),
        1,
        encodeVnetHeader({ ...fields, gsoType: 0, gsoSize: 0 }),
      ),
    ).toBe(1);
    expect(prints(receiveAll(vm))).toEqual(prints([tcpFrame(Buffer.alloc(99), false)]));
  });

  it('with the queue bypassed it cuts nothing: the super-frame is refused as if the queue were full, for ever', () => {
    const vm = tap('p9');
    const wire = host.within(() =>
      openPacketSocket({ interface: 'p9', receiveBufferBytes: 1 << 20, vnetHeader: true, bypassQueue: true }),
    );
    onTestFinished(() => wire.close());
    const header = encodeVnetHeader({
      flags: VnetFlag.NEEDS_CSUM,
      gsoType: VnetGso.TCPV4,
      headerLength: 54,
      gsoSize: 1448,
      checksumStart: 34,
      checksumOffset: 16,
    });
    const frame = tcpFrame(Buffer.alloc(5000), true);
    expect([1, 2, 3].map(() => sendFrame(wire, frame, 1, header))).toEqual([0, 0, 0]);
    expect(sendFrame(wire, probe(60))).toBe(1);
    expect(prints(receiveAll(vm))).toEqual(prints([probe(60)]));
  });

  it('without PACKET_VNET_HDR a partial checksum arrives as it is, indistinguishable from a wrong one', () => {
    const vm = tap('p5', { vnetHeader: true, offload: 'gso' });
    const wire = packet('p5', 1 << 22);
    const fields = {
      flags: VnetFlag.NEEDS_CSUM,
      gsoType: VnetGso.NONE,
      headerLength: 0,
      gsoSize: 0,
      checksumStart: 34,
      checksumOffset: 16,
    };
    sendFrame(vm, tcpFrame(Buffer.alloc(50), true), 1, encodeVnetHeader(fields));
    expect(prints(receiveAll(wire))).toEqual(prints([tcpFrame(Buffer.alloc(50), true)]));
  });

  it('a send may have MTU + 14 bytes, 4 more for an 802.1Q tag and none for an 802.1ad one: EMSGSIZE', () => {
    tap('p6');
    const attempt = (frame: Buffer) => {
      const wire = packet('p6', 1 << 20);
      sendFrame(wire, frame);
      return wire.statistics().lastSendError;
    };
    const q: [number, number] = [0x8100, 1];
    const ad: [number, number] = [0x88a8, 1];
    expect(
      [[], [q], [q, q], [ad], [ad, q]].map((tags) => attempt(probe(1500, 0, tags as [number, number][]))),
    ).toEqual(['', '', 'EMSGSIZE', 'EMSGSIZE', 'EMSGSIZE']);
    host.ip('link set dev p6 mtu 1508');
    expect(
      [[q, q], [ad], [ad, q]].map((tags) => attempt(probe(1500, 0, tags as [number, number][]))),
    ).toEqual(['', '', '']);
  });

  it('a vanished interface says ENETDOWN once, then nothing, even when one of that name is back', () => {
    const first = tap('p7');
    const wire = packet('p7', 1 << 20);
    first.close();
    let code = '';
    try {
      receiveAll(wire);
    } catch (error) {
      code = (error as NativeError).code;
    }
    expect(code).toBe('ENETDOWN');
    expect(receiveAll(wire)).toEqual([]);
    const second = tap('p7');
    sendFrame(second, probe(60));
    expect(receiveAll(wire)).toEqual([]);
    const reopened = packet('p7', 1 << 20);
    sendFrame(second, probe(60));
    expect(receiveAll(reopened)).toHaveLength(1);
    expect(receiveAll(wire)).toEqual([]);
  });

  it('outgoing frames of other sockets are not seen either (PACKET_IGNORE_OUTGOING)', () => {
    const vm = tap('p8');
    const wire = packet('p8', 1 << 20);
    const other = packet('p8', 1 << 20);
    sendFrame(other, probe(60), 3);
    expect(receiveAll(vm)).toHaveLength(3);
    expect(receiveAll(wire)).toEqual([]);
  });
});
