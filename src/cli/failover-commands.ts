/** What an operator does to a running pair, over its control socket. */
import { type Command, Option } from 'commander';
import { addConfigOptions, type ConfigOptions, configOf } from './config-options.js';
import type { Io } from './program.js';

type Asked = ConfigOptions & { readonly json?: boolean };

export function addFailoverCommands(program: Command, io: Io): void {
  const ask = async (
    options: Asked,
    verb: string,
    args: Readonly<Record<string, string>> = {},
  ): Promise<void> => {
    const { control } = await import('./control.js');
    const answer = await control(configOf(options, io.env, { withoutLinks: true }), verb, args);
    if (options.json) io.out(`${JSON.stringify(answer)}\n`);
    else io.out(`${answer.state}: the VM on the seat ${answer.carrier} carries the traffic\n`);
  };
  const command = (name: string, description: string): Command =>
    addConfigOptions(program.command(name)).description(description).option('--json', 'as JSON');

  command('failover', 'the VM on that seat goes on alone; the other one is void and told to quit')
    .addArgument(
      program.createArgument('<seat>', 'by its name in the configuration').choices(['primary', 'secondary']),
    )
    .action((seat: string, options: Asked) => ask(options, 'failover', { to: seat }));

  command('switchover', 'planned: a checkpoint, then the other VM goes on; no connection breaks').action(
    (options: Asked) => ask(options, 'switchover'),
  );

  command('protect', 'begin protection with the fresh secondary that waits; status shows how far it is')
    .addOption(new Option('--cancel', 'give the secondary up instead, loaded or not'))
    .action((options: Asked & { cancel?: boolean }) =>
      ask(options, 'protect', options.cancel ? { cancel: 'true' } : {}),
    );
}
