/** Completions for shells, made from the commands themselves, so that they cannot lag behind. */
import type { Command } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Word {
  readonly name: string;
  readonly about: string;
}

/** Runs when none is named: its flags may stand first. */
const DEFAULT_COMMAND = 'run';

interface Known extends Word {
  readonly flags: readonly (Word & { readonly takesValue: boolean; readonly choices: readonly string[] })[];
  readonly takesArgument: boolean;
  /** Choices of the first argument. */
  readonly choices: readonly string[];
}

export function completionScript(program: Command, shell: Shell): string {
  const commands = program.commands.map(known);
  return { bash, zsh, fish }[shell](commands);
}

function known(command: Command): Known {
  return {
    name: command.name(),
    about: command.description(),
    flags: command.options.map((option) => ({
      name: option.long!,
      about: option.description,
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    })),
    takesArgument: command.registeredArguments.length > 0,
    choices: command.registeredArguments[0]?.argChoices ?? [],
  };
}

function bash(commands: readonly Known[]): string {
  const cases = commands.map(
    ({ name, flags, choices }) =>
      `    ${name}) words="${[...choices, ...flags.map((flag) => flag.name)].join(' ')}" ;;`,
  );
  const names = commands.map(({ name }) => name).join(' ');
  return `# bash completion for colo-proxy
_colo_proxy() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words="" command="${DEFAULT_COMMAND}" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " ${names} " in *" $word "*) command="$word"; break ;; esac
  done
  case "$command" in
${cases.join('\n')}
  esac
  [[ $COMP_CWORD -eq 1 ]] && words="${names} $words"
  if [[ "$current" == /* || "$current" == ./* ]]; then
    COMPREPLY=($(compgen -f -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}
complete -o filenames -F _colo_proxy colo-proxy
`;
}

function zsh(commands: readonly Known[]): string {
  const quoted = (text: string): string => text.replaceAll("'", "'\\''").replaceAll(':', '\\:');
  const list = commands.map(({ name, about }) => `    '${name}:${quoted(about)}'`);
  const cases = commands.map(({ name, flags, takesArgument, choices }) => {
    const specs = flags.map(({ name: flag, about, takesValue, choices: values }) => {
      const text = quoted(about).replaceAll('[', '(').replaceAll(']', ')');
      const value = values.length > 0 ? `:value:(${values.join(' ')})` : ':value:_files';
      return `'${flag}[${text}]${takesValue ? value : ''}'`;
    });
    if (choices.length > 0) specs.push(`'1:what:(${choices.join(' ')})'`);
    else if (takesArgument) specs.push(`'*:file:_files'`);
    return `    ${name}) _arguments ${specs.join(' ')} ;;`;
  });
  return `#compdef colo-proxy
_colo_proxy() {
  local -a commands
  commands=(
${list.join('\n')}
  )
  local command=$words[2]
  if (( CURRENT > 2 && \${commands[(I)\${(b)command}:*]} )); then
    shift words
    (( CURRENT-- ))
  else
    (( CURRENT == 2 )) && _describe command commands
    command=${DEFAULT_COMMAND}
  fi
  case $command in
${cases.join('\n')}
  esac
}
_colo_proxy "$@"
`;
}

function fish(commands: readonly Known[]): string {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const others = commands.map(({ name }) => name).filter((name) => name !== DEFAULT_COMMAND);
  const lines = commands.flatMap(({ name, about, flags, choices }) => {
    const isMeant =
      name === DEFAULT_COMMAND
        ? `not __fish_seen_subcommand_from ${others.join(' ')}`
        : `__fish_seen_subcommand_from ${name}`;
    const within = `-n '${isMeant}'`;
    return [
      `complete -c colo-proxy -f -n __fish_use_subcommand -a ${name} -d ${quoted(about)}`,
      ...(choices.length > 0 ? [`complete -c colo-proxy ${within} -f -a '${choices.join(' ')}'`] : []),
      ...flags.map(({ name: flag, about: what, takesValue, choices: values }) => {
        const value = values.length > 0 ? ` -x -a '${values.join(' ')}'` : takesValue ? ' -r' : '';
        return `complete -c colo-proxy ${within} -l ${flag.slice(2)}${value} -d ${quoted(what)}`;
      }),
    ];
  });
  return `# fish completion for colo-proxy\n${lines.join('\n')}\n`;
}
