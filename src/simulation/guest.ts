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
  readonly tcp?: Partial<TcpOptions>;
  readonly services?: Partial<ServiceKnobs>;
  readonly lagMs?: number;
  readonly lagJitterMs?: number;
  readonly clockRate?: number;
  readonly ipId?: () => number;
}

/** What runs in a scripted VM: a network stack with a few services, whose whole state can be copied. */
export class Guest {
  readonly stack: NetworkStack;

  constructor(options: GuestOptions) {
    const knobs = { ...NO_KNOBS, ...options.services };
    this.stack = new NetworkStack({ ...options, application: guestApplication(knobs) });
  }

  /** The whole state at this instant: what a checkpoint carries. Only while stopped. */
  snapshot(): Buffer {
    return serialize(this.stack.state);
  }

  /** Goes on from a snapshot; everything this guest knew is gone. Only while stopped. */
  restore(snapshot: Uint8Array): void {
    this.stack.load(deserialize(snapshot) as StackState);
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
