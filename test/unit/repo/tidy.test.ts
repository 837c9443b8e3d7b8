import { describe, expect, it } from 'vitest';
import { projectFiles, read } from './tree.js';

const LINES_MAX = 450;
const TEST_LINES_MAX = 600;
const files = projectFiles();
const code = files.filter((file) => /\.(ts|js|mjs|cc|c|h|sh)$/.test(file));
const text = files.filter(
  (file) => !/\.(pcap|pcapng|cap|bin|png|gz)$/.test(file) && file !== 'package-lock.json',
);

/** Put together at run time, so that this file does not find itself. */
const FORBIDDEN: readonly (readonly [what: string, pattern: RegExp])[] = [
  [
    'unfinished work belongs in an issue',
    new RegExp(`\\b(${['TO', 'FIX'].map((w, i) => w + ['DO', 'ME'][i]).join('|')}|${'X'.repeat(3)})\\b`),
  ],
  [
    'a path of some machine',
    new RegExp(`(^|[\\s"'\`(=:])/(${['wo' + 'rk', 'ho' + 'me', 'ro' + 'ot'].join('|')})/`, 'm'),
  ],
  ['debugging', new RegExp(`\\b${'debug' + 'ger'};|\\b(it|describe|test)\\.${'on' + 'ly'}\\(`)],
];

describe('tidiness', () => {
  it(`no file has more than ${LINES_MAX} lines`, () => {
    const long = code
      .map((file) => [file, read(file).split('\n').length - 1] as const)
      .filter(([file, lines]) => lines > (file.startsWith('test/') ? TEST_LINES_MAX : LINES_MAX));
    expect(long).toEqual([]);
  });

  it.each(FORBIDDEN)('%s', (_what, pattern) => {
    const found = text
      .filter((file) => pattern.test(read(file)))
      .map((file) => `${file}: ${pattern.exec(read(file))![0].trim()}`);
    expect(found).toEqual([]);
  });

  it('shell and C files, Markdown and sources end with one line feed and have no trailing blanks', () => {
    const untidy = text.filter(
      (file) => /[ \t]+$/m.test(read(file)) || /\n\n$/.test(read(file)) || !/(^|\n)$/.test(read(file)),
    );
    expect(untidy.filter((file) => !file.startsWith('LICENSE'))).toEqual([]);
  });

  it('the product says nothing on its own: console is for the command line', () => {
    const talking = code.filter(
      (file) => /^src\/(?!cli\/|simulation\/)/.test(file) && /\bconsole\.\w+\(/.test(read(file)),
    );
    expect(talking).toEqual([]);
  });

  it('tests of behaviour do not sleep for a fixed time to be right', () => {
    const never = code.filter((file) =>
      /^src\/(wire|compare|translate|flow|protocol|dataplane)\//.test(file),
    );
    const timed = never.filter((file) =>
      /\b(setTimeout|setInterval|Date\.now|performance\.now|Math\.random)\b/.test(read(file)),
    );
    expect(timed).toEqual([]);
  });
});
