import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { flagsOf } from '../../../src/cli/config-options.js';
import { arbiterFindings } from '../../../src/cli/doctor/arbiter-checks.js';
import { type HostFacts, hostFindings } from '../../../src/cli/doctor/host-checks.js';
import { askVm, nicsOf, type VmFacts, vmFindings } from '../../../src/cli/doctor/vm-checks.js';
import { loadConfig } from '../../../src/config/load.js';
import { commandLine } from './command-line.js';

const config = loadConfig({
  flags: flagsOf({
    primary: 'packet:tap0',
    secondaryTap: 'tap1',
    client: 'tap:c0,bridge=br9',
    isolate: true,
    set: [],
  }),
});

function facts(changes: Partial<HostFacts> = {}): HostFacts {
  return {
    processStatus: 'Name:\tx\nCapEff:\t000001ffffffffff\n',
    kernelRelease: '6.1.0-18-amd64',
    nodeVersion: '20.0.0',
    addonProblem: null,
    exists: (path) => !path.endsWith('/brport'),
    writable: () => true,
    list: () => ['rx-0', 'tx-0'],
    ...changes,
  };
}

const failing = (changes: Partial<HostFacts>): string[] =>
  hostFindings(config, facts(changes))
    .filter((one) => one.level === 'fail')
    .map((one) => `${one.what}: ${one.cure}`);

describe('what the host offers', () => {
  it('all there', () => {
    expect(failing({})).toEqual([]);
  });

  it.each<[string, Partial<HostFacts>, RegExp[]]>([
    ['no privilege', { processStatus: 'CapEff:\t0000000000002000\n' }, [/^CAP_NET_ADMIN: run as root/]],
    ['old kernel', { kernelRelease: '4.19.0' }, [/^kernel: use 4.20/]],
    ['old Node.js', { nodeVersion: '18.20.0' }, [/^Node.js: install/]],
    ['no addon', { addonProblem: 'gone' }, [/^native addon: npm run setup/]],
    ['no tun', { exists: (path) => path !== '/dev/net/tun' && !path.endsWith('brport') }, [/modprobe tun/]],
    ['no bridge', { exists: (path) => !/br9\/bridge|brport/.test(path) }, [/^client link: ip link add br9/]],
    [
      'tap in a bridge',
      { exists: () => true },
      [/primary link: ip link set tap0 nomaster/, /secondary link/],
    ],
    ['directory', { writable: () => false }, [/^runtime directory: run as its owner/]],
  ])('%s', (_name, changes, expected) => {
    const found = failing(changes);
    expect(found).toHaveLength(expected.length);
    for (const [index, pattern] of expected.entries()) expect(found[index]).toMatch(pattern);
  });
});

describe('the arbiter', () => {
  const withArbiter = (...set: string[]) =>
    loadConfig({
      flags: flagsOf({
        primaryTap: 'a',
        secondaryTap: 'b',
        isolate: true,
        set: set.map((one) => `failover.arbiter.${one}`),
      }),
    });
  const levels = async (...set: string[]): Promise<string[]> =>
    (await arbiterFindings(withArbiter(...set), facts({ exists: () => false, writable: () => false }))).map(
      ({ level, detail }) => `${level} ${detail}`,
    );

  it('is asked in its own way', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const up = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const down = 'http://127.0.0.1:1';
    expect(await levels()).toEqual(['pass none: one host and this proxy alone']);
    expect(await levels('kind=exec', 'program=/nope')).toEqual(['fail /nope is not there']);
    expect(await levels('kind=file', 'directory=/nope')).toEqual(['fail /nope is not writable']);
    expect(await levels('kind=etcd', `endpoints=${up},${down}`)).toEqual([
      `pass ${up} answers`,
      `warn ${down}: ECONNREFUSED`,
    ]);
    expect(await levels('kind=etcd', `endpoints=${down}`)).toEqual([`fail ${down}: ECONNREFUSED`]);
    server.close();
  });
});

describe('what the VMs say', () => {
  const vm: VmFacts = {
    version: '9.1.0',
    isOldVersion: false,
    status: 'inmigrate',
    hasColo: true,
    machine: 'pc-i440fx-9.1',
    memoryBytes: 2 ** 31,
    nics: ['virtio-net-pci 52:54:00:12:34:56'],
    disks: 1,
    replicatedDisks: 1,
  };
  const levels = (a: VmFacts | string, b: VmFacts | string): string[] =>
    vmFindings(
      { role: 'primary', address: 'unix:a', facts: a },
      { role: 'secondary', address: 'unix:b', facts: b },
    )
      .filter((one) => one.level !== 'pass')
      .map((one) => `${one.level} ${one.what}`);

  it('alike', () => {
    expect(levels(vm, vm)).toEqual([]);
  });

  it('different, each by name', () => {
    expect(levels(vm, { ...vm, version: '8.2.0' })).toEqual(['fail QEMU versions']);
    expect(levels(vm, { ...vm, machine: 'q35' })).toEqual(['fail machine type']);
    expect(levels(vm, { ...vm, memoryBytes: 1 })).toEqual(['fail memory']);
    expect(levels(vm, { ...vm, nics: ['e1000 52:54:00:12:34:57'] })).toEqual(['fail network cards']);
    expect(levels(vm, { ...vm, disks: 2 })).toEqual(['fail number of disks']);
    expect(levels({ ...vm, replicatedDisks: 0 }, vm)).toEqual(['warn disks']);
    expect(levels({ ...vm, hasColo: false }, { ...vm, status: 'running' })).toEqual([
      'fail primary COLO',
      'warn secondary state',
    ]);
    expect(levels('no greeting', vm)).toEqual(['warn primary QMP']);
  });

  it('network cards as QEMU prints them', () => {
    const text =
      'virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:AB:34:56\r\n \\ colo0: index=0,type=tap,ifname=tap0\r\n';
    expect(nicsOf(text)).toEqual(['virtio-net-pci 52:54:00:ab:34:56']);
  });

  it('a monitor that is not there is told, not waited for', async () => {
    const { facts: answer } = await askVm('primary', { unix: '/nonexistent/qmp.sock' });
    expect(answer).toMatch(/ENOENT/);
  });
});

describe('commands', () => {
  it('config schema is JSON Schema of every key', async () => {
    const { code, out } = await commandLine('config schema');
    const schema = JSON.parse(out);
    expect(code).toBe(0);
    expect(schema.$schema).toContain('json-schema.org');
    expect(schema.properties.checkpoint.properties.distanceMsMin).toMatchObject({
      type: 'integer',
      minimum: 0,
    });
    expect(schema.additionalProperties).toBe(false);
  });

  it.each([
    ['status --url ftp://x', 2, /expected http:\/\/HOST:PORT/],
    ['status --url http://127.0.0.1:1', 1, /ECONNREFUSED; is the proxy running/],
    ['status --runtime-directory /nonexistent', 1, /\/nonexistent\/control.sock: ENOENT/],
    ['explain /nonexistent', 1, /cannot be read: ENOENT \(COLO_ERR_CAPTURE\)/],
    ['explain package.json', 1, /neither pcap nor pcapng/],
    ['explain test/fixtures/captures/ipv6.pcap', 1, /no explained divergence in/],
  ])('%s: %i', async (line, expectedCode, message) => {
    const { code, err } = await commandLine(line);
    expect(err).toMatch(message);
    expect(code).toBe(expectedCode);
  });
});
