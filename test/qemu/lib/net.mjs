/** Two network namespaces of a run: `host`, where the VMs and the proxy live, and `client`, joined by a veth pair. */
import { run } from './command.mjs';

export const GUEST = { ipv4: '10.77.0.10', ipv6: 'fd77::10', mac: '52:54:00:77:00:10' };
export const CLIENT = { ipv4: '10.77.0.1', ipv6: 'fd77::1' };
/** Host's end of the veth pair. */
export const CLIENT_VETH = 'vclient';
export const BRIDGE = 'br0';
/** A second network, for VMs with two interfaces. */
export const SECOND = {
  guest: { ipv4: '10.78.0.10', ipv6: 'fd78::10' },
  client: { ipv4: '10.78.0.1', ipv6: 'fd78::1', interface: 'eth1' },
  veth: 'vclient1',
  bridge: 'br1',
};

export class Network {
  /** @param {string} runId short: part of the namespaces' names */
  constructor(runId) {
    this.host = `colo-${runId}-host`;
    this.client = `colo-${runId}-client`;
  }

  async create() {
    for (const namespace of [this.host, this.client]) {
      await run('ip', ['netns', 'add', namespace]);
      await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    }
    await this.#createPath(CLIENT_VETH, { ...CLIENT, interface: 'eth0' });
  }

  createSecond() {
    return this.#createPath(SECOND.veth, SECOND.client);
  }

  async #createPath(veth, client) {
    const device = client.interface;
    const peer = ['peer', 'name', device, 'netns', this.client];
    await run('ip', ['-n', this.host, 'link', 'add', veth, 'type', 'veth', ...peer]);
    await this.inHost(['sysctl', '-qw', `net.ipv6.conf.${veth}.disable_ipv6=1`]);
    await run('ip', ['-n', this.client, 'addr', 'add', `${client.ipv4}/24`, 'dev', device]);
    await run('ip', ['-n', this.client, 'addr', 'add', `${client.ipv6}/64`, 'dev', device, 'nodad']);
    await run('ip', ['-n', this.client, 'link', 'set', device, 'up']);
    await run('ip', ['-n', this.host, 'link', 'set', veth, 'up']);
  }

  /** A bridge in the host namespace with the clients on it. */
  async createBridge(bridge = BRIDGE, veth = CLIENT_VETH) {
    await run('ip', ['-n', this.host, 'link', 'add', bridge, 'type', 'bridge', 'forward_delay', '0']);
    await this.inHost(['sysctl', '-qw', `net.ipv6.conf.${bridge}.disable_ipv6=1`]);
    await run('ip', ['-n', this.host, 'link', 'set', bridge, 'up']);
    await run('ip', ['-n', this.host, 'link', 'set', veth, 'master', bridge]);
  }

  /** A TAP on that bridge: a guest's link without a proxy. */
  async createBridgedTap(name) {
    await run('ip', ['-n', this.host, 'tuntap', 'add', 'dev', name, 'mode', 'tap', 'vnet_hdr']);
    await this.inHost(['sysctl', '-qw', `net.ipv6.conf.${name}.disable_ipv6=1`]);
    await run('ip', ['-n', this.host, 'link', 'set', name, 'master', BRIDGE, 'up']);
  }

  /** @param {string[]} command run to its end in the host namespace */
  inHost(command) {
    return run('ip', ['netns', 'exec', this.host, ...command]);
  }

  async remove() {
    for (const namespace of [this.client, this.host]) {
      await run('ip', ['netns', 'del', namespace]).catch(() => {});
    }
  }
}
