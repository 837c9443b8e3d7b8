/** Each shell is asked what it completes. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SHELLS, type Shell } from '../../../src/cli/completion.js';
import { commandLine } from './command-line.js';

const has = (command: string): boolean => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;

/** What is typed before the tab, and what stands there after it. */
const TYPED = [
  ['stat', 'status'],
  ['status --wa', '--watch'],
  ['qemu-args p', 'primary'],
  ['qemu-args secondary --fr', '--fresh'],
  ['config sch', 'schema'],
  ['--primary-t', '--primary-tap'],
  ['--primary-tap tap0 --secondary-t', '--secondary-tap'],
] as const;

const BASH = `
for line; do
  COMP_WORDS=(colo-proxy $line); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _colo_proxy; echo "\${COMPREPLY[*]}"
done`;

const FISH = `
for line in $argv; echo (complete -C "colo-proxy $line" | string replace -r "\\t.*" ""); end`;

/** In a terminal of its own, where tab shows the line after completing. */
const ZSHRC = `
PS1= PS2=
fpath=($ZDOTDIR $fpath)
autoload -Uz compinit && compinit -u -D
answer() { zle complete-word; print -r -- "answer {$BUFFER}"; zle kill-whole-line }
zle -N answer
bindkey '^I' answer
`;
const ZSH = `
zmodload zsh/zpty
zpty shell "TERM=dumb ZDOTDIR=$1 zsh -d -i"
shift
for line; do
  zpty -w -n shell "colo-proxy $line"$'\\t'
  zpty -r shell text $'*answer {*}'
  print -r -- \${\${(z)\${\${text##*answer \\{}%\\}}}[-1]}
done`;

describe('completions', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'colo-completion-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The shell's words for each line typed. */
  function completed(shell: Shell, script: string): string[] {
    const own = join(folder, `_${shell}`);
    writeFileSync(own, script);
    writeFileSync(join(folder, '_colo-proxy'), script);
    writeFileSync(join(folder, '.zshrc'), ZSHRC);
    const lines = TYPED.map(([typed]) => typed);
    const words = {
      bash: ['-c', `source ${own}; ${BASH}`, 'bash', ...lines],
      fish: ['-c', `source ${own}; ${FISH}`, ...lines],
      zsh: ['-f', '-c', ZSH, 'zsh', folder, ...lines],
    }[shell];
    return execFileSync(shell, words, { encoding: 'utf8', timeout: 20_000 }).trim().split('\n');
  }

  it.for(SHELLS)(
    '%s completes commands, flags, choices, and the flags of run without a command',
    { timeout: 30_000 },
    async (shell, { skip }) => {
      if (!has(shell)) skip(`${shell} is not installed`);
      const { out } = await commandLine(`completion ${shell}`);
      expect(completed(shell, out)).toEqual(TYPED.map(([, word]) => word));
    },
  );
});
