import { expect, it } from 'vitest';
import { openPacketSocket, openTap } from '../../native/index.js';
import { buildUdp } from '../../src/wire/build.js';
import { until } from '../unit/link/collect.js';
import { describeInNamespaces } from './harness.js';
import { closeAfterEach, closeLater, openLink, sendNow, useOwnNamespace } from './link-helpers.js';

const frame = (destinationMac: string, payload: string, sourceMac = '52:54:00:00:00:01'): Buffer =>
  buildUdp({
    sourceMac,
    destinationMac,
    source: '10.1.1.1',
    destination: '10.1.1.2',
    sourcePort: 7000,
    destinationPort: 7001,
    payload: Buffer.from(payload),
  });

describeInNamespaces('tap link', () => {
  const host = useOwnNamespace('tap');
  closeAfterEach();

  const link = (name: string) => JSON.parse(host.ip(`-j -d link show dev ${name}`))[0];
  const exists = (name: string): boolean => host.ip('-br link').split(/\s+/).includes(name);

  /** What the host's stack or a bridge hands to, and takes from, an interface. */
  function tapped(name: string) {
    const port = openPacketSocket({ interface: name, promiscuous: true, receiveBufferBytes: 1 << 20 });
    closeLater(() => port.close());
    const slab = Buffer.alloc(2048 * 16);
    const offsets = new Int32Array(16);
    const lengths = new Int32Array(16);
    return {
      read(): Buffer[] {
        const count = port.receive(slab, offsets, lengths, 2048, 16);
        return Array.from({ length: count }, (_, k) =>
          Buffer.from(slab.subarray(offsets[k]!, offsets[k]! + lengths[k]!)),
        );
      },
      write(bytes: Buffer): void {
        port.send(bytes, Int32Array.of(0), Int32Array.of(bytes.length), 0, 0, 1);
      },
    };
  }

  it('makes the interface, speaks with the host through it, and takes it away at the end', async () => {
    const { link: client, at } = await openLink('tap:colo0');
    expect(client.state).toBe('up');
    expect(client.abilities).toEqual({ vnetHeader: true, gso: true, frameBytesMax: 1522 });
    const host0 = tapped('colo0');
    sendNow(client, frame('ff:ff:ff:ff:ff:ff', 'to the host'));
    const heard = (text: string) => host0.read().some((bytes) => bytes.includes(text));
    await until(() => heard('to the host'), 'the host receives');
    host0.write(frame('52:54:00:00:00:02', 'from the host'));
    await until(() => at.frames.some((bytes) => bytes.includes('from the host')), 'the link receives');
    expect(client.untaken()).toBe(0);
    await client.close();
    expect(exists('colo0')).toBe(false);
  });

  it('joins a bridge with its MTU, up, and joins it again when the bridge returns', async () => {
    host.ip('link add br0 mtu 1400 type bridge');
    host.ip('link set br0 up');
    const { link: client, at } = await openLink('tap:colo1,bridge=br0');
    expect(link('colo1')).toMatchObject({ master: 'br0', mtu: 1400, inet6_addr_gen_mode: 'none' });
    expect(client.state).toBe('up');
    expect(client.abilities.frameBytesMax).toBe(1422);
    host.ip('link add port0 mtu 1400 type veth peer name port1 mtu 1400');
    for (const end of ['port0', 'port1']) {
      host.ip(`link set ${end} addrgenmode none`);
      host.ip(`link set ${end} up`);
    }
    host.ip('link set port0 master br0');
    const other = tapped('port1');
    await until(() => {
      sendNow(client, frame('ff:ff:ff:ff:ff:ff', 'through the bridge'));
      return other.read().some((bytes) => bytes.includes('through the bridge'));
    }, 'bridged out');
    await until(() => {
      other.write(frame('52:54:00:00:00:01', 'and back', '52:54:00:00:00:03'));
      return at.frames.some((bytes) => bytes.includes('and back'));
    }, 'bridged in');
    host.ip('link del br0');
    await until(() => link('colo1').master === undefined, 'bridge gone');
    host.ip('link add br0 type bridge');
    await until(() => link('colo1').master === 'br0', 'joined again');
    await client.close();
    expect(exists('colo1')).toBe(false);
    host.ip('link del br0');
    host.ip('link del port0');
  });

  it('waits for a bridge that is not there', async () => {
    const { link: client, at } = await openLink('tap:colo2,bridge=later');
    expect(client.state).toBe('waiting');
    expect(at.reasons[0]).toMatchObject({
      code: 'COLO_ERR_LINK_OPEN',
      message: expect.stringMatching(/later does not exist/),
    });
    host.ip('link add later type bridge');
    await until(() => client.state === 'up' && link('colo2').master === 'later', 'joined');
    host.ip('link del later');
  });

  it('waits while somebody takes it down, and comes back without losing the interface', async () => {
    const { link: client, at } = await openLink('tap:colo3');
    const { ifindex } = link('colo3');
    host.ip('link set colo3 down');
    sendNow(client, frame('ff:ff:ff:ff:ff:ff', 'before anybody noticed'));
    await until(() => client.state === 'waiting', 'down');
    expect(sendNow(client, frame('ff:ff:ff:ff:ff:ff', 'x'))).toBe(false);
    host.ip('link set colo3 up');
    await until(() => client.state === 'up', 'up again');
    expect(link('colo3').ifindex).toBe(ifindex);
    const host3 = tapped('colo3');
    host3.write(frame('52:54:00:00:00:02', 'alive'));
    await until(() => at.frames.some((bytes) => bytes.includes('alive')), 'the link receives');
    sendNow(client, frame('ff:ff:ff:ff:ff:ff', 'well'));
    await until(() => host3.read().some((bytes) => bytes.includes('well')), 'the host receives');
  });

  it('is made again when somebody deletes it', async () => {
    const { link: client, at } = await openLink('tap:colo4');
    const { ifindex } = link('colo4');
    host.ip('link del colo4');
    await until(() => client.counters.reopens === 1 && client.state === 'up', 'made again');
    expect(link('colo4').ifindex).not.toBe(ifindex);
    tapped('colo4').write(frame('52:54:00:00:00:02', 'alive'));
    await until(() => at.frames.some((bytes) => bytes.includes('alive')), 'the link receives');
  });

  it("leaves an operator's persistent tap as it was found", async () => {
    host.ip('tuntap add colo5 mode tap vnet_hdr');
    host.ip('link add br5 mtu 1300 type bridge');
    const before = link('colo5');
    const { link: client } = await openLink('tap:colo5,bridge=br5');
    expect(link('colo5')).toMatchObject({ master: 'br5', mtu: 1300 });
    await client.close();
    const after = link('colo5');
    expect(after).toMatchObject({ mtu: before.mtu, inet6_addr_gen_mode: before.inet6_addr_gen_mode });
    expect(after.master).toBeUndefined();
    expect(after.flags.includes('UP')).toBe(false);
    host.ip('link del br5');
    host.ip('link del colo5');
  });

  it('says who holds it, and what is of another kind', async () => {
    const holder = openTap({ name: 'colo6' });
    closeLater(() => holder.close());
    await expect(openLink('tap:colo6')).rejects.toMatchObject({ code: 'COLO_ERR_TAP_IN_USE' });
    host.ip('tuntap add colo7 mode tap multi_queue');
    await expect(openLink('tap:colo7')).rejects.toMatchObject({ code: 'COLO_ERR_TAP_OPEN' });
    await openLink('tap:colo8');
    await expect(openLink('tap:colo8')).rejects.toMatchObject({
      code: 'COLO_ERR_TAP_IN_USE',
      message: expect.stringContaining('another proxy'),
    });
    host.ip('link del colo7');
  });
});
