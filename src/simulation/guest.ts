import { deserialize, serialize } from 'node:v8';
import type { Clock } from '../system/clock.js';
import type { HostAddresses } from './neighbour-table.js';
import type { Application } from './network-stack.js';
import { NetworkStack } from './network-stack.js';
import type { Random } from './random.js';
import { callerService, echoService } from './services/echo-service.js';
import { fileService } from './services/file-service.js';
import { lineService } from './services/line-service.js';
import type { Service, ServiceKnobs } from './services/service.js';
import { NO_KNOBS } from './services/service.js';
import type { StackState } from './stack-state.js';
import type { TcpConnection, TcpOptions } from './tcp-state.js';

export const GuestPort = { ECHO: 7, FILE: 80, LINE: 8000 } as const;

export interface GuestOptions {
  readonly addresses: HostAddresses;
  readonly clock: Clock;
  /** The entropy of this copy of the guest: it makes ISNs, IP ids and `rand` differ between the two VMs. */
  readonly random: Random;
  readonly transmit: (frame: Buffer) => void;
  /** Further network interfaces, each with the same services. */
  readonly moreNics?: readonly {
    readonly addresses: HostAddresses;
    readonly transmit: (frame: Buffer) => void;
  }[];
  readonly tcp?: Partial<TcpOptions>;
  readonly services?: Partial<ServiceKnobs>;
  readonly lagMs?: number;
  readonly lagJitterMs?: number;
  readonly clockRate?: number;
  readonly mark?: () => number;
}

/** What runs in a scripted VM: a network stack for each interface, with a few services; its whole state can be copied. */
export class Guest {
  readonly stacks: readonly NetworkStack[];

  constructor(options: GuestOptions) {
    const application = guestApplication({ ...NO_KNOBS, ...options.services });
    const nics = [{}, ...(options.moreNics ?? [])];
    this.stacks = nics.map((nic) => new NetworkStack({ ...options, ...nic, application }));
  }

  /** Of the first interface. */
  get stack(): NetworkStack {
    return this.stacks[0]!;
  }

  start(): void {
    for (const stack of this.stacks) stack.start();
  }

  stop(): void {
    for (const stack of this.stacks) stack.stop();
  }

  /** The whole state at this instant: what a checkpoint carries. Only while stopped. */
  snapshot(): Buffer {
    return serialize(this.stacks.map((stack) => stack.state));
  }

  /** Goes on from a snapshot; everything this guest knew is gone. Only while stopped. */
  restore(snapshot: Uint8Array): void {
    const states = deserialize(snapshot) as StackState[];
    for (const [nic, stack] of this.stacks.entries()) stack.load(states[nic]!);
  }
}

function guestApplication(knobs: ServiceKnobs): Application {
  const byPort = new Map<number, Service>([
    [GuestPort.ECHO, echoService],
    [GuestPort.FILE, fileService(knobs)],
    [GuestPort.LINE, lineService(knobs)],
  ]);
  const serviceOf = (connection: TcpConnection): Service =>
    byPort.get(connection.servicePort) ?? callerService;
  // A peer that has closed is closed to as soon as it has got every answer.
  const finishIdle = (stack: NetworkStack, connection: TcpConnection): void => {
    if (!connection.peerClosed || connection.finQueued) return;
    if (serviceOf(connection).idle(connection)) stack.finish(connection);
  };
  return {
    listens: (port) => byPort.has(port),
    connected: (stack, connection) => serviceOf(connection).connected?.(stack, connection),
    readable(stack, connection) {
      serviceOf(connection).readable(stack, connection);
      finishIdle(stack, connection);
    },
    writable(stack, connection) {
      serviceOf(connection).writable?.(stack, connection);
      finishIdle(stack, connection);
    },
    wake(stack, connection) {
      serviceOf(connection).wake?.(stack, connection);
      finishIdle(stack, connection);
    },
    peerClosed: finishIdle,
    closed: () => {},
    datagram: (stack, datagram) => byPort.get(datagram.localPort)?.datagram?.(stack, datagram),
    echoReply: () => {},
  };
}
