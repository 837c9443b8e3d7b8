/** `colo-proxy --primary-tap tap0 --secondary-tap tap1` as a user runs it, in a namespace of its own. */
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { permittedCapabilities } from '../../src/system/confine.js';
import { getUnix, ProxyProcess } from '../unit/cli/proxy-process.js';
import { describeInNamespaces, useNamespace } from './harness.js';

describeInNamespaces('the command with taps', () => {
  const host = useNamespace('cli');
  let folder: string;
  const started: ProxyProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'colo-taps-'));
  });
  afterEach(async () => {
    for (const proxy of started.splice(0)) await proxy.kill();
    rmSync(folder, { recursive: true });
    for (const name of ['tap0', 'tap1', 'colo0', 'br0']) {
      try {
        host.ip(`link del ${name}`);
      } catch {
        // it was not made, or is gone already
      }
    }
  });

  /** `through` runs node by another command, such as one that takes privileges away. */
  function start(more: string[] = [], through: string[] = []): ProxyProcess {
    const own = ['--runtime-directory', folder, '--http', `unix:${folder}/http`, '--log-format', 'json'];
    const proxy = new ProxyProcess(
      ['--primary-tap', 'tap0', '--secondary-tap', 'tap1', ...own, ...more],
      (words) => {
        const [command, ...rest] = [...through, process.execPath, ...words];
        return host.spawn(command!, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
      },
    );
    started.push(proxy);
    return proxy;
  }

  it('makes the taps quiet and isolated, joins the bridge, and stops with exit code 0', async () => {
    host.ip('link add br0 mtu 1400 type bridge');
    const proxy = start(['--client', 'tap:colo0,bridge=br0']);
    await proxy.until('the admin address', () => proxy.said('admin address is open'));
    for (const tap of ['tap0', 'tap1']) expect(host.interfaceStatus(tap).flags).toContain('NOARP');
    expect(host.ip('-o link show colo0')).toMatch(/mtu 1400 .*master br0/);
    expect(host.run('nft', 'list', 'ruleset')).toMatch(/hook ingress device "tap0"/);
    const { body } = await getUnix(join(folder, 'http'), '/metrics');
    expect(body).toContain('colo_proxy_link_up{side="client",nic="0"} 1');

    proxy.child.kill('SIGTERM');
    expect(await proxy.exit()).toBe(0);
    expect(host.run('nft', 'list', 'ruleset')).not.toContain('tap0');
  });

  it('gives up every privilege that it does not need, in every thread', async () => {
    const kept = 0x3403n; // CHOWN, DAC_OVERRIDE, NET_BIND_SERVICE, NET_ADMIN, NET_RAW
    const permitted = (proxy: ProxyProcess): bigint[] =>
      readdirSync(`/proc/${proxy.child.pid}/task`).map((thread) =>
        permittedCapabilities(readFileSync(`/proc/${proxy.child.pid}/task/${thread}/status`, 'utf8')),
      );
    const [probe, seen] = [join(folder, 'probe'), join(folder, 'seen')];
    writeFileSync(probe, `#!/bin/sh\ncat /proc/self/status > ${seen}.new && mv ${seen}.new ${seen}\n`);
    chmodSync(probe, 0o755);
    const proxy = start(['--set', `failover.probeProgram=${probe}`]);
    await proxy.until('the admin address', () => proxy.said('admin address is open'));
    await proxy.until('the probe', () => existsSync(seen));
    expect(permittedCapabilities(readFileSync(seen, 'utf8'))).toBe(kept); // no more than the proxy
    expect(proxy.err).toBe('');
    expect(new Set(permitted(proxy))).toEqual(new Set([kept]));
    expect(readFileSync(`/proc/${proxy.child.pid}/status`, 'utf8')).toMatch(/^NoNewPrivs:\s1$/m);
    proxy.child.kill('SIGTERM');
    expect(await proxy.exit()).toBe(0);

    const fencing = start(['--set', 'failover.fenceProgram=/bin/true']);
    await fencing.until('the admin address', () => fencing.said('admin address is open'));
    expect(permitted(fencing).every((set) => set > kept)).toBe(true);
  });

  it('a second proxy on the same taps is refused, the first goes on', async () => {
    const first = start();
    await first.until('the admin address', () => first.said('admin address is open'));
    const second = start([
      '--runtime-directory',
      join(folder, 'second'),
      '--client',
      'tap:colo1',
      '--http',
      'off',
    ]);
    expect(await second.exit()).toBe(1);
    expect(second.err).toContain('(COLO_ERR_TAP_IN_USE)');
    expect((await getUnix(join(folder, 'http'), '/healthz')).code).toBe(200);
    expect(host.run('nft', 'list', 'ruleset')).toMatch(/hook ingress device "tap0"/);
  });

  it('a tap with an address is refused with the cure', async () => {
    host.ip('tuntap add tap0 mode tap');
    host.ip('addr add 192.0.2.1/24 dev tap0');
    const proxy = start();
    expect(await proxy.exit()).toBe(1);
    expect(proxy.err).toMatch(/tap0 has an address.*ip address flush dev tap0.*\(COLO_ERR_TAP_IN_USE\)/);
  });

  it('check names interfaces whose MTUs differ, and needs no privilege', async () => {
    host.ip('tuntap add tap0 mode tap');
    host.ip('tuntap add tap1 mode tap');
    host.ip('link set tap1 mtu 9000');
    const words = ['check', '--primary', 'packet:tap0', '--secondary', 'packet:tap1'];
    const proxy = new ProxyProcess(words, (all) =>
      host.spawn('setpriv', ['--bounding-set=-all', '--inh-caps=-all', '--', process.execPath, ...all], {
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
    expect(await proxy.exit()).toBe(2);
    expect(proxy.err).toMatch(/tap1 \(secondary\) has MTU 9000, tap0 \(primary\) has 1500.*\(COLO_ERR_MTU\)/);
  });

  it('without privileges it says which are missing', async () => {
    const proxy = start([], ['setpriv', '--bounding-set=-net_admin,-net_raw', '--inh-caps=-all', '--']);
    expect(await proxy.exit()).toBe(1);
    expect(proxy.err).toMatch(/CAP_NET_ADMIN.*\(COLO_ERR_TAP_OPEN\)/s);
  });
});
