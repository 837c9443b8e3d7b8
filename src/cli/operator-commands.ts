/** The commands of whoever runs a pair: ask, explain, examine. */
import { type Command, Option } from 'commander';
import { type ProxyAddress, proxyAddress } from './ask.js';
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
        file === undefined ? await explainRunning(address(options), { id, last }) : await explainFile(file);
      for (const text of texts) io.out(`${text}\n`);
    });
}
