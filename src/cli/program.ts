/** The commands and their flags. What they do lives in the file of each. */
import { Command, CommanderError, Option } from 'commander';
import type { Config } from '../config/derive.js';
import { nearest } from '../config/keys.js';
import { ColoError } from '../errors.js';
import { addColoCompareCommand } from './colo-compare-command.js';
import {
  addConfigOptions,
  type ConfigOptions,
  configFileOf,
  configOf,
  refusePipe,
} from './config-options.js';
import { addFailoverCommands } from './failover-commands.js';
import { addOperatorCommands } from './operator-commands.js';
import { productVersion } from './version.js';

/** Where a program writes to and what it reads, so that tests can stand in. */
export interface Io {
  readonly env: NodeJS.ProcessEnv;
  out(text: string): void;
  err(text: string): void;
  /** Begins the process anew without the privileges that no proxy needs; absent where the process is not ours alone. */
  confine?(): Promise<void>;
}

const HELP_AFTER = `
Without a command: run. \`colo-proxy run --help\` lists its flags.

Examples:
  colo-proxy --primary-tap tap0 --secondary-tap tap1
  colo-proxy --primary stream:unix:/run/p.sock --secondary stream:unix:/run/s.sock --client tap:colo0,bridge=br0
  colo-proxy check --config colo-proxy.yaml
  qemu-system-x86_64 ... $(colo-proxy qemu-args primary --primary-tap tap0 --secondary-tap tap1)

Exit codes: 0 ok, 1 failure while running, 2 wrong usage or configuration.`;

/** `setExitCode` gets what the command came to. */
export function buildProgram(io: Io, setExitCode: (code: number) => void): Command {
  const program = new Command('colo-proxy')
    .description(
      'Userspace proxy for QEMU COLO: keeps the network service of a virtual machine alive through the death of its host.',
    )
    .version(productVersion(), '--version', 'print the version')
    .addHelpText('after', HELP_AFTER)
    .configureOutput({ writeOut: (text) => io.out(text), writeErr: (text) => io.err(text) })
    .exitOverride();

  addConfigOptions(program.command('run', { isDefault: true }))
    .description('protect a pair until SIGTERM or SIGINT (the default)')
    .option('--watch-config', 'reload when the configuration file changes; SIGHUP reloads in any case')
    .allowExcessArguments()
    .action(async (options: ConfigOptions & { watchConfig?: boolean }, { args: [word] }: Command) => {
      // run is what is meant by no command: a word is a command misspelt
      if (word !== undefined) throw unknownCommand(word, program);
      const file = configFileOf(options, io.env);
      refusePipe(file);
      const load = (): Config => configOf(options, io.env);
      const config = load();
      if (!runsPrograms(config)) await confined(io);
      const { run } = await import('./run.js');
      setExitCode(await run(config, { load, watchFile: options.watchConfig ? file : undefined }));
    });

  addConfigOptions(program.command('check'))
    .description('check the configuration and show what is in effect; needs no root and opens nothing')
    .option('--quiet', 'only problems')
    .action(async (options: ConfigOptions & { quiet?: boolean }) => {
      const { checkReport } = await import('./check.js');
      const { yaml, notes } = checkReport(configOf(options, io.env));
      if (options.quiet) return;
      io.out(yaml);
      for (const note of notes) io.err(`${note}\n`);
    });

  program
    .command('demo')
    .description('a scripted pair and a scripted client through the real proxy; no root, no QEMU')
    .option('--once', 'play one whole story, check every byte, and end')
    .option('--http <ADDRESS>', 'admin address of the demo', '127.0.0.1:9120')
    .option('--record <DIR>', 'flight recorder: keep everything compared there, for replay')
    .action(async (options: { once?: boolean; http: string; record?: string }) => {
      const { runDemo } = await import('./demo.js');
      const { once = false, http, record } = options;
      setExitCode(await runDemo({ once, http, record }));
    });

  const qemuArgsCommand = program
    .command('qemu-args')
    .description('print the QEMU arguments that fit the configuration, one option a line')
    .addArgument(program.createArgument('<role>', 'which VM').choices(['primary', 'secondary']));
  addConfigOptions(qemuArgsCommand)
    .option('--mac <ADDRESS>', "the guest's address, the same for both VMs (default: made from the name)")
    .addOption(new Option('--qemu-version <VERSION>', 'choose what fits this version, such as 7.2 or 11.1'))
    .option('--fresh', "waits for a state, whichever seat it is: after a failover also the primary's")
    .action(
      async (
        role: 'primary' | 'secondary',
        options: ConfigOptions & { mac?: string; qemuVersion?: string; fresh?: boolean },
      ) => {
        const { qemuArgs } = await import('./qemu-args.js');
        const { mac, qemuVersion, fresh = role === 'secondary' } = options;
        const { words, hints } = qemuArgs(configOf(options, io.env), { role, mac, qemuVersion, fresh });
        for (let index = 0; index < words.length; index += 2) io.out(`${words[index]} ${words[index + 1]}\n`);
        for (const hint of hints) io.err(`# ${hint}\n`);
      },
    );

  addConfigOptions(program.command('checkpoint'))
    .description('take a checkpoint now and wait for it, or change how a running proxy takes them')
    .addOption(new Option('--mode <MODE>', 'from now on').choices(['compare', 'periodic']))
    .option('--period <MS>', 'interval of mode periodic; longest interval of mode compare, 0 for none')
    .action(async (options: ConfigOptions & { mode?: string; period?: string }) => {
      const { control } = await import('./control.js');
      const { mode, period } = options;
      const answer = await control(configOf(options, io.env, { withoutLinks: true }), 'checkpoint', {
        ...(mode === undefined ? {} : { mode }),
        ...(period === undefined ? {} : { periodMs: period }),
      });
      io.out(`${JSON.stringify(answer)}\n`);
    });

  addOperatorCommands(program, io, setExitCode);
  addFailoverCommands(program, io);
  addColoCompareCommand(program, setExitCode);

  program
    .command('version')
    .description('print the version')
    .action(() => io.out(`${productVersion()}\n`));

  return program;
}

function unknownCommand(word: string, { commands }: Command): ColoError {
  const meant = nearest(
    word,
    commands.map((command) => command.name()),
  );
  const hint = meant === undefined ? 'colo-proxy --help lists the commands' : `did you mean ${meant}?`;
  return new ColoError('COLO_ERR_USAGE', `${word}: unknown command; ${hint}`);
}

/** A fencing program or an arbiter's has the proxy's privileges, and may need more of them than the proxy. */
function runsPrograms({ failover }: Config): boolean {
  return failover.fenceProgram !== undefined || failover.arbiter.kind === 'exec';
}

/** That it cannot be done is told, and hinders nothing. */
async function confined(io: Io): Promise<void> {
  try {
    await io.confine?.();
  } catch (error) {
    io.err(`privileges are not given up: ${error instanceof Error ? error.message : error}\n`);
  }
}

export { CommanderError };
