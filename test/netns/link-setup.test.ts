import { expect, it } from 'vitest';
import { HostIsolation } from '../../src/link/isolation.js';
import { buildArp, buildUdp } from '../../src/wire/build.js';
import { until } from '../unit/link/collect.js';
import { describeInNamespaces } from './harness.js';
import { closeAfterEach, openLink, pause, sendNow, TapHolder, useOwnNamespace } from './link-helpers.js';

interface LinkJson {
  ifalias?: string;
  mtu: number;
  flags: string[];
  master?: string;
  inet6_addr_gen_mode?: string;
  linkinfo?: { info_data?: { user?: number; group?: number; persist?: boolean } };
}

const GUEST_MAC = '52:54:00:00:00:01';

describeInNamespaces("a VM's tap", () => {
  const host = useOwnNamespace('setup');
  closeAfterEach();
  let taps = 0;

  const role = (more: object = {}) => ({
    vmInterface: { instance: 'test', create: true, isolate: true, ...more },
  });
  const show = (name: string): LinkJson => JSON.parse(host.ip(`-j -d link show dev ${name}`))[0];
  const exists = (name: string): boolean => host.ip('-br link').split(/\s+/).includes(name);
  const hasRule = (name: string): boolean => host.run('nft', 'list', 'ruleset').includes(`"${name}"`);
  const whoHas = (address: string): Buffer =>
    buildArp({
      sourceMac: GUEST_MAC,
      destinationMac: 'ff:ff:ff:ff:ff:ff',
      operation: 1,
      senderMac: GUEST_MAC,
      senderIp: '192.0.2.9',
      targetMac: '00:00:00:00:00:00',
      targetIp: address,
    } as Parameters<typeof buildArp>[0]);
  const write = (holder: TapHolder, frame: Buffer): void =>
    holder.write(Buffer.concat([Buffer.alloc(10), frame]), 10);

  it('is created when absent, quiet, up, open to its owner, and deleted at the end when nobody holds it', async () => {
    const name = `vm${taps++}`;
    const { link } = await openLink(`packet:${name}`, {}, role({ owner: 12_345, group: 54_321 }));
    const made = show(name);
    expect(made.linkinfo?.info_data).toMatchObject({ persist: true, user: 12_345, group: 54_321 });
    expect(made).toMatchObject({ ifalias: 'colo-proxy:test', mtu: 1508, inet6_addr_gen_mode: 'none' });
    expect(made.flags).toEqual(expect.arrayContaining(['NOARP', 'UP']));
    expect(link.abilities.frameBytesMax).toBe(1522);
    expect(hasRule(name)).toBe(true);
    expect(link.state).toBe('waiting');
    const holder = new TapHolder(name);
    await until(() => link.state === 'up', 'up with a holder');
    holder.port.close();
    await until(() => link.state === 'waiting', 'no holder');
    await link.close();
    expect(exists(name)).toBe(false);
    expect(hasRule(name)).toBe(false);
  });

  it('is left to the VM that still holds it, and taken up again by the next start', async () => {
    const name = `vm${taps++}`;
    const first = await openLink(`packet:${name}`, {}, role());
    const holder = new TapHolder(name);
    await until(() => first.link.state === 'up', 'up');
    await first.link.close();
    expect(show(name).flags).not.toContain('UP');
    const second = await openLink(`packet:${name}`, {}, role());
    expect(second.link.state).toBe('up');
    sendNow(second.link, whoHas('192.0.2.1'));
    expect(holder.read().length).toBe(1);
    holder.port.close();
    await until(() => second.link.state === 'waiting', 'no holder');
    await second.link.close();
    expect(exists(name)).toBe(false);
  });

  it("is the operator's again, as it was, when the operator had made it", async () => {
    const name = `vm${taps++}`;
    host.ip(`tuntap add ${name} mode tap vnet_hdr`);
    const before = show(name);
    const { link } = await openLink(`packet:${name}`, {}, role());
    expect(show(name).flags).toEqual(expect.arrayContaining(['NOARP', 'UP']));
    await link.close();
    expect(show(name)).toMatchObject({
      flags: before.flags,
      mtu: before.mtu,
      inet6_addr_gen_mode: before.inet6_addr_gen_mode!,
    });
    expect(hasRule(name)).toBe(false);
  });

  it('is created again when somebody deletes it', async () => {
    const name = `vm${taps++}`;
    await openLink(`packet:${name}`, {}, role());
    host.ip(`link del ${name}`);
    await until(() => exists(name) && hasRule(name) && show(name).flags.includes('UP'), 'made again');
  });

  it('is refused, untouched, with an address or a bridge', async () => {
    const name = `vm${taps++}`;
    host.ip(`tuntap add ${name} mode tap`);
    host.ip(`addr add 192.0.2.200/24 dev ${name}`);
    await expect(openLink(`packet:${name}`, {}, role())).rejects.toMatchObject({
      code: 'COLO_ERR_TAP_IN_USE',
      message: expect.stringContaining(`ip address flush dev ${name}`),
    });
    host.ip(`addr flush dev ${name}`);
    host.ip('link add brx type bridge');
    host.ip(`link set ${name} master brx`);
    await expect(openLink(`packet:${name}`, {}, role())).rejects.toMatchObject({
      code: 'COLO_ERR_TAP_IN_USE',
      message: expect.stringMatching(/belongs to brx.*nomaster/),
    });
    expect(show(name).flags).not.toContain('NOARP');
    expect(hasRule(name)).toBe(false);
    host.ip('link del brx');
  });

  it.each([true, false])(
    'hears nothing from the host and gets no answer from it: isolate %s',
    async (isolate) => {
      const name = `vm${taps++}`;
      host.ip('addr replace 192.0.2.77/32 dev lo');
      const { link, at } = await openLink(`packet:${name}`, {}, role({ isolate }));
      const holder = new TapHolder(name);
      await until(() => link.state === 'up', 'up');
      write(holder, whoHas('192.0.2.77'));
      await until(() => at.frames.length > 0, 'the proxy sees the request');
      // Duplicate address detection, MLD and router solicitations begin within the first seconds.
      await pause(3000);
      const heard = holder.read().map((frame) => frame.subarray(10));
      if (isolate) {
        expect(heard.map((frame) => frame.toString('hex'))).toEqual([]);
        return;
      }
      // Left to the operator, the host does both: this is what isolation is for.
      expect(heard.some((frame) => frame.readUInt16BE(12) === 0x0806)).toBe(true);
      expect(heard.some((frame) => frame.readUInt16BE(12) === 0x86dd)).toBe(true);
    },
  );

  it.each([true, false])("keeps the VM's packets from the host's stack: isolate %s", async (isolate) => {
    const name = `vm${taps++}`;
    const received = (): number => {
      const [, values] = host
        .run('cat', '/proc/net/snmp')
        .split('\n')
        .filter((line) => line.startsWith('Ip: '));
      return Number(values!.split(' ')[3]); // InReceives
    };
    const { link, at } = await openLink(`packet:${name}`, {}, role({ isolate }));
    const holder = new TapHolder(name);
    await until(() => link.state === 'up', 'up');
    const before = received();
    for (let index = 0; index < 20; index++) {
      write(
        holder,
        buildUdp({
          sourceMac: GUEST_MAC,
          destinationMac: host.interfaceStatus(name).address,
          source: '192.0.2.9',
          destination: '192.0.2.77',
          sourcePort: 1,
          destinationPort: 2,
        }),
      );
    }
    await until(() => at.frames.length >= 20, 'the proxy sees them');
    expect(received() - before >= 20).toBe(!isolate);
  });

  it('keeps two proxies apart: one at its end leaves the rule of the other', async () => {
    const names = [`vm${taps++}`, `vm${taps++}`];
    const first = await openLink(`packet:${names[0]}`, {}, role({ instance: 'a' }));
    await openLink(`packet:${names[1]}`, {}, role({ instance: 'b' }));
    await first.link.close();
    expect([hasRule(names[0]!), hasRule(names[1]!)]).toEqual([false, true]);
  });

  it('replaces what a killed proxy of the same name left behind', async () => {
    const name = `vm${taps++}`;
    host.ip(`tuntap add ${name} mode tap`);
    const table = `colo-proxy_test_${name}`;
    const chain = `chain host { type filter hook ingress device "${name}" priority -500; policy drop; }`;
    host.nft(`table netdev ${table} {\n${chain}\n}`);
    const { link } = await openLink(`packet:${name}`, {}, role());
    expect(host.run('nft', 'list', 'ruleset').split(`"${name}"`).length).toBe(2);
    await link.close();
    expect(hasRule(name)).toBe(false);
  });

  it('leaves nothing behind when it cannot be isolated', async () => {
    const name = `vm"${taps++}`;
    await expect(openLink(`packet:${name}`, {}, role())).rejects.toMatchObject({
      code: 'COLO_ERR_TAP_ISOLATE',
    });
    expect(exists(name)).toBe(false);
  });

  it('says which package is missing when there is no nft', async () => {
    const isolation = new HostIsolation('test', 'vm', '/nonexistent/nft');
    await expect(isolation.apply()).rejects.toMatchObject({
      code: 'COLO_ERR_TAP_ISOLATE',
      message: expect.stringMatching(/Debian package nftables/),
    });
  });
});
