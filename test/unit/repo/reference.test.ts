/** The reference pages say what the code does: generated ones are compared whole, written ones by their headings. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { buildProgram } from '../../../src/cli/program.js';
import { CONFIG_KEYS, type ConfigKey } from '../../../src/config/keys.js';
import { ERROR_CODES } from '../../../src/errors.js';
import { METRICS } from '../../../src/observe/metric-table.js';

const GENERATED = '<!-- Made from the code by `npm run docs`; a test compares it. -->';

function program(): Command {
  return buildProgram({ env: {}, out() {}, err() {} }, () => {});
}

describe('generated pages (npm run docs writes them anew)', () => {
  it('config.md', async () => {
    const rows = CONFIG_KEYS.map(
      (key) =>
        `| \`${key.path}\` | ${valuesOf(key)} | ${fallbackOf(key)} | ${key.description}. | \`${key.variable}\` |`,
    );
    await expect(
      [
        '# Configuration',
        '',
        GENERATED,
        '',
        'YAML, read from `--config FILE`, else from the file named by `COLO_PROXY_CONFIG`, else from',
        '`/etc/colo-proxy/colo-proxy.yaml` when that exists. Flags win over environment variables, those over the',
        'file. Unknown keys and values out of range are refused, all at once, each as `file:line:column: key: what`.',
        'Any key can be given as `--set KEY=VALUE`. The unit stands last in the name of each key.',
        '[examples/colo-proxy.yaml](../../examples/colo-proxy.yaml) shows every key with its default.',
        '',
        '| Key | Values | Default | Meaning | Variable |',
        '|---|---|---|---|---|',
        ...rows,
        '',
      ].join('\n'),
    ).toMatchFileSnapshot('../../../docs/reference/config.md');
  });

  it('metrics.md', async () => {
    const rows = METRICS.map(
      ({ name, kind, labelNames, help }) =>
        `| \`${name}\` | ${kind} | ${labelNames.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
    );
    await expect(
      [
        '# Metrics',
        '',
        GENERATED,
        '',
        '`GET /metrics` on the admin address, in the Prometheus text format. Base units; counters end in `_total` and',
        'start at 0 with the process; no label ever holds an address. Besides these there are',
        '`colo_proxy_build_info{version,node}` (always 1) and the usual `process_*` and `nodejs_*`.',
        '',
        '| Metric | Type | Labels | Meaning |',
        '|---|---|---|---|',
        ...rows,
        '',
        'Values of the labels: `side` is `client`, `primary` or `secondary`; `reason` and `cause` are listed in',
        'src/compare/verdict.ts, src/pair/status.ts and src/checkpoint/ports.ts with their meanings.',
        '',
      ].join('\n'),
    ).toMatchFileSnapshot('../../../docs/reference/metrics.md');
  });

  it('cli.md', async () => {
    const main = program();
    const sections = [main, ...main.commands].flatMap((command) => [
      `## ${command === main ? 'colo-proxy' : `colo-proxy ${command.name()}`}`,
      '',
      '```',
      command.configureHelp({ helpWidth: 110 }).helpInformation().trimEnd(),
      '```',
      '',
    ]);
    await expect(
      [
        '# Commands',
        '',
        GENERATED,
        '',
        'No command means `run`. Exit codes: 0 ok, 1 failure while running, 2 wrong usage or configuration.',
        'SIGTERM and SIGINT stop a running proxy in order; a second one ends it at once.',
        '',
        ...sections,
      ].join('\n'),
    ).toMatchFileSnapshot('../../../docs/reference/cli.md');
  });
});

describe('written pages', () => {
  it('errors.md has every code once, with its meaning first', () => {
    const page = readFileSync('docs/reference/errors.md', 'utf8');
    const sections = page.split(/^## /m).slice(1);
    const documented = sections.map((section) => section.split('\n')[0]!);
    expect(documented).toEqual(Object.keys(ERROR_CODES));
    for (const section of sections) {
      const [code, , ...rest] = section.split('\n');
      const text = rest.join(' ').replace(/\s+/g, ' ');
      const meaning = ERROR_CODES[code as keyof typeof ERROR_CODES];
      expect(text.toLowerCase().startsWith(meaning.toLowerCase()), `${code} begins with: ${meaning}`).toBe(
        true,
      );
      expect(text.length, `${code} says what to do`).toBeGreaterThan(meaning.length + 40);
    }
  });

  it('the man page has every command and every flag', () => {
    const page = readFileSync('docs/man/colo-proxy.8', 'utf8').replaceAll('\\-', '-');
    const synopsis = page.slice(page.indexOf('.SH SYNOPSIS'), page.indexOf('.SH DESCRIPTION'));
    for (const command of program().commands) {
      expect(synopsis).toMatch(new RegExp(`colo-proxy ${command.name()}|\\[ ${command.name()} \\]`));
      for (const option of command.options) expect(page, option.flags).toContain(option.long!);
    }
  });

  it('the traps are all there', () => {
    const page = readFileSync('docs/design/traps.md', 'utf8');
    const found = Array.from(page.matchAll(/^\| T(\d+) \|/gm), (match) => Number(match[1]));
    expect(found).toEqual(Array.from({ length: 33 }, (_, index) => index + 1));
  });
});

function valuesOf(key: ConfigKey): string {
  switch (key.kind) {
    case 'number':
      return `${key.min} to ${key.max}`;
    case 'boolean':
      return '`true`, `false`';
    case 'choice':
      return key.choices.map((choice) => `\`${choice}\``).join(', ');
    case 'account':
      return 'name or number';
    default:
      return 'text';
  }
}

function fallbackOf(key: ConfigKey): string {
  return key.fallback === undefined ? '' : `\`${key.fallback}\``;
}
