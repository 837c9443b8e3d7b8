/**
 * Programs of an operator, started from a thread of their own: starting one keeps its thread until the kernel has begun
 * to run it, hundreds of milliseconds on a busy machine, and frames must never wait for that.
 */
import { Worker } from 'node:worker_threads';
import type { ProgramResult, RunProgram } from './program.js';

export type ToProgramWorker =
  | { readonly kind: 'run'; readonly id: number; readonly path: string; readonly args: readonly string[] }
  | { readonly kind: 'give up'; readonly id: number };

export interface FromProgramWorker {
  readonly id: number;
  readonly result: ProgramResult;
}

export class ProgramThread {
  /** By number of the question. */
  readonly #waiting = new Map<number, (result: ProgramResult) => void>();
  #worker: Worker | undefined;
  #lastId = 0;

  constructor() {
    this.#worker = this.#start();
  }

  /** As runProgram. */
  readonly run: RunProgram = (path, args, signal) =>
    new Promise((resolve) => {
      this.#lastId += 1;
      const id = this.#lastId;
      this.#waiting.set(id, resolve);
      this.#tell({ kind: 'run', id, path, args });
      const giveUp = (): void => this.#tell({ kind: 'give up', id });
      if (signal.aborted) giveUp();
      else signal.addEventListener('abort', giveUp, { once: true });
    });

  #tell(message: ToProgramWorker): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./program-worker.js', import.meta.url));
    worker.unref();
    worker.on('message', ({ id, result }: FromProgramWorker) => this.#answer(id, result));
    worker.on('error', (error) => this.#lost(`the thread that runs programs failed: ${error.message}`));
    return worker;
  }

  #lost(detail: string): void {
    this.#worker = undefined; // another is started when it is needed
    for (const id of [...this.#waiting.keys()]) this.#answer(id, { code: null, detail });
  }

  #answer(id: number, result: ProgramResult): void {
    this.#waiting.get(id)?.(result);
    this.#waiting.delete(id);
  }
}
