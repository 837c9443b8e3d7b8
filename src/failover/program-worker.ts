/** The thread that runs programs: ProgramThread starts it. */
import { parentPort } from 'node:worker_threads';
import { runProgram } from './program.js';
import type { FromProgramWorker, ToProgramWorker } from './program-thread.js';

const port = parentPort!;
const running = new Map<number, AbortController>();

port.on('message', async (message: ToProgramWorker) => {
  const { id } = message;
  if (message.kind === 'give up') {
    running.get(id)?.abort();
    return;
  }
  const abort = new AbortController();
  running.set(id, abort);
  const result = await runProgram(message.path, message.args, abort.signal);
  running.delete(id);
  port.postMessage({ id, result } satisfies FromProgramWorker);
});
