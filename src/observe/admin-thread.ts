/**
 * An admin address in a thread of its own: HTTP, JSON, the metrics' text and the page's events cost milliseconds at a
 * time, and frames must never wait for them. The data plane's thread only answers short questions, which
 * admin-worker.ts asks: it copies its numbers, and does what an operator asks for.
 */
import { Worker } from 'node:worker_threads';
import { ColoError, type ErrorCode } from '../errors.js';
import type { Timer } from '../system/clock.js';
import type { AdminOptions } from './http.js';
import type { BuildInfo } from './metrics.js';

/** The options that can be sent to another thread. */
export interface AdminWorkerData {
  readonly listen: string;
  readonly build: BuildInfo;
  readonly canAct: boolean;
  readonly token: string | undefined;
  readonly socketMode: number | undefined;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type Question =
  | { readonly about: 'status' | 'divergences' | 'flows' }
  | { readonly about: 'act'; readonly verb: string; readonly args: Readonly<Record<string, string>> };

export type FromWorker =
  | { readonly kind: 'opened' }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly fields: object; readonly message: string }
  | { readonly kind: 'ask'; readonly id: number; readonly question: Question };

/** A refusal is what was thrown; its code is null for what is no ColoError. */
export type ToWorker =
  | { readonly kind: 'close' }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly code: ErrorCode | null; readonly text: string };

const RESTART_MS = 2000;

/** As AdminServer. A thread that fails is started again: losing the address ends nothing. */
export class AdminThread {
  readonly #options: AdminOptions;
  #worker: Worker | undefined;
  #retry: Timer | undefined;
  #isClosed = false;

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  /** Resolves after the first attempt to listen, whatever came of it. */
  async open(): Promise<void> {
    const { listen, build, act, token, socketMode, log, clock } = this.#options;
    const workerData: AdminWorkerData = { listen, build, canAct: act !== undefined, token, socketMode };
    const worker = new Worker(new URL('./admin-worker.js', import.meta.url), { workerData });
    this.#worker = worker;
    await new Promise<void>((resolve) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'opened') resolve();
        else if (message.kind === 'log') log[message.level](message.fields, message.message);
        else void this.#answer(worker, message.id, message.question);
      });
      worker.on('error', (error) => log.error({ err: error }, 'the admin thread failed'));
      worker.on('exit', () => {
        resolve();
        this.#worker = undefined;
        if (!this.#isClosed) this.#retry = clock.after(RESTART_MS, () => void this.open());
      });
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#retry?.cancel();
    const worker = this.#worker;
    if (worker === undefined) return;
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    tell(worker, { kind: 'close' });
    await ended;
  }

  async #answer(worker: Worker, id: number, question: Question): Promise<void> {
    try {
      tell(worker, { kind: 'answer', id, value: await this.#ask(question) });
    } catch (error) {
      const code = error instanceof ColoError ? error.code : null;
      tell(worker, {
        kind: 'refusal',
        id,
        code,
        text: error instanceof Error ? error.message : String(error),
      });
    }
  }

  #ask(question: Question): unknown {
    const { status, divergences, flows, act } = this.#options;
    switch (question.about) {
      case 'status':
        return status();
      case 'divergences':
        return divergences?.() ?? [];
      case 'flows':
        return flows?.() ?? [];
      case 'act':
        return act?.(question.verb, question.args);
    }
  }
}

function tell(worker: Worker, message: ToWorker): void {
  worker.postMessage(message);
}
