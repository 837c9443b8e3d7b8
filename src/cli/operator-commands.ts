/** The commands of whoever runs a pair: ask, explain, examine. */
import { type Command, Option } from 'commander';
import { ColoError } from '../errors.js';
import { type ProxyAddress, proxyAddress } from './ask.js';
import { completionScript, SHELLS, type Shell } from './completion.js';
import { addConfigOptions, type ConfigOptions, configOf } from './config-options.js';
import type { Io } from './program.js';

type Asking = ConfigOptions & { readonly url?: string };

export function addOperatorCommands(program: Command, io: Io, setExitCode: (code: number) => void): void {
  const address = (options: Asking): ProxyAddress =>
    proxyAddress(() => configOf(options, io.env, { withoutLinks: true }), options.url);
  const asking = (name: string, description: string): Command =>
    addConfigOptions(program.command(name))
      .description(description)
      .option(
        '--url <URL>',
        'admin address to ask: http://HOST:PORT or unix:PATH (default: the control socket)',
      );
  const terminal = {
    isTerminal: process.stdout.isTTY === true,
    rows: process.stdout.rows ?? 24,
    out: io.out,
  };

  asking('status', 'what a running proxy is doing; exit code 1 when the pair is not protected')
    .option('--watch', 'again every second, until Ctrl-C')
    .option('--json', 'as JSON, one object a line')
    .action(async (options: Asking & { watch?: boolean; json?: boolean }) => {
      const { watchStatus } = await import('./watch.js');
      const { watch = false, json = false } = options;
      setExitCode(await watchStatus(address(options), { ...terminal, watch, json }));
    });

  asking('top', 'status, throughput and the busiest flows, every second until Ctrl-C')
    .addOption(new Option('--once', 'print once and end'))
    .action(async (options: Asking & { once?: boolean }) => {
      const { watchTop } = await import('./watch.js');
      setExitCode(await watchTop(address(options), { ...terminal, watch: !options.once, json: false }));
    });

  asking('explain', 'why the VMs diverged: of a running proxy, or from a file of evidence')
    .argument('[file]', 'pcapng file of the evidence directory')
    .option('--last', 'the latest divergence in full')
    .option('--id <N>', 'that divergence in full')
    .action(async (file: string | undefined, options: Asking & { last?: boolean; id?: string }) => {
      const { explainFile, explainRunning } = await import('./explain.js');
      const { id, last } = options;
      const texts =
        file === undefined ? await explainRunning(address(options), { id, last }) : explainFile(file);
      for (const text of texts) io.out(`${text}\n`);
    });

  addConfigOptions(program.command('doctor'))
    .description('would this pair work here? each finding with its cure; exit code 1 when something fails')
    .option('--json', 'as JSON')
    .action(async (options: ConfigOptions & { json?: boolean }) => {
      const { doctor } = await import('./doctor/doctor.js');
      setExitCode(await doctor(configOf(options, io.env), { out: io.out, json: options.json === true }));
    });

  const ofRecording = (name: string, description: string): Command =>
    program
      .command(name)
      .description(description)
      .argument('<path>', 'a file of a recording, or its directory')
      .addOption(new Option('--nic <N>', 'which network interface of a directory').default('0'));

  ofRecording('replay', 'decide a recording again, offline: as it was, or with other limits')
    .option('--hold-ms <MIN:MAX>', 'with these compare.holdMsMin and compare.holdMsMax')
    .option('--rules <FILE>', 'with the rules of this file: a configuration, or one with the key rules alone')
    .option('--reorder-ms <MS>', 'with this compare.reorderMsMax')
    .action(
      async (path: string, options: { nic: string; holdMs?: string; reorderMs?: string; rules?: string }) => {
        const { holdLimits, readRecording, readRules, replayReport } = await import('./replay.js');
        const { holdMs, reorderMs } = options;
        const reorder =
          reorderMs === undefined ? {} : { reorderMsMax: wholeNumber('--reorder-ms', reorderMs) };
        const frames = readRecording(path, wholeNumber('--nic', options.nic), io.err);
        const { lines, isDifferent } = replayReport(frames, {
          limits: { ...holdLimits(holdMs), ...reorder },
          ...(options.rules === undefined ? {} : { rules: readRules(options.rules) }),
        });
        io.out(`${lines.join('\n')}\n`);
        setExitCode(isDifferent ? 1 : 0);
      },
    );

  ofRecording(
    'learn',
    'what makes the VMs of a recording diverge, ranked by the checkpoints it costs',
  ).action(async (path: string, options: { nic: string }) => {
    const { readRecording } = await import('./replay.js');
    const { learnLines } = await import('./learn.js');
    const frames = readRecording(path, wholeNumber('--nic', options.nic), io.err);
    io.out(`${learnLines(frames).join('\n')}\n`);
  });

  program
    .command('compare')
    .description('compare two plain captures of the same time, one of each VM; exit code 1 when they differ')
    .argument('<primary>', "capture at the primary's interface")
    .argument('<secondary>', "capture at the secondary's interface")
    .option('--guest <ADDRESS>', "the guest's IP address (default: whoever answers connections)")
    .action(async (primary: string, secondary: string, options: { guest?: string }) => {
      const { compareFiles } = await import('./compare.js');
      const { lines, exitCode } = compareFiles({ primary, secondary }, options.guest, io.err);
      io.out(`${lines.join('\n')}\n`);
      setExitCode(exitCode);
    });

  addConfigOptions(program.command('reload'))
    .description(
      'have a running proxy read its configuration anew; shows what changed and what needs a restart',
    )
    .action(async (options: ConfigOptions) => {
      const { control } = await import('./control.js');
      const answer = await control(configOf(options, io.env, { withoutLinks: true }), 'reload', {});
      io.out(`${JSON.stringify(answer, null, 2)}\n`);
    });

  program
    .command('config')
    .description('about the configuration file')
    .addArgument(program.createArgument('<what>', 'schema: JSON Schema of the file').choices(['schema']))
    .action(async () => {
      const { configJsonSchema } = await import('./config-schema.js');
      io.out(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
    });

  program
    .command('completion')
    .description('print completions for a shell')
    .addArgument(program.createArgument('<shell>', 'which shell').choices(SHELLS))
    .action((shell: Shell) => io.out(completionScript(program, shell)));
}

function wholeNumber(flag: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new ColoError('COLO_ERR_USAGE', `${flag} ${text}: expected a whole number`);
}
