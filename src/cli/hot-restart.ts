/**
 * A hot restart, between processes: the old one starts the new one with every descriptor, both talk over Node's IPC channel,
 * and the new one goes on while the old one ends. What is said is in pair/handover.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { asColoError, ColoError } from '../errors.js';
import type { PairDescriptors, PairInheritance } from '../pair/handover.js';
import type { Predecessor, RunningProxy } from '../proxy.js';

/** Set for a successor: its PairDescriptors as JSON. */
export const DESCRIPTORS_VARIABLE = 'COLO_HANDOVER_DESCRIPTORS';
/** After stdin, stdout, stderr and the IPC channel. */
const FIRST_DESCRIPTOR = 4;
/** The successor loads the program and reads the configuration; nothing waits for it. */
const READY_MS_MAX = 60_000;
/** Both VMs wait meanwhile. */
const PREPARE_MS_MAX = 1000;
const RUNNING_MS_MAX = 10_000;

type Message =
  | { readonly kind: 'ready' | 'prepared' | 'go' | 'running' | 'over' }
  | { readonly kind: 'inheritance'; readonly inheritance: PairInheritance };

/** What a process does for its successor beside the pair. */
export interface LettingGo {
  /** Right before the successor goes on; both VMs wait. */
  begins(successor: number): void;
  /** The successor goes on: what else it needs, addresses that are listened on, is let go of. */
  ends(): Promise<void>;
}

/**
 * Resolves with the successor's process id when it has taken the pair over: this process is to end. Rejects with COLO_ERR_HANDOVER or COLO_ERR_CHECKPOINT; then this process goes on.
 */
export async function hotRestart(proxy: RunningProxy, lettingGo: LettingGo): Promise<number> {
  const descriptors = proxy.handover.descriptors;
  const successor = startSuccessor(descriptors);
  try {
    await messageOf(successor, 'ready', READY_MS_MAX);
    await proxy.handover.give(descriptors, {
      prepare: async (inheritance) => {
        send(successor, { kind: 'inheritance', inheritance });
        await messageOf(successor, 'prepared', PREPARE_MS_MAX);
        return true;
      },
    });
  } catch (error) {
    successor.kill('SIGKILL');
    throw asColoError(error, 'COLO_ERR_HANDOVER', 'the successor');
  }
  lettingGo.begins(successor.pid!);
  await proxy.letGo();
  send(successor, { kind: 'go' });
  await messageOf(successor, 'running', RUNNING_MS_MAX);
  await lettingGo.ends();
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
    async inheritance() {
      const said = messageOf(process, 'inheritance', READY_MS_MAX + RUNNING_MS_MAX);
      send(process, { kind: 'ready' });
      const message = await said;
      if (message.kind !== 'inheritance') throw new ColoError('COLO_ERR_HANDOVER', 'nothing was handed over');
      return message.inheritance;
    },
    async prepared() {
      const said = messageOf(process, 'go', RUNNING_MS_MAX);
      send(process, { kind: 'prepared' });
      await said;
    },
  };
}

/** The successor goes on. Resolves when the other process has let go of everything else, or has ended without that. */
export async function tellPredecessor(): Promise<void> {
  const said = messageOf(process, 'over', RUNNING_MS_MAX).catch(() => undefined);
  send(process, { kind: 'running' });
  await said;
}
