/**
 * A hot restart, between processes: the old one starts the new one with every descriptor, both talk over Node's IPC channel,
 * and the new one goes on while the old one ends. What is said is in pair/handover.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { asColoError, ColoError } from '../errors.js';
import type { PairDescriptors, PairInheritance } from '../pair/handover.js';
import type { Predecessor, RunningProxy } from '../proxy.js';

/** Set for a successor: its PairDescriptors as JSON. */
export const DESCRIPTORS_VARIABLE = 'COLO_HANDOVER_DESCRIPTORS';
/** After stdin, stdout, stderr and the IPC channel. */
const FIRST_DESCRIPTOR = 4;
/** The successor loads the program and reads the configuration; nothing waits for it. */
const READY_MS_MAX = 60_000;
const STANDING_BY_MS_MAX = 10_000;
/** Both VMs wait meanwhile. */
const RUNNING_MS_MAX = 1000;
/** A checkpoint, and what the other process lets go of. */
const PREDECESSOR_MS_MAX = 60_000;

interface Message {
  readonly kind: 'ready' | 'draft' | 'standing by' | 'inheritance' | 'running' | 'over';
  /** Of `draft` and `inheritance`. */
  readonly inheritance?: PairInheritance;
}

export type LetGo = (successor: number) => Promise<void>;

/**
 * Resolves with the successor's process id when it has taken the pair over: this process is to end. Rejects with
 * COLO_ERR_HANDOVER or COLO_ERR_CHECKPOINT; then this process goes on.
 * @param letGo of what else the successor needs: addresses that are listened on
 */
export async function hotRestart(proxy: RunningProxy, letGo: LetGo): Promise<number> {
  const descriptors = proxy.handover.descriptors;
  const successor = startSuccessor(descriptors);
  try {
    await messageOf(successor, 'ready', READY_MS_MAX);
    await proxy.handover.give(descriptors, {
      standBy: async (inheritance) => {
        send(successor, { kind: 'draft', inheritance });
        await messageOf(successor, 'standing by', STANDING_BY_MS_MAX);
      },
      goOn: async (inheritance) => {
        send(successor, { kind: 'inheritance', inheritance });
        try {
          await messageOf(successor, 'running', RUNNING_MS_MAX);
        } catch (error) {
          await end(successor); // never two that go on
          throw error;
        }
      },
    });
  } catch (error) {
    await end(successor);
    throw asColoError(error, 'COLO_ERR_HANDOVER', 'the successor');
  }
  await Promise.all([proxy.letGo(), letGo(successor.pid!)]);
  send(successor, { kind: 'over' });
  successor.disconnect();
  successor.unref();
  return successor.pid!;
}

function startSuccessor(descriptors: PairDescriptors): ChildProcess {
  const inherited: number[] = [];
  const renumber = (descriptor: number): number =>
    descriptor < 0 ? -1 : FIRST_DESCRIPTOR - 1 + inherited.push(descriptor);
  const { relay, links } = descriptors;
  const renumbered: PairDescriptors = {
    links: links.map(({ client, primary, secondary }) => ({
      client: renumber(client),
      primary: renumber(primary),
      secondary: renumber(secondary),
    })),
    relay:
      relay === null
        ? null
        : {
            ...relay,
            connections: relay.connections.map(({ primary, secondary }) => ({
              primary: renumber(primary),
              secondary: renumber(secondary),
            })),
          },
  };
  const { WATCHDOG_PID: _, ...env } = process.env; // the watchdog follows the main process
  return spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc', ...inherited],
    serialization: 'advanced',
    env: { ...env, [DESCRIPTORS_VARIABLE]: JSON.stringify(renumbered) },
  });
}

async function end(process: ChildProcess): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null) return;
  const exit = once(process, 'exit');
  process.kill('SIGKILL');
  await exit;
}

function send(to: ChildProcess | NodeJS.Process, message: Message): void {
  to.send?.(message as never);
}

/** Resolves with the next message if it is of that kind. */
function messageOf(
  from: ChildProcess | NodeJS.Process,
  kind: Message['kind'],
  msMax: number,
): Promise<Message> {
  return new Promise((resolve, reject) => {
    const settle = (problem: string | null, message?: Message): void => {
      clearTimeout(timer);
      from.off('message', onMessage);
      from.off('exit', onEnd);
      from.off('disconnect', onEnd);
      if (problem === null) resolve(message!);
      else reject(new ColoError('COLO_ERR_HANDOVER', problem));
    };
    const onMessage = (message: Message): void =>
      settle(message.kind === kind ? null : `said ${message.kind}, not ${kind}`, message);
    const onEnd = (): void => settle(`ended before it said ${kind}`);
    const timer = setTimeout(() => settle(`did not say ${kind} within ${msMax} ms`), msMax);
    from.on('message', onMessage as never);
    from.on('exit', onEnd);
    from.on('disconnect', onEnd);
  });
}

/** The process that has started this one as its successor; undefined for an ordinary start. */
export function predecessorOf(env: NodeJS.ProcessEnv): Predecessor | undefined {
  const text = env[DESCRIPTORS_VARIABLE];
  if (text === undefined || process.send === undefined) return undefined;
  delete env[DESCRIPTORS_VARIABLE];
  return {
    descriptors: JSON.parse(text) as PairDescriptors,
    draft: () => inheritanceOf('draft', 'ready'),
    inheritance: () => inheritanceOf('inheritance', 'standing by'),
    end: async () => {
      const said = messageOf(process, 'over', PREDECESSOR_MS_MAX).catch(() => undefined); // it may end without that
      send(process, { kind: 'running' });
      await said;
    },
  };
}

async function inheritanceOf(
  kind: 'draft' | 'inheritance',
  tell: 'ready' | 'standing by',
): Promise<PairInheritance> {
  const said = messageOf(process, kind, PREDECESSOR_MS_MAX);
  send(process, { kind: tell });
  return (await said).inheritance!;
}
