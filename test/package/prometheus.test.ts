/** A real Prometheus scrapes the running demo. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const hasPrometheus = spawnSync('prometheus', ['--version']).status === 0;
if (!hasPrometheus)
  process.stderr.write('SKIPPED: prometheus is not installed (apt-get install prometheus)\n');

const WAIT_MS_MAX = 60_000;
const children: ChildProcess[] = [];
const folder = mkdtempSync(join(tmpdir(), 'colo-prometheus-'));
afterAll(async () => {
  for (const child of children) {
    child.kill('SIGTERM');
    if (child.exitCode === null) await new Promise((resolve) => child.once('close', resolve));
  }
  rmSync(folder, { recursive: true, force: true });
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

describe.skipIf(!hasPrometheus)('a real Prometheus', () => {
  it('scrapes the demo, knows the types and loads the rules', async () => {
    const [port, own] = [await freePort(), await freePort()];
    writeFileSync(
      join(folder, 'prometheus.yml'),
      `global: {scrape_interval: 1s}\nrule_files: [${process.cwd()}/packaging/monitoring/alerts.yml]\n` +
        `scrape_configs: [{job_name: colo-proxy, static_configs: [{targets: ["127.0.0.1:${port}"]}]}]\n`,
    );
    const start = (command: string, words: string[]): void => {
      children.push(spawn(command, words, { stdio: 'ignore' }));
    };
    start(process.execPath, ['bin/colo-proxy.js', 'demo', '--http', `127.0.0.1:${port}`]);
    start('prometheus', [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${own}`,
    ]);
    const query = async (path: string): Promise<Record<string, unknown>> =>
      (await fetch(`http://127.0.0.1:${own}/api/v1/${path}`)).json() as Promise<Record<string, unknown>>;
    const endMs = Date.now() + WAIT_MS_MAX;
    let results: unknown[] = [];
    while (results.length === 0 && Date.now() < endMs) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      const answer = await query(
        'query?query=colo_proxy_protection_state%7Bstate%3D%22protected%22%7D%3D%3D1',
      ).catch(() => ({}));
      results = (answer as { data?: { result: unknown[] } }).data?.result ?? [];
    }
    expect(results).toHaveLength(1);
    const { data: metadata } = await query('metadata');
    expect(metadata).toMatchObject({
      colo_proxy_checkpoint_pause_seconds: [{ type: 'histogram' }],
      colo_proxy_epoch: [{ type: 'gauge' }],
    });
    const { data: rules } = await query('rules');
    expect(JSON.stringify(rules)).not.toContain('"health":"err"');
  });
});
