/** Two network namespaces of a run: `host`, where the VMs and the proxy live, and `client`, joined by a veth pair. */
import { run } from './command.mjs';

export const GUEST = { ipv4: '10.77.0.10', ipv6: 'fd77::10', mac: '52:54:00:77:00:10' };
export const CLIENT = { ipv4: '10.77.0.1', ipv6: 'fd77::1' };
/** Host's end of the veth pair. */
export const CLIENT_VETH = 'vclient';
export const BRIDGE = 'br0';

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
    const peer = ['peer', 'name', 'eth0', 'netns', this.client];
    await run('ip', ['-n', this.host, 'link', 'add', CLIENT_VETH, 'type', 'veth', ...peer]);
    await this.inHost(['sysctl', '-qw', `net.ipv6.conf.${CLIENT_VETH}.disable_ipv6=1`]);
    await run('ip', ['-n', this.client, 'addr', 'add', `${CLIENT.ipv4}/24`, 'dev', 'eth0']);
    await run('ip', ['-n', this.client, 'addr', 'add', `${CLIENT.ipv6}/64`, 'dev', 'eth0', 'nodad']);
    await run('ip', ['-n', this.client, 'link', 'set', 'eth0', 'up']);
    await run('ip', ['-n', this.host, 'link', 'set', CLIENT_VETH, 'up']);
  }

  /** A bridge in the host namespace with the clients on it. */
  async createBridge() {
    await run('ip', ['-n', this.host, 'link', 'add', BRIDGE, 'type', 'bridge', 'forward_delay', '0']);
    await this.inHost(['sysctl', '-qw', `net.ipv6.conf.${BRIDGE}.disable_ipv6=1`]);
    await run('ip', ['-n', this.host, 'link', 'set', BRIDGE, 'up']);
    await run('ip', ['-n', this.host, 'link', 'set', CLIENT_VETH, 'master', BRIDGE]);
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
