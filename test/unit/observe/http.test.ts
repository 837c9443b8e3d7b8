import { linkSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type AdminOptions, AdminServer } from '../../../src/observe/http.js';
import type { PairStatus } from '../../../src/pair/status.js';
import { realClock } from '../../../src/system/clock.js';
import { type Log, silentLog } from '../../../src/system/log.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { sampleStatus } from './sample-status.js';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function admin(options: Partial<AdminOptions> = {}): Promise<AdminServer> {
  const server = new AdminServer({
    listen: '127.0.0.1:0',
    status: () => sampleStatus(),
    log: silentLog,
    clock: realClock,
    build: { version: '1' },
    ...options,
  });
  cleanups.push(() => server.close());
  await server.open();
  return server;
}

async function get(
  server: AdminServer,
  path: string,
  method = 'GET',
): Promise<{ code: number; body: string; headers: Headers }> {
  const answer = await fetch(server.url() + path, { method });
  return { code: answer.status, body: await answer.text(), headers: answer.headers };
}

describe('routes', () => {
  it('health, metrics and status', async () => {
    const server = await admin();
    expect(await get(server, '/healthz')).toMatchObject({ code: 200, body: 'ok\n' });
    expect(await get(server, '/readyz')).toMatchObject({ code: 200, body: 'ready\n' });
    const metrics = await get(server, '/metrics?x=1');
    expect(metrics.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(metrics.body).toContain('\ncolo_proxy_epoch 12\n');
    const status = JSON.parse((await get(server, '/api/status')).body);
    expect(status).toMatchObject({
      name: 'web',
      pause: { boundsMs: [1, 10, 100], counts: [1, 2, 0, 1] },
      lastDivergence: { primaryBytes: '01ff' },
    });
  });

  it('readyz names every part that is not ready', async () => {
    const parts: PairStatus['parts'] = [
      { name: 'client link', ready: true, detail: 'up' },
      { name: 'secondary qmp', ready: false, detail: 'waiting for /run/x.qmp' },
      { name: 'protection', ready: false, detail: 'unprotected' },
    ];
    const server = await admin({ status: () => sampleStatus({ parts }) });
    const { code, body } = await get(server, '/readyz');
    expect(code).toBe(503);
    expect(body).toBe('secondary qmp: waiting for /run/x.qmp\nprotection: unprotected\n');
  });

  it('HEAD has the headers only; others are refused', async () => {
    const server = await admin();
    const head = await get(server, '/healthz', 'HEAD');
    expect([head.code, head.body, head.headers.get('content-length')]).toEqual([200, '', '3']);
    const post = await get(server, '/metrics', 'POST');
    expect([post.code, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect((await get(server, '/nope')).code).toBe(404);
    expect((await get(server, '/metrics/../healthz/x')).code).toBe(404);
  });

  it('a status that throws is answered with 500 and the service goes on', async () => {
    let broken = true;
    const status = (): PairStatus => {
      if (broken) throw new Error('broken');
      return sampleStatus();
    };
    const server = await admin({ status });
    expect((await get(server, '/metrics')).code).toBe(500);
    broken = false;
    expect((await get(server, '/metrics')).code).toBe(200);
  });
});

describe('bad peers', () => {
  it('garbage and oversized headers end only their own connection', async () => {
    const server = await admin();
    const port = Number(new URL(server.url()!).port);
    for (const bytes of [
      '\u0000\u0001\u0002 garbage\r\n\r\n',
      `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
    ]) {
      const answer = await new Promise<string>((resolve) => {
        let text = '';
        const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
        socket.on('data', (data) => {
          text += data;
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(text));
      });
      expect(answer).toMatch(/^HTTP\/1.1 4\d\d/);
    }
    expect((await get(server, '/healthz')).code).toBe(200);
  });
});

describe('listening', () => {
  it('a taken address is retried until it is free, and said once', async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
    const listen = `127.0.0.1:${(holder.address() as AddressInfo).port}`;
    const clock = new ManualClock();
    const warnings: string[] = [];
    let opened: () => void = () => {};
    const isOpen = new Promise<void>((resolve) => {
      opened = resolve;
    });
    const log: Log = {
      ...silentLog,
      warn: (fields) => warnings.push((fields as { code: string }).code),
      info: () => opened(),
    };
    const server = await admin({ listen, clock, log });
    expect(server.url()).toBeNull();
    expect(warnings).toEqual(['COLO_ERR_HTTP_LISTEN']);
    await new Promise((resolve) => holder.close(resolve));
    clock.advance(2000);
    await isOpen;
    expect((await get(server, '/healthz')).code).toBe(200);
    expect(warnings).toHaveLength(1);
  });

  it('a unix socket: a stale one is replaced, another kind of file is left alone', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'colo-http-'));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const socketPath = join(folder, 'admin.sock');
    const gone = createServer();
    await new Promise<void>((resolve) => gone.listen(join(folder, 'gone'), resolve));
    linkSync(join(folder, 'gone'), socketPath); // outlives its server, as after a kill
    await new Promise((resolve) => gone.close(resolve));
    await admin({ listen: `unix:${socketPath}` });
    const code = await new Promise((resolve, reject) => {
      request({ socketPath, path: '/healthz' }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      })
        .on('error', reject)
        .end();
    });
    expect(code).toBe(200);

    const file = join(folder, 'file');
    writeFileSync(file, 'precious');
    const refused = await admin({ listen: `unix:${file}`, clock: new ManualClock() });
    expect(refused.url()).toBeNull();
  });
});
