import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { DEFAULT_COMPARE_LIMITS } from '../../../src/compare/verdict.js';
import { clientLinkUrl, runtimeMode } from '../../../src/config/derive.js';
import { CONFIG_KEYS } from '../../../src/config/keys.js';
import { type ConfigInput, loadConfig } from '../../../src/config/load.js';
import { ColoError } from '../../../src/errors.js';
import { DEFAULT_LINK_OPTIONS } from '../../../src/link/options.js';

const folder = mkdtempSync(join(tmpdir(), 'colo-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const LINKS = 'primary: {link: packet:tap0}\nsecondary: {link: packet:tap1}\n';
const TWO_TAPS = [
  { flag: '--primary', path: 'primary.link', value: 'packet:tap0' },
  { flag: '--secondary', path: 'secondary.link', value: 'packet:tap1' },
];

function written(text: string): string {
  const file = join(folder, 'c.yaml');
  writeFileSync(file, text);
  return file;
}

/** The lines of the refusal, with the folder taken off. */
function problems(input: ConfigInput): string[] {
  try {
    loadConfig(input);
  } catch (error) {
    expect(error).toBeInstanceOf(ColoError);
    expect((error as ColoError).code).toBe('COLO_ERR_CONFIG');
    return (error as ColoError).message.replaceAll(`${folder}/`, '').split('\n');
  }
  return [];
}

describe('defaults', () => {
  it('two links are all a configuration needs', () => {
    const config = loadConfig({ flags: TWO_TAPS });
    expect(config.primary).toEqual({
      link: 'packet:tap0',
      qmp: 'unix:/run/colo-proxy/default/primary.qmp',
      createTap: false,
    });
    expect(config.migration).toEqual({
      listen: 'unix:/run/colo-proxy/default/migrate.sock',
      connect: 'unix:/run/colo-proxy/default/incoming.sock',
      connectBack: 'unix:/run/colo-proxy/default/incoming-back.sock',
      nbd: 'unix:/run/colo-proxy/default/nbd.sock',
      nbdBack: 'unix:/run/colo-proxy/default/nbd-back.sock',
    });
    expect(config.client.link).toBe('tap:colo0');
    expect(config.http.listen).toBe('127.0.0.1:9120');
    expect(runtimeMode(config)).toBe(0o750);
  });

  it('the example equals them', () => {
    expect(loadConfig({ file: 'examples/colo-proxy.yaml' })).toEqual(loadConfig({ flags: TWO_TAPS }));
  });

  it('the example shows every key', () => {
    const text = readFileSync('examples/colo-proxy.yaml', 'utf8');
    const isShown = ({ path }: { path: string }): boolean =>
      new RegExp(`^[ #]*${path.split('.').at(-1)}:`, 'm').test(text);
    expect(CONFIG_KEYS.filter((key) => !isShown(key)).map(({ path }) => path)).toEqual([]);
  });

  it('compare limits are those of the comparator', () => {
    expect(loadConfig({ flags: TWO_TAPS }).compare).toEqual(DEFAULT_COMPARE_LIMITS);
  });

  it('link limits are those of the links', () => {
    const { busyPollUs, ...links } = loadConfig({ flags: TWO_TAPS }).links;
    expect(DEFAULT_LINK_OPTIONS).toMatchObject(links);
    expect(busyPollUs).toBe(0);
  });

  it('the name decides the runtime directory, and that the sockets', () => {
    const named = loadConfig({ file: written(`${LINKS}name: web\n`) });
    expect(named.secondary.qmp).toBe('unix:/run/colo-proxy/web/secondary.qmp');
    const moved = loadConfig({ file: written(`${LINKS}runtime: {directory: /srv/x}\n`) });
    expect(moved.migration.listen).toBe('unix:/srv/x/migrate.sock');
  });

  it('a group whose keys are all commented out counts as absent', () => {
    expect(loadConfig({ file: written(`${LINKS}log:\ngate:\n`) })).toEqual(loadConfig({ flags: TWO_TAPS }));
  });
});

describe('precedence', () => {
  it('flags over environment over file', () => {
    const file = written(`${LINKS}checkpoint: {distanceMsMin: 1, periodMsMax: 1, loadMsMax: 100}\n`);
    const { checkpoint } = loadConfig({
      file,
      env: { COLO_PROXY_CHECKPOINT_DISTANCE_MS_MIN: '2', COLO_PROXY_CHECKPOINT_PERIOD_MS_MAX: '2' },
      flags: [{ flag: '--set', path: 'checkpoint.distanceMsMin', value: '3' }],
    });
    expect([checkpoint.distanceMsMin, checkpoint.periodMsMax, checkpoint.loadMsMax]).toEqual([3, 2, 100]);
  });

  it('every key has a variable of its own that reaches it', () => {
    expect(new Set(CONFIG_KEYS.map((key) => key.variable)).size).toBe(CONFIG_KEYS.length);
    for (const key of CONFIG_KEYS) {
      const bad = problems({
        flags: TWO_TAPS.filter((f) => f.path !== key.path),
        env: { [key.variable]: '\u0001 ' },
      });
      expect(bad.join('\n'), key.variable).toContain(`${key.variable}: ${key.path}: `);
    }
  });

  it('a flag changes one VM even when both share a YAML alias', () => {
    const file = written('primary: &vm {link: packet:tap0}\nsecondary: *vm\n');
    const config = loadConfig({
      file,
      flags: [{ flag: '--secondary', path: 'secondary.link', value: 'packet:b' }],
    });
    expect([config.primary.link, config.secondary.link]).toEqual(['packet:tap0', 'packet:b']);
  });
});

describe('refusals', () => {
  it.each([
    ['  bad: 1', 'c.yaml:3:1: bad: unknown key'],
    ['gate: {frameMax: 3}', 'c.yaml:3:8: gate.frameMax: unknown key; did you mean framesMax?'],
    ['gate: {framesMax: many}', 'c.yaml:3:19: gate.framesMax: must be a whole number, not "many"'],
    ['gate: {framesMax: 1.5}', 'c.yaml:3:19: gate.framesMax: must be a whole number, not 1.5'],
    [
      'rules: [{ why: x, action: waive }]',
      'c.yaml:3:16: rules.0.why: must be at least 3 characters, not "x"',
    ],
    [
      'rules: [{ why: yes it is, action: waive }, { why: 7, action: waive }]',
      'c.yaml:3:51: rules.1.why: must be text, not 7',
    ],
    ['gate: {framesMax: 0}', 'c.yaml:3:19: gate.framesMax: must be at least 1, not 0'],
    ['gate: 7', 'c.yaml:3:7: gate: must be a group of keys, not 7'],
    ['gate: [1]', 'c.yaml:3:7: gate: must be a group of keys, not a list'],
    [
      'checkpoint: {loadMsMax: 99999999999}',
      'c.yaml:3:25: checkpoint.loadMsMax: must be at most 86400000, not 99999999999',
    ],
    [
      'log: {level: loud}',
      'c.yaml:3:14: log.level: must be one of trace, debug, info, warn, error, fatal, silent, not "loud"',
    ],
    ['failover: {auto: "yes"}', 'c.yaml:3:18: failover.auto: must be true or false, not "yes"'],
    ['runtime: {mode: 750}', 'c.yaml:3:17: runtime.mode: must be an octal string in quotes such as "0750"'],
    [
      'runtime: {directory: run}',
      'c.yaml:3:22: runtime.directory: must be an absolute path without whitespace or comma, not "run"',
    ],
    ['http: {listen: "9120"}', 'c.yaml:3:16: http.listen: must be HOST:PORT, unix:PATH or off, not "9120"'],
    [
      'http: {listen: 0.0.0.0:70000}',
      'c.yaml:3:16: http.listen: must be HOST:PORT, unix:PATH or off, not "0.0.0.0:70000"',
    ],
    [
      'client: {link: packet:tap1}',
      'c.yaml:3:16: client.link: is the same as secondary.link (packet:tap1); a link belongs to one side',
    ],
    [
      'client: {link: "packet:e0", bridge: br0}',
      'c.yaml:3:37: client.bridge: needs a tap: link; client.link is packet:e0',
    ],
    [
      'client: {bridge: this-is-too-long}',
      'c.yaml:3:18: client.bridge: must be 1 to 15 bytes without "/", ":", "," or whitespace, not "this-is-too-long"',
    ],
    [
      'compare: {holdMsMin: 2000}',
      'c.yaml:3:22: compare.holdMsMin: must not be above compare.holdMsMax (1000)',
    ],
    [
      `runtime: {directory: /${'x'.repeat(100)}}`,
      'c.yaml:3:22: runtime.directory: is too long: secondary.qmp in it would have 115 bytes, a unix socket takes 107',
    ],
    [
      'migration: {listen: unix:here}',
      'c.yaml:3:21: migration.listen: must be unix:PATH with an absolute path, not "unix:here"',
    ],
    [
      'migration: {listen: "tcp:::1:9"}',
      'c.yaml:3:21: migration.listen: must be unix:PATH or tcp:HOST:PORT, an IPv6 address in brackets, not "tcp:::1:9"',
    ],
    ['name: a b', 'c.yaml:3:7: name: must be 1 to 32 letters, digits, "_", "." or "-", not "a b"'],
    ['__proto__: {x: 1}', 'c.yaml:3:1: __proto__: unknown key'],
    ['name: a\nname: b', 'c.yaml:4:1: Map keys must be unique'],
    [
      'log: {level: info',
      'c.yaml:4:1: Flow map in block collection must be sufficiently indented and end with a }',
    ],
    ['name: !foo a', 'c.yaml:3:7: Unresolved tag: !foo'],
  ])('%s', (text, expected) => {
    expect(problems({ file: written(`${LINKS}${text.trimStart()}\n`) })).toContain(expected);
  });

  it('shows a variable’s name as a terminal may see it', () => {
    const [problem] = problems({ env: { 'COLO_PROXY_\u001b[2J': '1' } });
    expect(problem).toContain('"COLO_PROXY_\\u001b[2J": unknown variable');
  });

  it('lists everything at once', () => {
    const found = problems({
      file: written('name: 1\ngate: {framesMax: x, bytesMax: y}\n'),
      env: { COLO_PROXY_GATE_FRAMES: '3', COLO_PROXY_QMP_COMMAND_MS_MAX: 'soon', HOME: '/' },
      flags: [{ flag: '--set', path: 'gate.frames', value: '1' }],
    });
    expect(found).toEqual([
      'COLO_PROXY_GATE_FRAMES: unknown variable; did you mean COLO_PROXY_GATE_FRAMES_MAX?',
      '--set: gate.frames: unknown key; did you mean gate.framesMax?',
      'c.yaml:1:7: name: must be text, not 1',
      'c.yaml:2:19: gate.framesMax: must be a whole number, not "x"',
      'c.yaml:2:32: gate.bytesMax: must be a whole number, not "y"',
      'COLO_PROXY_QMP_COMMAND_MS_MAX: qmp.commandMsMax: must be a whole number, not "soon"',
    ]);
  });

  it('links are required', () => {
    expect(problems({})).toEqual([
      'primary.link: is missing; give --primary-tap NAME, --primary URL or this key',
      'secondary.link: is missing; give --secondary-tap NAME, --secondary URL or this key',
    ]);
  });

  it('a file that is absent, a folder or too large', () => {
    expect(problems({ file: join(folder, 'none.yaml') })).toEqual(['none.yaml: cannot be read: ENOENT']);
    expect(problems({ file: folder })).toEqual([`${folder}: cannot be read: EISDIR`]);
    expect(problems({ file: written('#'.repeat(1024 * 1024 + 1)) })[0]).toMatch(/^c.yaml: has 1048577 bytes/);
  });

  it('a check of a higher layer is placed like any other', () => {
    const checks = [() => [{ path: ['primary', 'link'], what: 'no such scheme' }]];
    expect(problems({ file: written(LINKS), checks })).toEqual(['c.yaml:1:17: primary.link: no such scheme']);
    expect(problems({ flags: TWO_TAPS, checks })).toEqual(['--primary: primary.link: no such scheme']);
  });
});

describe('hostile files', () => {
  it('an alias bomb is refused', () => {
    const lines = ['a: &a [x,x,x,x,x,x,x,x,x]'];
    for (let i = 1; i < 10; i++) {
      const before = String.fromCharCode(96 + i);
      const name = String.fromCharCode(97 + i);
      lines.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(',')}]`);
    }
    expect(problems({ file: written(lines.join('\n')) })[0]).toContain('Excessive alias count');
  });

  it('any text gives a configuration or COLO_ERR_CONFIG', () => {
    const word = fc.constantFrom(
      ...CONFIG_KEYS.flatMap((key) => key.path.split('.')),
      ': ',
      '\n  ',
      '- ',
      '{',
      '}',
      '&a',
      '*a',
      '!!binary',
      '?',
      '1',
      'null',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(word, { maxLength: 20 }).map((words) => words.join('')),
        ),
        (text) => {
          const found = problems({ file: written(text) });
          expect(found.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('helpers', () => {
  it('the client link carries its bridge', () => {
    const config = loadConfig({ file: written(`${LINKS}client: {bridge: br0}\n`) });
    expect(clientLinkUrl(config)).toBe('tap:colo0,bridge=br0');
    const twice = loadConfig({ file: written(`${LINKS}client: {link: "tap:c0,bridge=br0", bridge: br0}\n`) });
    expect(clientLinkUrl(twice)).toBe('tap:c0,bridge=br0');
  });
});
