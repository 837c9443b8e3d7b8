/** The shipped dashboard and alert rules: every metric they name exists, with the labels they use. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { METRICS } from '../../../src/observe/metric-table.js';

const FOLDER = 'packaging/monitoring';
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;
if (!hasPromtool) process.stderr.write('SKIPPED: promtool is not installed (apt-get install prometheus)\n');

const labelsOf = new Map(METRICS.map(({ name, labelNames }) => [name, new Set<string>(labelNames)]));
labelsOf.set('colo_proxy_build_info', new Set(['version', 'node']));

function expressions(): string[] {
  const { panels } = JSON.parse(readFileSync(`${FOLDER}/grafana-dashboard.json`, 'utf8')) as {
    panels: { targets: { expr: string }[] }[];
  };
  return [
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    readFileSync(`${FOLDER}/alerts.yml`, 'utf8'),
  ];
}

describe('dashboard and alerts', () => {
  it('name metrics and labels that exist', () => {
    const unknown: string[] = [];
    let seen = 0;
    for (const text of expressions()) {
      for (const [, name, , selector = ''] of text.matchAll(/(colo_proxy_[a-z_]+)(\{([^}]*)\})?/g)) {
        seen++;
        const labels = labelsOf.get(name!) ?? labelsOf.get(name!.replace(/_(bucket|sum|count)$/, ''));
        if (labels === undefined) unknown.push(name!);
        for (const [, label] of selector.matchAll(/(\w+)\s*[=!]/g)) {
          if (label !== 'instance' && !labels?.has(label!)) unknown.push(`${name}{${label}}`);
        }
      }
    }
    expect(unknown).toEqual([]);
    expect(seen).toBeGreaterThan(20);
  });

  it.skipIf(!hasPromtool).each([
    ['check', 'alerts.yml'],
    ['test', 'alerts-test.yml'],
  ])('promtool %s rules %s', (verb, file) => {
    const { status, stdout, stderr } = spawnSync('promtool', [verb, 'rules', `${FOLDER}/${file}`], {
      encoding: 'utf8',
    });
    expect(stdout + stderr).not.toMatch(/FAILED/);
    expect(status).toBe(0);
  });
});
