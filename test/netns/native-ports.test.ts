/** The frame ports on real interfaces: what goes in comes out, whole, with its tags and vnet headers. */
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import {
  createPersistentTap,
  type FramePort,
  type NativeError,
  openPacketSocket,
  openTap,
  type PacketSocketOptions,
  removeTap,
  type TapOptions,
} from '../../native/index.js';
import {
  decodeVnetHeader,
  encodeVnetHeader,
  isProbe,
  prints,
  probe,
  receiveAll,
  sendFrame,
  tcpFrame,
  until,
  VnetFlag,
  VnetGso,
} from './frames.js';
import { describeInNamespaces, useNamespace } from './harness.js';

function nativeError(action: () => unknown): NativeError {
  try {
    action();
  } catch (error) {
    return error as NativeError;
  }
  throw new Error('it did not throw');
}

describeInNamespaces('frame ports', () => {
  const host = useNamespace('ports');

  function tap(options: TapOptions): FramePort {
    const port = host.within(() => openTap(options));
    onTestFinished(() => port.close());
    // Two steps: the kernel acts on 'up' before it looks at addrgenmode in the same request.
    host.ip(`link set dev ${options.name} arp off addrgenmode none`);
    host.ip(`link set dev ${options.name} up`);
    return port;
  }

  function packet(options: Partial<PacketSocketOptions> & { interface: string }): FramePort {
    const port = host.within(() => openPacketSocket({ receiveBufferBytes: 1 << 22, ...options }));
    onTestFinished(() => port.close());
    return port;
  }

  it('moves batches both ways between a TAP and a packet socket, in order', () => {
    const vm = tap({ name: 'a0' });
    const wire = packet({ interface: 'a0' });
    const frames = Array.from({ length: 200 }, (_, i) => probe(50 + i * 7, i));
    const bytes = Buffer.concat(frames);
    const lengths = Int32Array.from(frames, (frame) => frame.length);
    const offsets = new Int32Array(200);
    for (let i = 1; i < 200; i++) offsets[i] = offsets[i - 1] + lengths[i - 1];

    expect(vm.send(bytes, offsets, lengths, 0, 0, 200)).toBe(200);
    expect(prints(receiveAll(wire))).toEqual(prints(frames));
    // Our own sending is not seen again on the socket that sent it.
    expect(wire.send(bytes, offsets, lengths, 0, 20, 180)).toBe(180);
    expect(receiveAll(wire)).toEqual([]);
    expect(prints(receiveAll(vm))).toEqual(prints(frames.slice(20)));
    expect(wire.statistics()).toMatchObject({
      packets: 200,
      drops: 0,
      truncated: 0,
      sendErrors: 0,
      lastSendError: '',
    });
  });

  it('drops and counts frames longer than their slot, on both kinds, and keeps their neighbours', () => {
    const vm = tap({ name: 'a1' });
    const wire = packet({ interface: 'a1' });
    for (const [from, to] of [
      [vm, wire],
      [wire, vm],
    ]) {
      for (const payload of [100, 300, 186, 187, 110]) sendFrame(from, probe(payload, payload));
      const slab = Buffer.alloc(8 * 216);
      const offsets = new Int32Array(8);
      const lengths = new Int32Array(8);
      // 216 - 16 bytes of overhead: 200 bytes fit, 201 do not.
      expect(to.receive(slab, offsets, lengths, 216, 8)).toBe(3);
      expect([...lengths.subarray(0, 3)]).toEqual([114, 200, 124]);
      expect(slab.subarray(offsets[2], offsets[2] + 124)).toEqual(probe(110, 110));
      expect(to.statistics().truncated).toBe(2);
    }
  });

  it.each([
    ['one 802.1Q tag', [[0x8100, 0x2064]]],
    ['one 802.1ad tag', [[0x88a8, 0x0064]]],
    [
      'QinQ',
      [
        [0x88a8, 0x0065],
        [0x8100, 0xe066],
      ],
    ],
    ['a priority tag (VID 0)', [[0x8100, 0x6000]]],
  ] as [string, [number, number][]][])('puts %s back, with and without vnet header', (_title, tags) => {
    const vm = tap({ name: 'a2' });
    for (const vnetHeader of [false, true]) {
      const wire = packet({ interface: 'a2', vnetHeader });
      const frame = probe(80, 1, tags);
      sendFrame(vm, frame);
      sendFrame(vm, probe(60));
      expect(prints(receiveAll(wire))).toEqual(prints([frame, probe(60)]));
      sendFrame(wire, frame);
      expect(prints(receiveAll(vm))).toEqual(prints([frame]));
      wire.close();
    }
  });

  it('moves the vnet header with the tag, so that a tagged super-frame survives a round trip', () => {
    const vm = tap({ name: 'a3', vnetHeader: true, offload: 'gso' });
    const wire = packet({ interface: 'a3', vnetHeader: true });
    const payload = Buffer.alloc(40_000, 'abcdefg');
    for (const tags of [
      [],
      [[0x8100, 7]],
      [
        [0x88a8, 8],
        [0x8100, 7],
      ],
    ] as [number, number][][]) {
      const l4 = 14 + tags.length * 4 + 20;
      const frame = tcpFrame(payload, true, tags);
      const header = {
        flags: VnetFlag.NEEDS_CSUM,
        gsoType: VnetGso.TCPV4,
        headerLength: l4 + 20,
        gsoSize: 1400,
        checksumStart: l4,
        checksumOffset: 16,
      };
      expect(sendFrame(vm, frame, 1, encodeVnetHeader(header))).toBe(1);
      const [there] = receiveAll(wire);
      expect(prints([there])).toEqual(prints([frame]));
      expect(decodeVnetHeader(there.vnetHeader)).toEqual(header);
      expect(sendFrame(wire, there.bytes, 1, there.vnetHeader)).toBe(1);
      const [back] = receiveAll(vm);
      expect(prints([back])).toEqual(prints([frame]));
      expect(decodeVnetHeader(back.vnetHeader)).toMatchObject({
        gsoType: VnetGso.TCPV4,
        gsoSize: 1400,
        checksumStart: l4,
      });
    }
  });

  it('sends an empty vnet header when told that frames have none', () => {
    const vm = tap({ name: 'a4', vnetHeader: true });
    const wire = packet({ interface: 'a4', vnetHeader: true });
    expect(sendFrame(vm, probe(90), 70)).toBe(70);
    expect(sendFrame(wire, probe(91), 70)).toBe(70);
    expect(receiveAll(wire).filter((frame) => frame.bytes.length === 104)).toHaveLength(70);
    const received = receiveAll(vm);
    expect(received).toHaveLength(70);
    expect(received[69].vnetHeader).toEqual(Buffer.alloc(10));
  });

  it('passes full-size QinQ when the interface has an MTU 8 bytes larger, else skips the frame and says why', () => {
    const vm = tap({ name: 'a5' });
    const wire = packet({ interface: 'a5' });
    const service: [number, number] = [0x88a8, 1];
    const customer: [number, number] = [0x8100, 2];
    const plain = probe(1500, 3);
    const single = probe(1500, 3, [customer]);
    const double = probe(1500, 3, [service, customer]);
    const refused = (frame: Buffer) => {
      const before = wire.statistics().sendErrors;
      expect(sendFrame(wire, frame)).toBe(1);
      return wire.statistics().sendErrors > before;
    };
    // The kernel allows 4 more bytes for an 802.1Q tag, and nothing for an 802.1ad one.
    expect([plain, single, probe(1500, 3, [service]), double].map(refused)).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect(wire.statistics()).toMatchObject({ sendErrors: 2, lastSendError: 'EMSGSIZE' });
    host.ip('link set dev a5 mtu 1504');
    expect([double, probe(1500, 3, [customer, customer])].map(refused)).toEqual([true, false]);
    host.ip('link set dev a5 mtu 1508');
    expect(refused(double)).toBe(false);
    expect(prints(receiveAll(vm))).toEqual(
      prints([plain, single, probe(1500, 3, [customer, customer]), double]),
    );
    // The other way the TAP takes any length, whatever the MTU.
    host.ip('link set dev a5 mtu 1500');
    sendFrame(vm, double);
    expect(prints(receiveAll(wire))).toEqual(prints([double]));
  });

  it('goes on after refused frames in the middle of a batch', () => {
    const vm = tap({ name: 'a6' });
    const wire = packet({ interface: 'a6' });
    for (const port of [vm, wire]) {
      const frame = probe(100);
      // An empty frame is refused by both; a whole one follows it.
      expect(port.send(frame, new Int32Array(4), Int32Array.of(114, 0, 114, 114), 0, 0, 4)).toBe(4);
      expect(port.statistics()).toMatchObject({ sendErrors: 1, lastSendError: 'EINVAL' });
    }
    expect(receiveAll(wire)).toHaveLength(3);
    expect(receiveAll(vm)).toHaveLength(3);
  });

  it('says ENOBUFS, not silence, on a full TAP when the queue is bypassed', () => {
    const vm = tap({ name: 'a7' });
    host.ip('link set dev a7 txqueuelen 50');
    const wire = packet({ interface: 'a7', bypassQueue: true });
    expect(sendFrame(wire, probe(60), 80)).toBeLessThan(80);
    const kept = receiveAll(vm).length;
    expect(kept).toBeGreaterThanOrEqual(49);
    expect(sendFrame(wire, probe(60), 10)).toBe(10);
    expect(receiveAll(vm)).toHaveLength(10);
  });

  it('wakes for readable, stops, and survives close inside the callback', async () => {
    const vm = tap({ name: 'b0' });
    const wire = packet({ interface: 'b0' });
    const seen: number[] = [];
    wire.start(() => {
      seen.push(receiveAll(wire).length);
    });
    sendFrame(vm, probe(60), 3);
    await until(() => seen.length > 0, 'the first wake-up');
    expect(seen).toEqual([3]);
    wire.stop();
    sendFrame(vm, probe(60), 2);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(seen).toEqual([3]);
    let closed = false;
    wire.start(() => {
      wire.close();
      closed = true;
    });
    await until(() => closed, 'the wake-up that closes');
    expect(wire.fd).toBe(-1);
    expect(nativeError(() => receiveAll(wire)).code).toBe('EBADF');
    let writable = 0;
    vm.wantWritable(() => writable++);
    await until(() => writable > 0, 'writable');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(writable).toBe(1);
  });

  it('reports an interface that goes down once, and hears it when it is up again', async () => {
    const vm = tap({ name: 'b1' });
    const wire = packet({ interface: 'b1' });
    const heard: string[] = [];
    wire.start(() => {
      try {
        heard.push(`${receiveAll(wire).length}`);
      } catch (error) {
        heard.push((error as NativeError).code);
      }
    });
    host.ip('link set dev b1 down');
    await until(() => heard.length > 0, 'ENETDOWN');
    expect(nativeError(() => sendFrame(wire, probe(60))).code).toBe('ENETDOWN');
    expect(nativeError(() => sendFrame(vm, probe(60))).code).toBe('EIO');
    host.ip('link set dev b1 up');
    sendFrame(vm, probe(60));
    await until(() => heard.length > 1, 'the frame after it came up');
    expect(heard).toEqual(['ENETDOWN', '1']);
  });

  it('stops polling, without spinning, when its interface is gone', async () => {
    const vm = tap({ name: 'b2' });
    const heard: string[] = [];
    vm.start(() => {
      try {
        heard.push(`${receiveAll(vm).length}`);
      } catch (error) {
        heard.push((error as NativeError).code);
      }
    });
    host.ip('link del dev b2');
    await until(() => heard.length > 0, 'the loss');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(heard).toEqual(['EBADFD']);
    expect(nativeError(() => sendFrame(vm, probe(60)))).toMatchObject({
      code: 'EBADFD',
      syscall: 'write',
      interface: 'b2',
    });
  });

  it('makes persistent TAPs with an owner, opens, refuses and removes them', () => {
    host.within(() => {
      expect(createPersistentTap({ name: 'c0', owner: 1234, group: 4321 })).toEqual({
        name: 'c0',
        created: true,
      });
      expect(createPersistentTap({ name: 'c0', owner: 1234 })).toEqual({ name: 'c0', created: false });
      const details = JSON.parse(host.run('ip', '-j', 'tuntap', 'show'));
      expect(details.find((entry: { ifname: string }) => entry.ifname === 'c0')).toMatchObject({
        user: 1234,
        group: 4321,
      });
      const holder = openTap({ name: 'c0', mustExist: true });
      expect(nativeError(() => openTap({ name: 'c0' }))).toMatchObject({
        code: 'EBUSY',
        syscall: 'TUNSETIFF',
        interface: 'c0',
      });
      expect(nativeError(() => removeTap('c0')).code).toBe('EBUSY');
      holder.close();
      holder.close();
      removeTap('c0');
      expect(nativeError(() => removeTap('c0')).code).toBe('ENODEV');
      expect(nativeError(() => openTap({ name: 'c0', mustExist: true })).code).toBe('ENODEV');
      createPersistentTap({ name: 'c1', multiQueue: true });
      const first = openTap({ name: 'c1', multiQueue: true });
      const second = openTap({ name: 'c1', multiQueue: true });
      expect(nativeError(() => openTap({ name: 'c1' })).code).toBe('EINVAL');
      first.close();
      second.close();
      removeTap('c1');
      const numbered = openTap({ name: 'tap%d' });
      expect(numbered.interface).toMatch(/^tap\d+$/);
      numbered.close();
    });
  });

  it('opens what an unprivileged owner may open, and refuses the rest with EPERM', () => {
    host.within(() => createPersistentTap({ name: 'd0', owner: 65534 }));
    host.within(() => createPersistentTap({ name: 'd1', owner: 1 }));
    // `ip netns exec` has mounts of its own: only this child sees a device node that everybody may open.
    const script = `
      const addon = require(process.argv[1]);
      process.setgid(65534);
      process.setuid(65534);
      const attempt = (action) => {
        try {
          action().close();
          return 'ok';
        } catch (error) {
          return error.code + ' ' + error.syscall;
        }
      };
      console.log(JSON.stringify([
        attempt(() => addon.openTap({ name: 'd0' })),
        attempt(() => addon.openTap({ name: 'd1' })),
        attempt(() => addon.openPacketSocket({ interface: 'd0', receiveBufferBytes: 1000 })),
      ]));`;
    const folder = mkdtempSync(join(tmpdir(), 'colo-native-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    chmodSync(folder, 0o755);
    copyFileSync(
      new URL('../../native/build/Release/colo_native.node', import.meta.url),
      join(folder, 'addon.node'),
    );
    const prepare =
      'mknod -m 666 "$1/tun" c 10 200 && mount --bind "$1/tun" /dev/net/tun && exec "$2" -e "$3" "$1/addon.node"';
    const output = host.run('sh', '-c', prepare, 'sh', folder, process.execPath, script);
    expect(JSON.parse(output)).toEqual(['ok', 'EPERM TUNSETIFF', 'EPERM socket']);
  });

  it('refuses hostile arguments and stays whole', () => {
    const vm = tap({ name: 'e0' });
    const wire = packet({ interface: 'e0' });
    const slab = Buffer.alloc(4096);
    const column = new Int32Array(4);
    const attempts: (() => unknown)[] = [
      () => wire.receive(slab, column, column, 16, 1),
      () => wire.receive(slab, column, column, 2000, 3),
      () => wire.receive(slab, column, column, 100, 5),
      () => wire.receive(slab, column, column, 100, -1),
      () => wire.receive(slab, column, column, Number.NaN, 1),
      () => wire.receive(slab, column, column, 2 ** 32, 2 ** 32),
      () => wire.send(slab, Int32Array.of(4090), Int32Array.of(7), 0, 0, 1),
      () => wire.send(slab, Int32Array.of(-1), Int32Array.of(7), 0, 0, 1),
      () => wire.send(slab, Int32Array.of(0), Int32Array.of(-7), 0, 0, 1),
      () => wire.send(slab, Int32Array.of(2147483647), Int32Array.of(2147483647), 0, 0, 1),
      () => wire.send(slab, column, column, 10, 0, 1),
      () => wire.send(slab, column, column, 0, 3, 2),
      () => wire.send(slab, column, column, 0, 2 ** 32 - 1, 2 ** 32 - 1),
    ];
    for (const attempt of attempts) expect(attempt).toThrow(RangeError);
    const wrong = [null, undefined, {}, [], 'x', 5, new Int32Array(9), new ArrayBuffer(9), () => 0];
    for (const value of wrong) {
      expect(() => wire.receive(value as never, column, column, 100, 1)).toThrow(TypeError);
      expect(() => wire.send(value as never, column, column, 0, 0, 0)).toThrow(TypeError);
      expect(() => wire.receive.call(value as never, slab, column, column, 100, 1)).toThrow(TypeError);
      if (typeof value !== 'function') expect(() => wire.start(value as never)).toThrow(TypeError);
    }
    const detached = new Uint8Array(4096);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    expect(() => wire.receive(detached, column, column, 100, 1)).toThrow(RangeError);
    expect(() =>
      openTap({
        get name(): string {
          throw new Error('getter');
        },
      }),
    ).toThrow('getter');
    sendFrame(vm, probe(60));
    expect(receiveAll(wire).filter(isProbe)).toHaveLength(1);
  });
});
