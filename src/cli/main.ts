/** Where the program starts: commands in, exit code out. */
import { ColoError } from '../errors.js';
import { buildProgram, CommanderError, type Io } from './program.js';

const EXIT = { OK: 0, FAILURE: 1, USAGE: 2 } as const;

/** Runs one command line (without node and script). Resolves with the exit code; never rejects. */
export async function main(words: readonly string[], io: Io): Promise<number> {
  let exitCode: number = EXIT.OK;
  try {
    const program = buildProgram(io, (code) => {
      exitCode = code;
    });
    await program.parseAsync([...words], { from: 'user' });
  } catch (error) {
    return report(error, io);
  }
  return exitCode;
}

const USAGE_CODES = new Set(['COLO_ERR_CONFIG', 'COLO_ERR_USAGE', 'COLO_ERR_LINK_URL', 'COLO_ERR_MTU']);

function report(error: unknown, io: Io): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.OK : EXIT.USAGE; // it has said why
  if (error instanceof ColoError) {
    io.err(`${error}\n`);
    return USAGE_CODES.has(error.code) ? EXIT.USAGE : EXIT.FAILURE;
  }
  io.err(`${error instanceof Error ? error.stack : String(error)}\n`);
  return EXIT.FAILURE;
}
