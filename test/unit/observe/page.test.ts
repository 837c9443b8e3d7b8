import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { type AdminOptions, AdminServer } from '../../../src/observe/http.js';
import { silentLog } from '../../../src/system/log.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { sampleStatus } from './sample-status.js';

const clock = new ManualClock();
let server: AdminServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function open(options: Partial<AdminOptions> = {}): Promise<string> {
  server = new AdminServer({
    listen: '127.0.0.1:0',
    status: () => sampleStatus(),
    log: silentLog,
    clock,
    build: { version: '1' },
    ...options,
  });
  await server.open();
  return server.url()!;
}

/** Reads the stream until it holds `wanted`. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, wanted: string): Promise<string> {
  let text = '';
  while (!text.includes(wanted)) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the stream ended without ${wanted}: ${text}`);
    text += Buffer.from(value).toString();
  }
  return text;
}

describe('status page', () => {
  it('everything it loads comes from the proxy, and the policy allows nothing else', async () => {
    const url = await open();
    const page = await fetch(`${url}/`);
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'/);
    const html = await page.text();
    const loaded = Array.from(html.matchAll(/(?:src|href)="([^"#]+)"/g), (match) => match[1]!);
    expect(loaded.sort()).toEqual([
      '/charts.js',
      '/page.css',
      '/page.js',
      '/uplot.css',
      '/uplot.js',
      'data:,',
    ]);
    for (const path of loaded.filter((one) => one.startsWith('/'))) {
      expect((await fetch(url + path)).status, path).toBe(200);
    }
  });

  it('events tell the past, then a sample every second', async () => {
    const url = await open();
    clock.advance(3000);
    const { body } = await fetch(`${url}/api/events`);
    const reader = body!.getReader();
    const first = await readUntil(reader, 'event: now');
    const past = JSON.parse(/event: past\ndata: (.*)\n/.exec(first)![1]!);
    expect(past.samples).toHaveLength(3);
    clock.advance(1000);
    const next = await readUntil(reader, '\n\n');
    expect(JSON.parse(/data: (.*)\n/.exec(next)![1]!)).toMatchObject({ status: { name: 'web', epoch: 12 } });
    await reader.cancel();
  });

  it('too many readers are refused, and closing ends those that are there', async () => {
    const url = await open();
    const readers = await Promise.all(Array.from({ length: 16 }, () => fetch(`${url}/api/events`)));
    expect((await fetch(`${url}/api/events`)).status).toBe(503);
    await server!.close();
    server = undefined;
    await Promise.all(readers.map((one) => expect(one.text()).rejects.toThrow()));
  });

  it('actions need the token, on an address that allows them at all', async () => {
    const acted: string[] = [];
    const act = async (verb: string) => {
      acted.push(verb);
      return {};
    };
    const url = await open({ token: 'a-long-enough-token', act });
    const post = async (headers: Record<string, string>) =>
      (await fetch(`${url}/api/checkpoint`, { method: 'POST', headers })).status;
    expect(await post({})).toBe(401);
    expect(await post({ authorization: 'Bearer a-long-enough-tokem' })).toBe(401);
    expect(acted).toEqual([]);
    expect(await post({ authorization: 'Bearer a-long-enough-token' })).toBe(200);
    expect(acted).toEqual(['checkpoint']);
  });

  it('http.md has every page', async () => {
    const url = await open();
    const listed = (await (await fetch(`${url}/nope`)).text()).split('there are ')[1]!.trim().split(', ');
    const page = readFileSync('docs/reference/http.md', 'utf8');
    expect(listed.filter((path) => !page.includes(`\`GET ${path}\``))).toEqual([]);
    expect(listed).toContain('/api/flows');
  });

  it('divergences and flows', async () => {
    const flows = [{ flow: 'tcp a > b', heldBytes: 3, idleMs: 1 }];
    const url = await open({ flows: () => flows });
    expect(await (await fetch(`${url}/api/flows`)).json()).toEqual(flows);
    expect(await (await fetch(`${url}/api/divergences`)).json()).toEqual({ seen: 9, divergences: [] });
  });
});
