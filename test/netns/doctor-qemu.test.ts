/** What doctor says of two real QEMUs before the proxy starts: alike, and not. Nothing boots in them. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askVm, vmFindings } from '../../src/cli/doctor/vm-checks.js';
import { parseAddress } from '../../src/system/channel.js';
import { until } from '../unit/link/collect.js';

const hasQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;
if (!hasQemu) process.stderr.write('SKIPPED: qemu-system-x86_64 is not installed\n');

interface Hardware {
  readonly machine?: string;
  readonly memory?: string;
  readonly mac?: string;
}

describe.skipIf(!hasQemu)('doctor and two real QEMUs', () => {
  let directory: string;
  let children: ChildProcess[];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'colo-doctor-'));
    children = [];
  });
  afterEach(async () => {
    for (const child of children) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) {
        await new Promise((resolve) => child.once('close', resolve));
      }
    }
    rmSync(directory, { recursive: true });
  });

  async function start(role: 'primary' | 'secondary', hardware: Hardware, more: string[]): Promise<void> {
    const { machine = 'pc', memory = '64', mac = '52:54:00:00:00:01' } = hardware;
    const qmp = join(directory, `${role}.qmp`);
    const words = [
      ...['-machine', machine, '-accel', 'tcg', '-m', memory, '-S', '-nodefaults', '-display', 'none'],
      ...['-netdev', 'hubport,id=n0,hubid=0', '-device', `virtio-net-pci,netdev=n0,mac=${mac},romfile=`],
      ...['-qmp', `unix:${qmp},server=on,wait=off`, ...more],
    ];
    children.push(spawn('qemu-system-x86_64', words, { stdio: 'ignore' }));
    await until(() => existsSync(qmp), 'the monitor');
  }

  async function findings(): Promise<string[]> {
    const ask = (role: 'primary' | 'secondary') =>
      askVm(role, parseAddress(`unix:${join(directory, `${role}.qmp`)}`)!);
    const all = vmFindings(await ask('primary'), await ask('secondary'));
    return all.map(({ level, what, detail }) => `${level} ${what}: ${detail}`);
  }

  it('alike: everything passes', async () => {
    await start('primary', {}, []);
    await start('secondary', {}, ['-incoming', 'defer']);
    const found = await findings();
    expect(found.filter((line) => !line.startsWith('pass'))).toEqual([]);
    expect(found).toContain('pass memory: 67108864');
    expect(found).toContain('pass network cards: virtio-net-pci 52:54:00:00:00:01');
    expect(found.some((line) => /^pass machine type: pc-i440fx-/.test(line))).toBe(true);
  });

  it('not alike: each difference is a failure, a secondary that does not wait a warning', async () => {
    await start('primary', {}, []);
    await start('secondary', { machine: 'q35', memory: '65', mac: '52:54:00:00:00:02' }, []);
    const found = await findings();
    const failed = found.filter((line) => line.startsWith('fail')).map((line) => line.split(':')[0]);
    expect(failed).toEqual(['fail machine type', 'fail memory', 'fail network cards']);
    expect(found.find((line) => line.startsWith('warn'))).toMatch(
      /^warn secondary state: \w+: it does not wait/,
    );
  });
});
