/** The thread of an admin address: AdminThread starts it, and answers what it asks. */
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { ColoError } from '../errors.js';
import { realClock } from '../system/clock.js';
import type { Log } from '../system/log.js';
import type { AdminWorkerData, FromWorker, LogLevel, Question, ToWorker } from './admin-thread.js';
import { type AdminOptions, AdminServer } from './http.js';

/** A question that gets no answer: the data plane's thread hangs, or is being ended. */
const ANSWER_MS_MAX = 30_000;

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * It stands back a little on a core that it shares with the data plane's thread (setpriority(2), NOTES: of this thread
 * alone). Only a little: at 10, on a busy machine, frames waited for tens of milliseconds.
 */
const NICE = 1;

const port = parentPort!;
const { listen, build, canAct, token, socketMode } = workerData as AdminWorkerData;
const waiting = new Map<number, Waiting>();
let lastId = 0;

const say = (message: FromWorker): void => port.postMessage(message);

function ask(question: Question): Promise<unknown> {
  lastId += 1;
  const id = lastId;
  return new Promise((resolve, reject) => {
    const timer = realClock.after(ANSWER_MS_MAX, () => {
      waiting.delete(id);
      reject(new Error(`no answer for ${ANSWER_MS_MAX} ms`));
    });
    const settled =
      <T>(settle: (value: T) => void) =>
      (value: T): void => {
        timer.cancel();
        settle(value);
      };
    waiting.set(id, { resolve: settled(resolve), reject: settled(reject) });
    say({ kind: 'ask', id, question });
  });
}

/** Errors lose their class on the way to another thread: what is told of them is told here. */
function sendable(fields: object): object {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (!(value instanceof Error)) return [name, value];
      if (value instanceof ColoError) return [name, { code: value.code, message: value.message }];
      return [name, { message: value.message, stack: value.stack }];
    }),
  );
}

const tell =
  (level: LogLevel) =>
  (fields: object, message: string): void =>
    say({ kind: 'log', level, fields: sendable(fields), message });
const log: Log = { debug: tell('debug'), info: tell('info'), warn: tell('warn'), error: tell('error') };

const of = (about: 'status' | 'divergences' | 'flows') => () => ask({ about }) as Promise<never>;
const options: AdminOptions = {
  listen,
  log,
  clock: realClock,
  build,
  status: of('status'),
  divergences: of('divergences'),
  flows: of('flows'),
  ...(canAct && {
    act: (verb, args) => ask({ about: 'act', verb, args }) as Promise<Record<string, unknown>>,
  }),
  ...(token !== undefined && { token }),
  ...(socketMode !== undefined && { socketMode }),
};
try {
  setPriority(NICE);
} catch {
  // a filter of system calls may forbid it: the thread serves as any other then
}
const server = new AdminServer(options);

port.on('message', async (message: ToWorker) => {
  if (message.kind === 'close') {
    await server.close();
    port.close();
    return;
  }
  const asked = waiting.get(message.id);
  waiting.delete(message.id);
  if (message.kind === 'answer') asked?.resolve(message.value);
  else
    asked?.reject(
      message.code === null ? new Error(message.text) : new ColoError(message.code, message.text),
    );
});

await server.open();
say({ kind: 'opened' });
