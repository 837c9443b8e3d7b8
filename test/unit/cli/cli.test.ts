import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { flagsOf } from '../../../src/cli/config-options.js';
import { loadConfig } from '../../../src/config/load.js';
import { interfaceMtus, mtuProblems } from '../../../src/link/interface-mtus.js';
import { commandLine } from './command-line.js';

const TAPS = '--primary-tap tap0 --secondary-tap tap1';

describe('usage', () => {
  it('version and help', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    for (const line of ['--version', 'version']) {
      expect(await commandLine(line)).toEqual({ code: 0, out: `${version}\n`, err: '' });
    }
    const help = await commandLine('--help');
    expect(help.code).toBe(0);
    for (const command of ['run', 'check', 'demo', 'qemu-args', 'version'])
      expect(help.out).toContain(`\n  ${command} `);
  });

  it.each([
    ['--primry-tap tap0', /unknown option '--primry-tap'\n\(Did you mean --primary-tap\?\)/],
    ['check --nope', /unknown option '--nope'/],
    ['stauts', /^stauts: unknown command; did you mean status\? \(COLO_ERR_USAGE\)\n$/],
    [`${TAPS} frobnicate`, /^frobnicate: unknown command; colo-proxy --help lists the commands/],
    [`check ${TAPS} extra`, /too many arguments/],
    [`check ${TAPS} --client tap:tap1`, /^--client: client.link: tap1 is the interface of secondary.link/],
    [`check ${TAPS} --client packet:tap1`, /^--client: client.link: is the same as secondary.link/],
    ['qemu-args tertiary', /Allowed choices are primary, secondary/],
    ['check --primary packet:a --primary-tap a', /cannot be used with option '--primary/],
    ['check --config', /argument missing/],
    [`check ${TAPS} --set x`, /^--set x: expected KEY=VALUE \(COLO_ERR_USAGE\)\n$/],
    ['check', /^primary.link: is missing/],
    ['', /^primary.link: is missing/],
    ['run --config /nonexistent.yaml', /^\/nonexistent.yaml: cannot be read: ENOENT \(COLO_ERR_CONFIG\)\n$/],
    ['check --primary wat:x --secondary-tap t', /^--primary: primary.link: link URL "wat:x": unknown scheme/],
    ['check --primary tap:x --secondary-tap t', /QEMU holds a VM's tap itself; use packet:x/],
    ['check --primary-tap a/b --secondary-tap t', /is not an interface name/],
    [`check ${TAPS} --http nowhere`, /^--http: http.listen: must be HOST:PORT/],
  ])('%s: exit code 2', async (line, message) => {
    const outcome = await commandLine(line);
    expect(outcome.err).toMatch(message);
    expect(outcome.code).toBe(2);
    expect(outcome.out).toBe('');
  });
});

const LINKS = ['primary', 'secondary', 'client']
  .map((side) => `--${side} stream:unix:/nowhere/${side}`)
  .join(' ');

describe('a configuration that comes through a pipe', () => {
  const piped = (words: string) =>
    spawnSync(
      'sh',
      ['-c', `echo '{ name: web }' | timeout 15 '${process.execPath}' bin/colo-proxy.js ${words}`],
      {
        encoding: 'utf8',
      },
    );

  it('is read by check', () => {
    expect(piped(`check ${LINKS} --config /dev/stdin`).stdout).toMatch(/^name: web$/m);
  });

  it('is refused by run, which reads it again', () => {
    const { status, stderr, stdout } = piped(`${LINKS} --config /dev/stdin`);
    expect(stderr).toMatch(/^\/dev\/stdin: a pipe can be read once, .* \(COLO_ERR_CONFIG\)\n$/);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  }, 30_000);
});

describe('check', () => {
  it('shows what is in effect, as a file that gives the same again', async () => {
    const { code, out, err } = await commandLine(
      `check ${TAPS} --no-isolate --name web --set gate.framesMax=77`,
      {
        COLO_PROXY_LOG_LEVEL: 'warn',
        COLO_PROXY_GATE_FRAMES_MAX: '5',
      },
    );
    expect(code).toBe(0);
    const shown = parse(out);
    expect(shown).toMatchObject({
      name: 'web',
      primary: { link: 'packet:tap0', createTap: true, qmp: 'unix:/run/colo-proxy/web/primary.qmp' },
      tap: { isolate: false },
      gate: { framesMax: 77 },
      log: { level: 'warn' },
    });
    expect(err).toContain('colo0 (client) does not exist yet; the proxy makes it\n');
  });

  it('quiet shows nothing when all is right', async () => {
    expect(await commandLine(`check --quiet ${TAPS}`)).toEqual({ code: 0, out: '', err: '' });
  });

  it('the file comes from COLO_PROXY_CONFIG too', async () => {
    const { code, out } = await commandLine('check', { COLO_PROXY_CONFIG: 'examples/colo-proxy.yaml' });
    expect([code, parse(out).primary.link]).toEqual([0, 'packet:tap0']);
  });

  it('unequal MTUs are refused with the cure', () => {
    const flags = flagsOf({
      primaryTap: 'tap0',
      secondaryTap: 'tap1',
      client: 'tap:c,bridge=br0',
      isolate: true,
      set: [],
    });
    const config = loadConfig({ flags });
    const mtus: Record<string, number> = { br0: 9000, tap0: 1500 };
    const interfaces = interfaceMtus(config, (name) => mtus[name] ?? null);
    expect(interfaces.map((one) => one.mtuBytes)).toEqual([9000, 1500, null]);
    expect(mtuProblems(interfaces)).toEqual([
      'tap0 (primary) has MTU 1500, br0 (client) has 9000; make them equal: ip link set tap0 mtu 9000',
    ]);
    expect(mtuProblems(interfaceMtus(config, () => 1500))).toEqual([]);
  });
});

describe('qemu-args', () => {
  async function lines(rest: string): Promise<string[]> {
    const { code, out, err } = await commandLine(`qemu-args ${rest}`);
    expect(err + code).toMatch(/0$/);
    return out.trimEnd().split('\n');
  }

  it('taps', async () => {
    const [netdev, device, qmp, ...rest] = await lines(`primary ${TAPS}`);
    expect(netdev).toBe('-netdev tap,id=colo0,ifname=tap0,script=no,downscript=no');
    expect(device).toMatch(/^-device virtio-net-pci,netdev=colo0,mac=52:54:00(:[0-9a-f]{2}){3}$/);
    expect(qmp).toBe('-qmp unix:/run/colo-proxy/default/primary.qmp,server=on,wait=off');
    expect(rest).toEqual([]);
  });

  it('the secondary waits for its migration and has the same MAC', async () => {
    const primary = await lines(`primary ${TAPS}`);
    const secondary = await lines(`secondary ${TAPS}`);
    expect(secondary[0]).toContain('ifname=tap1');
    expect(secondary[1]).toBe(primary[1]);
    expect(secondary.at(-1)).toBe('-incoming defer');
    expect((await lines(`primary ${TAPS} --name other`))[1]).not.toBe(primary[1]);
    expect((await lines(`primary ${TAPS} --mac 52:54:00:00:00:01`))[1]).toContain('mac=52:54:00:00:00:01');
  });

  it.each([
    ['stream:unix:/run/p', '', 'stream,id=colo0,server=on,addr.type=unix,addr.path=/run/p'],
    ['stream:tcp:[::1]:99', '', 'stream,id=colo0,server=on,addr.type=inet,addr.host=::1,addr.port=99'],
    ['stream:unix:/run/p,server', '', 'stream,id=colo0,server=off,addr.type=unix,addr.path=/run/p'],
    ['stream:unix:/run/p,server', '7.2', 'stream,id=colo0,server=off,addr.type=unix,addr.path=/run/p'],
    [
      'stream:unix:/run/p,server',
      '8.2',
      'stream,id=colo0,server=off,reconnect=1,addr.type=unix,addr.path=/run/p',
    ],
    [
      'stream:unix:/run/p,server',
      '11.1.3',
      'stream,id=colo0,server=off,reconnect-ms=1000,addr.type=unix,addr.path=/run/p',
    ],
  ])('%s with QEMU %s', async (url, version, netdev) => {
    const hint = version === '' ? '' : ` --qemu-version ${version}`;
    expect((await lines(`primary --primary ${url} --secondary-tap t${hint}`))[0]).toBe(`-netdev ${netdev}`);
  });

  it('hints name the workarounds of old QEMUs', async () => {
    expect((await commandLine(`qemu-args primary ${TAPS} --qemu-version 7.2`)).err).toContain('131080K');
    expect((await commandLine(`qemu-args primary ${TAPS} --qemu-version 11`)).err).not.toContain('131080K');
  });

  it.each(['--mac 01:00:00:00:00:00', '--mac 52:54:00', '--qemu-version 6.0', '--qemu-version new'])(
    'refuses %s',
    async (flag) => {
      const { code, err } = await commandLine(`qemu-args primary ${TAPS} ${flag}`);
      expect(code).toBe(2);
      expect(err).toContain('COLO_ERR_USAGE');
    },
  );
});
