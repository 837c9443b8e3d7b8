import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { getUnix, ProxyProcess } from './proxy-process.js';

/** The whole program without root: stream links, monitors and VMs that are not there. */
describe('the running program', () => {
  let folder: string;
  let proxy: ProxyProcess | undefined;
  let server: Server | undefined;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'colo-run-'));
  });
  afterEach(async () => {
    await proxy?.kill();
    proxy = undefined;
    server?.close();
    server = undefined;
    rmSync(folder, { recursive: true });
  });

  function words(...more: string[]): string[] {
    const link = (name: string): string => `stream:unix:${folder}/${name}`;
    return [
      ...['--primary', link('p.sock'), '--secondary', link('s.sock'), '--client', `${link('c.sock')},server`],
      ...[
        '--runtime-directory',
        folder,
        '--http',
        `unix:${folder}/http.sock`,
        '--log-format',
        'json',
        ...more,
      ],
    ];
  }

  it('without the token that it was told of opens nothing', async () => {
    proxy = new ProxyProcess(words('--set', `http.tokenFile=${folder}/no-token`));
    expect(await proxy.exit()).toBe(2);
    expect(proxy.err).toMatch(/^http.tokenFile: .*no-token: cannot be read: ENOENT \(COLO_ERR_CONFIG\)\n$/);
    expect(proxy.lines.map(({ msg }) => msg)).toEqual(['starting']);
  });

  it('is reached where system calls are filtered that it can do without', async ({ skip }) => {
    const [source, shim] = [join(folder, 'refuse.c'), join(folder, 'refuse.so')];
    writeFileSync(
      source,
      '#include <errno.h>\nint setpriority(int a, int b, int c) { errno = EPERM; return -1; }\n',
    );
    if (spawnSync('cc', ['-shared', '-fPIC', '-o', shim, source]).status !== 0) skip('there is no compiler');
    proxy = new ProxyProcess(words(), (command) =>
      spawn(process.execPath, command, {
        env: { ...process.env, LD_PRELOAD: shim },
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
    const answer = () => getUnix(join(folder, 'control.sock'), '/healthz').catch(() => undefined);
    await proxy.until('the control socket', async () => (await answer())?.code === 200);
    expect((await getUnix(join(folder, 'http.sock'), '/healthz')).code).toBe(200);
    expect(proxy.said('the admin thread failed')).toBe(false);
  });

  it('reads its configuration anew when the file changes, where it was asked to', async () => {
    const file = join(folder, 'c.yaml');
    writeFileSync(file, '');
    proxy = new ProxyProcess(words('--config', file, '--watch-config'));
    await proxy.until(
      'the control socket',
      () => proxy!.lines.filter((one) => one.msg === 'admin address is open').length === 2,
    );
    writeFileSync(file, 'rules: [{ why: they ask again, action: waive, protocol: udp, guestPort: 53 }]\n');
    await proxy.until('the reload', () => proxy!.said('configuration reloaded: 1 changed'));
  });

  it('reads its configuration anew: SIGHUP, reload, and what is wrong changes nothing', async () => {
    const file = join(folder, 'c.yaml');
    const http = `http: { listen: 'unix:${folder}/http.sock' }`;
    writeFileSync(file, `${http}\n`);
    proxy = new ProxyProcess(words('--config', file));
    await proxy.until(
      'the control socket',
      () => proxy!.lines.filter((one) => one.msg === 'admin address is open').length === 2,
    );
    writeFileSync(file, `${http}\nlog: { level: debug }\ngate: { framesMax: 99 }\n`);
    proxy.child.kill('SIGHUP');
    const done = 'configuration reloaded: 1 changed; a restart is needed for gate.framesMax';
    await proxy.until('the reload', () => proxy!.said(done));
    writeFileSync(file, 'log: { level: loud }\n');
    proxy.child.kill('SIGHUP');
    await proxy.until('the refusal', () =>
      proxy!.lines.some((one) =>
        /^configuration not reloaded: .*c.yaml:1:15: log.level/.test(String(one.msg)),
      ),
    );
    expect((await getUnix(join(folder, 'http.sock'), '/healthz')).code).toBe(200);
    proxy.child.kill('SIGTERM');
    expect(await proxy.exit()).toBe(0);
  });

  it('waits for everything that is absent, tells so, and stops with exit code 0', async () => {
    proxy = new ProxyProcess(words('--name', 'web'));
    await proxy.until('the admin address', () => proxy!.said('admin address is open'));
    const http = join(folder, 'http.sock');
    expect(await getUnix(http, '/healthz')).toEqual({ code: 200, body: 'ok\n' });
    const ready = await getUnix(http, '/readyz');
    expect(ready.code).toBe(503);
    for (const part of ['primary link: ', 'secondary link: ', 'primary qmp: ', 'protection: ']) {
      expect(ready.body).toContain(part);
    }
    const { body } = await getUnix(http, '/metrics');
    expect(body).toContain('colo_proxy_protection_state{state="unprotected"} 1');
    expect(body).toContain('colo_proxy_link_up{side="primary",nic="0"} 0');
    expect(JSON.parse((await getUnix(http, '/api/status')).body)).toMatchObject({
      name: 'web',
      state: 'unprotected',
    });

    proxy.child.kill('SIGTERM');
    expect(await proxy.exit()).toBe(0);
    expect(proxy.said('stopped')).toBe(true);
    expect(proxy.err).toBe('');
    expect(existsSync(join(folder, 'c.sock'))).toBe(false);
    expect(existsSync(join(folder, 'migrate.sock'))).toBe(false);
  });

  it('a QMP peer that talks nonsense ends nothing', async () => {
    let visits = 0;
    server = createServer((socket) => {
      visits++;
      socket.on('error', () => {});
      socket.end('\u0000}{ "QMP": 7\r\n[[[[');
    });
    await new Promise<void>((resolve) => server!.listen(join(folder, 'primary.qmp'), resolve));
    proxy = new ProxyProcess(words());
    await proxy.until('a second visit', () => visits >= 2);
    await proxy.until('the admin address', () => existsSync(join(folder, 'http.sock')));
    expect((await getUnix(join(folder, 'http.sock'), '/healthz')).code).toBe(200);
    proxy.child.kill('SIGINT');
    expect(await proxy.exit()).toBe(0);
  });

  it('a bad file: every problem with its place, exit code 2', async () => {
    const file = join(folder, 'bad.yaml');
    writeFileSync(file, 'gate:\n  framesMax: none\n  nope: 1\n');
    proxy = new ProxyProcess(words('--config', file));
    expect(await proxy.exit()).toBe(2);
    expect(proxy.err).toBe(
      `${file}:2:14: gate.framesMax: must be a whole number, not "none"\n` +
        `${file}:3:3: gate.nope: unknown key (COLO_ERR_CONFIG)\n`,
    );
  });

  it('a runtime directory that cannot be made: exit code 1 and what to do', async () => {
    writeFileSync(join(folder, 'file'), '');
    proxy = new ProxyProcess(words('--runtime-directory', join(folder, 'file', 'x')));
    expect(await proxy.exit()).toBe(1);
    expect(proxy.err).toContain('(COLO_ERR_RUNTIME_DIR)');
  });

  it('an admin address that is taken ends nothing', async () => {
    server = createServer();
    await new Promise<void>((resolve) => server!.listen(join(folder, 'http.sock'), resolve));
    proxy = new ProxyProcess(words());
    await proxy.until('the warning', () =>
      proxy!.lines.some((line) => JSON.stringify(line).includes('COLO_ERR_HTTP_LISTEN')),
    );
    expect(proxy.child.exitCode).toBeNull();
  });
});
