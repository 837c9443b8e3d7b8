import { execFile } from 'node:child_process';

const OUTPUT_BYTES_MAX = 64 * 1024;

/** What came of a program: `code` null when it was killed, could not be started, or was given up. */
export interface ProgramResult {
  readonly code: number | null;
  /** The last line it wrote, for people; or why it did not run. */
  readonly detail: string;
}

/** Runs a program without a shell, killed when `signal` aborts or it writes too much. Never rejects. */
export type RunProgram = (
  path: string,
  args: readonly string[],
  signal: AbortSignal,
) => Promise<ProgramResult>;

/** In this thread, which waits until the kernel has begun to run it; see ProgramThread. */
export const runProgram: RunProgram = (path, args, signal) => {
  return new Promise((resolve) => {
    const options = { signal, killSignal: 'SIGKILL', maxBuffer: OUTPUT_BYTES_MAX } as const;
    execFile(path, args, options, (error, stdout, stderr) => {
      const said = `${stdout}\n${stderr}`.trim().split('\n').at(-1) ?? '';
      if (error === null) resolve({ code: 0, detail: said });
      else if (typeof error.code === 'number') resolve({ code: error.code, detail: said });
      else resolve({ code: null, detail: signal.aborted ? 'given up' : error.message });
    });
  });
};
