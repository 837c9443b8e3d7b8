/**
 * Kernel facts about the host's own stack on a VM's TAP.
 *
 * Product rules that rest on them: a TAP belongs to the proxy alone. Before it goes up: ARP off, no IPv6 address
 * generation (in a request of its own), ingress dropped for the host's stack by nftables' netdev hook. A TAP with
 * a bridge master is refused. What the host sends by itself is invisible to the proxy's socket but counts in
 * tx_packets, so it would also falsify the count of untaken frames (T8).
 */
import { expect, it, onTestFinished } from 'vitest';
import { type FramePort, openPacketSocket, openTap } from '../../native/index.js';
import { BROADCAST, ethernet, isProbe, mac, probe, receiveAll, sendFrame, until } from '../netns/frames.js';
import { describeInNamespaces, useNamespace } from '../netns/harness.js';

const IPV6 = 0x86dd;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** "Who has 10.9.9.9?" from a VM at 10.7.0.5. */
function arpRequest(): Buffer {
  return ethernet(
    BROADCAST,
    mac(5),
    0x0806,
    Buffer.concat([
      Buffer.from('0001080006040001', 'hex'),
      mac(5),
      Buffer.from([10, 7, 0, 5, 0, 0, 0, 0, 0, 0, 10, 9, 9, 9]),
    ]),
  );
}

const etherTypes = (port: FramePort) => receiveAll(port).map((frame) => frame.bytes.readUInt16BE(12));

describeInNamespaces("kernel: the host's stack on a TAP", () => {
  const host = useNamespace('isolation');

  function tap(name: string): FramePort {
    const port = host.within(() => openTap({ name }));
    onTestFinished(() => port.close());
    return port;
  }

  function packet(name: string): FramePort {
    const port = host.within(() => openPacketSocket({ interface: name, receiveBufferBytes: 1 << 20 }));
    onTestFinished(() => port.close());
    return port;
  }

  it('a fresh TAP that goes up gets frames of the host (MLD, DAD, RS), unseen by the packet socket but counted', async () => {
    const vm = tap('i0');
    host.ip('link set dev i0 up');
    const wire = packet('i0');
    const types: number[] = [];
    await until(() => {
      types.push(...etherTypes(vm));
      return types.length >= 3;
    }, 'three frames of the host');
    expect(new Set(types)).toEqual(new Set([IPV6]));
    expect(etherTypes(wire)).toEqual([]);
    // MLD and RS go on for seconds: compare when both stand still.
    await until(() => {
      types.push(...etherTypes(vm));
      return host.interfaceStatus('i0').txPackets === types.length;
    }, 'every frame of the host is counted');
  });

  it('ARP off and no address generation, set before it goes up, silence it', async () => {
    const vm = tap('i1');
    host.ip('link set dev i1 arp off addrgenmode none');
    host.ip('link set dev i1 up');
    await pause(2500);
    expect(etherTypes(vm)).toEqual([]);
    expect(host.interfaceStatus('i1').txPackets).toBe(0);
    expect(host.ip('-6 address show dev i1').trim()).toBe('');
  });

  it('in one request with "up" they come too late: the address is already there', () => {
    tap('i2');
    host.ip('link set dev i2 arp off addrgenmode none up');
    expect(host.ip('-6 address show dev i2')).toContain('fe80::');
  });

  /** A TAP that is up, and how many ARP requests and replies each end sees when the VM asks for 10.9.9.9. */
  async function askHost(name: string, prepare: () => void) {
    host.run('ip', 'address', 'replace', '10.9.9.9/32', 'dev', 'lo');
    const vm = tap(name);
    host.ip(`link set dev ${name} addrgenmode none`);
    host.run('sysctl', '-qw', `net.ipv4.conf.${name}.rp_filter=0`);
    prepare();
    host.ip(`link set dev ${name} up`);
    // Without a route back the host would not answer the VM's address.
    host.ip(`route replace 10.7.0.0/24 dev ${name}`);
    const wire = packet(name);
    sendFrame(vm, arpRequest());
    await pause(100);
    return {
      replies: receiveAll(vm).filter((frame) => frame.bytes[21] === 2).length,
      seen: receiveAll(wire).length,
    };
  }

  it('the host answers ARP on the TAP for an address it has on any interface (weak host model)', async () => {
    expect(await askHost('i3', () => {})).toEqual({ replies: 1, seen: 1 });
  });

  it('an nftables ingress drop stops it, and the packet socket still sees every frame', async () => {
    const drop = () =>
      host.nft(
        'table netdev colo {\n chain i4 {\n type filter hook ingress device "i4" priority 0; policy drop;\n }\n}\n',
      );
    expect(await askHost('i4', drop)).toEqual({ replies: 0, seen: 1 });
  });

  it('so does arp_ignore=8, for ARP alone', async () => {
    const ignore = () => host.run('sysctl', '-qw', 'net.ipv4.conf.i5.arp_ignore=8');
    expect(await askHost('i5', ignore)).toEqual({ replies: 0, seen: 1 });
  });

  it('so does "arp off" on the interface, for ARP alone', async () => {
    expect(await askHost('i6', () => host.ip('link set dev i6 arp off'))).toEqual({ replies: 0, seen: 1 });
  });

  it("in a bridge every frame of the VM leaves by the bridge's other port as well", async () => {
    const vm = tap('i7');
    const neighbour = tap('i8');
    host.ip('link add br7 type bridge');
    for (const name of ['i7', 'i8', 'br7']) {
      host.ip(`link set dev ${name} arp off addrgenmode none`);
      if (name !== 'br7') host.ip(`link set dev ${name} master br7`);
      host.ip(`link set dev ${name} up`);
    }
    const wire = packet('i7');
    let leaked = 0;
    await until(() => {
      sendFrame(vm, probe(60));
      leaked += receiveAll(neighbour).filter(isProbe).length;
      return leaked > 0;
    }, 'the bridge forwards');
    expect(receiveAll(wire).filter(isProbe).length).toBeGreaterThan(0);
  });
});
