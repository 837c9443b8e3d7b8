import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { qemuArgs } from '../../../src/cli/qemu-args.js';
import { allNics } from '../../../src/config/derive.js';
import { loadConfig } from '../../../src/config/load.js';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync('/tmp/colo-nics-');
});

afterEach(() => rmSync(folder, { recursive: true }));

function load(yaml: string) {
  const file = join(folder, 'c.yaml');
  writeFileSync(file, yaml);
  return loadConfig({ file });
}

const FIRST = 'primary: { link: "packet:tap0", createTap: true }\nsecondary: { link: "packet:tap1" }\n';

describe('several network interfaces', () => {
  it('the top-level keys are the first, `nics` the next', () => {
    const config = load(
      `${FIRST}nics:\n  - { primary: "packet:tap2", secondary: "packet:tap3", client: "tap:colo1", createTap: true }\n`,
    );
    const nics = allNics(config).map(({ primary, secondary, client, createTap }) => [
      primary,
      secondary,
      client,
      createTap.secondary,
    ]);
    expect(nics).toEqual([
      ['packet:tap0', 'packet:tap1', 'tap:colo0', false],
      ['packet:tap2', 'packet:tap3', 'tap:colo1', true],
    ]);
    const { words } = qemuArgs(config, { role: 'secondary', mac: '52:54:00:00:00:ff' });
    expect(words.filter((word) => /^(tap|virtio)/.test(word))).toEqual([
      'tap,id=colo0,ifname=tap1,script=no,downscript=no',
      'virtio-net-pci,netdev=colo0,mac=52:54:00:00:00:ff',
      'tap,id=colo1,ifname=tap3,script=no,downscript=no',
      'virtio-net-pci,netdev=colo1,mac=52:54:00:00:00:00',
    ]);
  });

  it.each([
    [
      'a link used twice',
      '  - { primary: "packet:tap0", secondary: "packet:tap3", client: "tap:colo1" }\n',
      /nics\.0\.primary.*same as primary\.link/,
    ],
    ['a link left out', '  - { primary: "packet:tap2", client: "tap:colo1" }\n', /nics/],
    [
      'an unknown key',
      '  - { primary: "packet:t", secondary: "packet:u", client: "tap:c", what: 1 }\n',
      /what/,
    ],
  ])('%s is refused', (_name, yaml, why) => {
    expect(() => load(`${FIRST}nics:\n${yaml}`)).toThrow(why);
  });
});
