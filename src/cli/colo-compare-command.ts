import type { Command } from 'commander';
import type { ColoCompareOptions } from './colo-compare.js';

/** Options are named as QEMU's are, and mean the same. */
export function addColoCompareCommand(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('colo-compare')
    .description("stand in for QEMU's colo-compare object, outside QEMU, for its own filters and Xen's libxl")
    .requiredOption(
      '--primary-in <CHARDEV>',
      "the primary's output: unix:PATH[,server] or tcp:HOST:PORT[,server]",
    )
    .requiredOption('--secondary-in <CHARDEV>', "the secondary's output, in the primary's sequence space")
    .requiredOption('--outdev <CHARDEV>', 'where frames that may leave go')
    .option(
      '--notify-dev <CHARDEV>',
      'where checkpoints are asked for (DO_CHECKPOINT) and told (COLO_CHECKPOINT)',
    )
    .option('--vnet-hdr-support', 'frames carry a vnet header, as with vnet_hdr_support of the filters')
    .option('--compare-timeout <MS>', 'one-sided output waits at most so long for a checkpoint', '3000')
    .option('--expired-scan-cycle <MS>', 'a checkpoint that does not come is asked for again', '1000')
    .option('--max-queue-size <FRAMES>', 'a connection that holds more asks for a checkpoint', '1024')
    .option('--http <ADDRESS>', 'serve /metrics and /healthz at HOST:PORT or unix:PATH')
    .action(async (options: ColoCompareOptions) => {
      const { runColoCompare } = await import('./colo-compare.js');
      setExitCode(await runColoCompare(options));
    });
}
