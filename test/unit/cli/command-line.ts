import { main } from '../../../src/cli/main.js';

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs one command line in this process. */
export async function commandLine(line: string, env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  let out = '';
  let err = '';
  const io = {
    env,
    out(text: string): void {
      out += text;
    },
    err(text: string): void {
      err += text;
    },
  };
  const code = await main(line.split(' ').filter(Boolean), io);
  return { code, out, err };
}
