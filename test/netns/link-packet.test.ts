import { expect, it } from 'vitest';
import { buildTcp, buildUdp } from '../../src/wire/build.js';
import { TcpFlag } from '../../src/wire/frame-view.js';
import { GsoType, VnetFlag } from '../../src/wire/vnet-header.js';
import { until } from '../unit/link/collect.js';
import { describeInNamespaces } from './harness.js';
import {
  closeAfterEach,
  digest,
  openLink,
  pause,
  sendNow,
  TapHolder,
  useOwnNamespace,
} from './link-helpers.js';

const ADDRESSES = {
  sourceMac: '52:54:00:00:00:01',
  destinationMac: '52:54:00:00:00:02',
  source: '10.1.1.1',
  destination: '10.1.1.2',
} as const;
const udp = (payloadBytes: number, more: object = {}): Buffer =>
  buildUdp({
    ...ADDRESSES,
    sourcePort: 1,
    destinationPort: 2,
    payload: Buffer.alloc(payloadBytes, 0x5a),
    ...more,
  });

/** A TCP super-frame with its vnet header. */
const superFrame = (payloadBytes: number): Buffer =>
  buildTcp({
    ...ADDRESSES,
    sourcePort: 80,
    destinationPort: 81,
    seq: 1000,
    flags: TcpFlag.ACK,
    payload: Buffer.alloc(payloadBytes, 1),
    checksum: 'partial',
    vnet: {
      flags: VnetFlag.NEEDS_CSUM,
      gsoType: GsoType.TCPV4,
      headerBytes: 54,
      gsoBytes: 1448,
      checksumStart: 34,
      checksumOffset: 16,
    },
  });

describeInNamespaces('packet link', () => {
  const host = useOwnNamespace('packet');
  closeAfterEach();
  let taps = 0;

  /** A tap made by its holder, quiet and up. */
  function quietTap(offload: 'none' | 'checksum' | 'gso' = 'gso') {
    const name = `t${taps++}`;
    const holder = new TapHolder(name, offload);
    host.ip(`link set ${name} arp off addrgenmode none`);
    host.ip(`link set ${name} up`);
    return { name, holder };
  }

  it('carries plain, tagged and double-tagged frames both ways', async () => {
    const { name, holder } = quietTap();
    host.ip(`link set ${name} mtu 1508`);
    const { link, at } = await openLink(`packet:${name}`);
    expect(link.state).toBe('up');
    const frames = [
      udp(100),
      udp(1472),
      udp(1472, { vlans: [{ vid: 5 }] }),
      udp(1472, { vlans: [{ vid: 5, tpid: 0x88a8 }, { vid: 6 }] }),
    ];
    for (const frame of frames) expect(sendNow(link, frame)).toBe(true);
    expect(holder.read().map((frame) => digest(frame.subarray(10)))).toEqual(frames.map(digest));
    for (const frame of frames) holder.write(Buffer.concat([Buffer.alloc(10), frame]), 10);
    expect(link.drain()).toBe(frames.length);
    expect(at.frames.map(digest)).toEqual(frames.map(digest));
    expect(link.counters).toMatchObject({ framesSent: 4, framesReceived: 4, sendDrops: 0, receiveDrops: 0 });
  });

  it('carries a super-frame whole, with its vnet header, both ways', async () => {
    const { name, holder } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    const frame = superFrame(60_000);
    expect(sendNow(link, frame, 10)).toBe(true);
    expect(link.untaken()).toBe(1);
    const [got] = holder.read();
    expect(got!.equals(frame)).toBe(true);
    expect(link.untaken()).toBe(0);
    holder.write(frame, 10);
    expect(link.drain()).toBe(1);
    expect(Buffer.concat([at.vnetHeaders[0]!, at.frames[0]!]).equals(frame)).toBe(true);
  });

  it.each([
    ['none', 42],
    ['gso', 1],
  ] as const)(
    'hands a super-frame over in frames that the holder (offload %s) can take, and counts them',
    async (offload, count) => {
      const { name, holder } = quietTap(offload);
      const { link } = await openLink(`packet:${name}`);
      expect(sendNow(link, superFrame(42 * 1448 - 5), 10)).toBe(true);
      expect(link.untaken()).toBe(count);
      expect(holder.read(100).length).toBe(count);
      expect(link.untaken()).toBe(0);
      expect(host.interfaceStatus(name).txPackets).toBe(count);
    },
  );

  it('notices when the offloads of a tap change', async () => {
    const { name, holder } = quietTap();
    const { link } = await openLink(`packet:${name}`);
    const framesFor = (): number => {
      const before = link.counters.framesSent;
      sendNow(link, superFrame(3000), 10);
      holder.read();
      return link.counters.framesSent - before;
    };
    expect(framesFor()).toBe(1);
    host.run('ethtool', '-K', name, 'tso', 'off');
    await until(() => framesFor() === 3, 'cut here');
    expect(link.untaken()).toBe(0);
    host.run('ethtool', '-K', name, 'tso', 'on');
    await until(() => framesFor() === 1, 'whole again');
  });

  it('knows exactly what the holder has not read', async () => {
    const { name, holder } = quietTap();
    const { link } = await openLink(`packet:${name}`);
    expect(link.untaken()).toBe(0);
    for (let index = 0; index < 10; index++) sendNow(link, udp(50));
    expect(link.untaken()).toBe(10);
    holder.read(4);
    expect(link.untaken()).toBe(6);
    holder.read();
    expect(link.untaken()).toBe(0);
    sendNow(link, udp(50));
    expect(link.untaken()).toBe(1);
  });

  it('loses nothing to a full tap queue: what it cannot hold waits here', async () => {
    const { name, holder } = quietTap();
    host.ip(`link set ${name} txqueuelen 100`);
    const { link } = await openLink(`packet:${name}`);
    for (let index = 0; index < 300; index++) {
      const frame = udp(50);
      frame.writeUInt16BE(index, frame.length - 2);
      expect(link.send(frame, 0, frame.length, 0)).toBe(true);
    }
    link.flush();
    expect(link.untaken()).toBe(300);
    expect(link.counters.framesSent).toBeLessThanOrEqual(100);
    const got: Buffer[] = [];
    await until(() => got.push(...holder.read()) >= 300, 'all frames read');
    expect(got.map((frame) => frame.readUInt16BE(frame.length - 2))).toEqual([...Array(300).keys()]);
    expect(host.interfaceStatus(name).txDropped).toBe(0);
    expect(link.untaken()).toBe(0);
  });

  it('keeps super-frames, which leave at once, in their place among the others', async () => {
    const { name, holder } = quietTap();
    host.ip(`link set ${name} txqueuelen 20`);
    const { link } = await openLink(`packet:${name}`);
    for (let index = 0; index < 60; index++) {
      const isSuper = index % 3 === 1;
      const frame = isSuper ? superFrame(20_000) : udp(50);
      frame.writeUInt16BE(index, frame.length - 2);
      const vnetHeaderBytes = isSuper ? 10 : 0;
      expect(link.send(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes)).toBe(true);
      if (index === 1) expect(link.counters.framesSent).toBe(2);
      frame.fill(0); // the link needs it no more
    }
    link.flush();
    expect(link.untaken()).toBe(60);
    const got: Buffer[] = [];
    await until(() => got.push(...holder.read()) >= 60, 'all frames read');
    expect(got.map((frame) => frame.readUInt16BE(frame.length - 2))).toEqual([...Array(60).keys()]);
    expect(link.counters).toMatchObject({ framesSent: 60, sendDrops: 0 });
    expect(link.untaken()).toBe(0);
  });

  it('asks before a super-frame leaves, too', async () => {
    const { name, holder } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    at.maySend = () => false;
    sendNow(link, superFrame(20_000), 10);
    expect(holder.read()).toEqual([]);
    expect(link.counters).toMatchObject({ framesSent: 0, sendDrops: 1 });
  });

  it('drains what is far more than one batch takes', async () => {
    const { name, holder } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    for (let index = 0; index < 100; index++) holder.write(superFrame(60_000), 10);
    expect(link.drain()).toBe(100);
    expect(at.batches).toBeGreaterThan(4);
  });

  it('bounds what waits, counts the rest as drops, and can throw the waiting away', async () => {
    const { name } = quietTap();
    host.ip(`link set ${name} txqueuelen 50`);
    const { link } = await openLink(`packet:${name}`, { sendQueueFramesMax: 64 });
    let taken = 0;
    for (let index = 0; index < 300; index++) if (sendNow(link, udp(50))) taken++;
    expect(taken).toBeLessThanOrEqual(50 + 64);
    expect(link.counters.sendDrops).toBe(300 - taken);
    const inKernel = link.counters.framesSent;
    expect(link.discardQueued()).toBe(taken - inKernel);
    expect(link.untaken()).toBe(inKernel);
  });

  it('forgets what a holder left unread, and waits for the next one', async () => {
    const name = `t${taps++}`;
    host.ip(`tuntap add ${name} mode tap vnet_hdr`);
    host.ip(`link set ${name} arp off addrgenmode none`);
    host.ip(`link set ${name} up`);
    const { link, at } = await openLink(`packet:${name}`);
    expect(link.state).toBe('waiting');
    expect(at.reasons.at(-1)!.message).toMatch(/no carrier/);
    const first = new TapHolder(name);
    await until(() => link.state === 'up', 'up with the first holder');
    for (let index = 0; index < 5; index++) sendNow(link, udp(50));
    expect(link.untaken()).toBe(5);
    first.port.close();
    await until(() => link.state === 'waiting', 'waiting without holder');
    expect(link.untaken()).toBe(0);
    expect(sendNow(link, udp(50))).toBe(false);
    const second = new TapHolder(name);
    await until(() => link.state === 'up', 'up with the second holder');
    sendNow(link, udp(50));
    expect(link.untaken()).toBe(1);
    expect(second.read().length).toBe(1);
    expect(link.untaken()).toBe(0);
  });

  it('follows an interface that goes down, vanishes, and returns under another index', async () => {
    const { name, holder } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    const works = async (with_: TapHolder, what: string) => {
      await until(() => link.state === 'up', `up: ${what}`);
      const before = at.frames.length;
      with_.write(Buffer.concat([Buffer.alloc(10), udp(60)]), 10);
      await until(() => at.frames.length === before + 1, `frame received: ${what}`);
      expect(sendNow(link, udp(61))).toBe(true);
      await until(() => with_.read().length === 1, `frame taken: ${what}`);
    };
    await works(holder, 'at first');
    host.ip(`link set ${name} down`);
    await until(() => link.state === 'waiting', 'noticed down');
    expect(at.reasons.at(-1)).toMatchObject({ code: 'COLO_ERR_LINK_LOST' });
    host.ip(`link set ${name} up`);
    await works(holder, 'after down and up');
    const index = host.interfaceStatus(name).ifindex;
    holder.port.close();
    await until(() => link.state === 'waiting', 'noticed vanishing');
    host.ip('link add other type veth peer name another');
    const again = new TapHolder(name);
    host.ip(`link set ${name} arp off addrgenmode none`);
    host.ip(`link set ${name} up`);
    expect(host.interfaceStatus(name).ifindex).not.toBe(index);
    await works(again, 'after its return');
    expect(link.counters.reopens).toBe(2);
    host.ip('link del other');
  });

  it('lets go of an interface that is renamed, and takes it again under its name', async () => {
    const { name } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    host.ip(`link set ${name} down`);
    await until(() => link.state === 'waiting', 'down');
    await pause(200); // every look that the change to "down" caused is over
    host.ip(`link set ${name} name elsewhere`);
    await until(() => at.reasons.at(-1)!.message.includes('does not exist'), 'noticed the new name');
    host.ip('link set elsewhere up');
    host.ip('link set elsewhere down');
    expect(link.state).toBe('waiting');
    host.ip(`link set elsewhere name ${name}`);
    host.ip(`link set ${name} up`);
    await until(() => link.state === 'up', 'up again');
  });

  it('notices a replacement that happens too fast to see', async () => {
    const { name, holder } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    holder.port.close();
    const again = new TapHolder(name);
    host.ip(`link set ${name} arp off addrgenmode none`);
    host.ip(`link set ${name} up`);
    await until(() => link.counters.reopens === 1 && link.state === 'up', 'reopened');
    again.write(Buffer.concat([Buffer.alloc(10), udp(60)]), 10);
    await until(() => at.frames.length === 1, 'frame received');
  });

  it('waits for an interface that does not exist yet', async () => {
    const { link, at } = await openLink('packet:later0');
    expect(link.state).toBe('waiting');
    expect(at.reasons[0]).toMatchObject({
      code: 'COLO_ERR_LINK_OPEN',
      message: expect.stringMatching(/does not exist/),
    });
    new TapHolder('later0');
    host.ip('link set later0 up');
    await until(() => link.state === 'up', 'up');
  });

  it('refuses a second proxy on the same interface and names the first', async () => {
    const { name } = quietTap();
    const { link } = await openLink(`packet:${name}`);
    const refusal = { code: 'COLO_ERR_TAP_IN_USE', message: expect.stringContaining(`pid ${process.pid}`) };
    await expect(openLink(`packet:${name}`)).rejects.toMatchObject(refusal);
    await link.close();
    const second = await openLink(`packet:${name}`);
    expect(second.link.state).toBe('up');
  });

  it('counts what the kernel lost before we read it', async () => {
    const { name, holder } = quietTap();
    const { link } = await openLink(`packet:${name}`, { receiveBufferBytes: 64 * 1024 });
    for (let index = 0; index < 2000; index++) holder.write(Buffer.concat([Buffer.alloc(10), udp(1000)]), 10);
    const received = link.drain();
    expect(received).toBeLessThan(2000);
    await until(() => link.counters.receiveDrops === 2000 - received, 'drops counted');
  });

  it('keeps 20,000 unread frames in its receive buffer', async () => {
    const { name, holder } = quietTap();
    const { link } = await openLink(`packet:${name}`);
    for (let index = 0; index < 20_000; index++) holder.write(Buffer.concat([Buffer.alloc(10), udp(60)]), 10);
    expect(link.drain()).toBe(20_000);
  });

  it('passes garbage of any length to the handler and to the wire without breaking', async () => {
    const { name, holder } = quietTap();
    const { link, at } = await openLink(`packet:${name}`);
    let sent = 0;
    for (let length = 0; length < 200; length++) {
      const garbage = Buffer.alloc(length, length);
      if (sendNow(link, garbage)) sent++;
      sendNow(link, Buffer.concat([Buffer.alloc(10, 0xff), garbage]), 10);
      try {
        holder.write(Buffer.concat([Buffer.alloc(10), garbage]), 10);
      } catch {
        // shorter than an Ethernet header: the tap itself refuses
      }
    }
    link.drain();
    expect(sent).toBe(200);
    expect(at.frames.length).toBeGreaterThan(180);
    while (holder.read().length > 0);
    expect(link.untaken()).toBe(0);
    sendNow(link, udp(10));
    expect(holder.read().length).toBe(1);
  });
});
