import type { Clock } from '../../system/clock.js';
import type { HostAddresses } from '../neighbour-table.js';
import type { Application } from '../network-stack.js';
import { NetworkStack } from '../network-stack.js';
import type { Random } from '../random.js';
import type { TcpConnection, TcpOptions } from '../tcp-state.js';
import type { ProbeOptions } from './datagram-tasks.js';
import { Ping, UdpEcho } from './datagram-tasks.js';
import { Download } from './download.js';
import { CallBack, Counter, DivergentRequest } from './line-tasks.js';
import { ShortConnections } from './short-connections.js';
import { ClientTask } from './task.js';
import { Upload } from './upload.js';

export interface ClientOptions {
  readonly addresses: HostAddresses;
  readonly clock: Clock;
  readonly random: Random;
  readonly transmit: (frame: Buffer) => void;
  readonly tcp?: Partial<TcpOptions>;
}

/** A machine on the network that uses the guest's services and checks everything it gets. */
export class Client {
  readonly stack: NetworkStack;
  readonly #clock: Clock;
  readonly #byUdpPort = new Map<number, UdpEcho>();
  readonly #byIdentifier = new Map<number, Ping>();
  /** Tasks that wait for the guest to call, by port. */
  readonly #byCalledPort = new Map<number, CallBack>();
  #port = 20_000;

  constructor(options: ClientOptions) {
    this.#clock = options.clock;
    this.stack = new NetworkStack({ ...options, application: this.#application() });
    this.stack.start();
  }

  close(): void {
    this.stack.stop();
  }

  download(server: Uint8Array, file: string): Download {
    return new Download(this.stack, server, file);
  }

  upload(server: Uint8Array, name: string, bytes: number): Upload {
    return new Upload(this.stack, server, name, bytes);
  }

  count(server: Uint8Array, requests: number, everyMs: number): Counter {
    return new Counter(this.stack, server, requests, everyMs);
  }

  /** Many connections one after the other, each with one request. */
  shortConnections(server: Uint8Array, count: number): ShortConnections {
    return new ShortConnections(this.stack, server, count);
  }

  divergent(server: Uint8Array, what: 'rand' | 'time'): DivergentRequest {
    return new DivergentRequest(this.stack, server, what);
  }

  callBack(server: Uint8Array): CallBack {
    const port = this.#port++;
    const task = new CallBack(this.stack, server, port);
    this.#byCalledPort.set(port, task);
    return task;
  }

  udpEcho(server: Uint8Array, probes: ProbeOptions): UdpEcho {
    const task = new UdpEcho(this.stack, this.#clock, server, this.#port++, probes);
    this.#byUdpPort.set(task.port, task);
    return task.begin();
  }

  ping(server: Uint8Array, probes: ProbeOptions): Ping {
    const task = new Ping(this.stack, this.#clock, server, this.#port++, probes);
    this.#byIdentifier.set(task.identifier, task);
    return task.begin();
  }

  #application(): Application {
    const taskOf = (connection: TcpConnection): ClientTask | null =>
      connection.app instanceof ClientTask ? connection.app : null;
    return {
      listens: (port) => this.#byCalledPort.has(port),
      connected: (_stack, connection) => {
        const called = this.#byCalledPort.get(connection.servicePort);
        if (called === undefined) taskOf(connection)?.connected(connection);
        else called.adopt(connection);
      },
      readable: (_stack, connection) => taskOf(connection)?.readable(connection),
      writable: (_stack, connection) => taskOf(connection)?.writable(connection),
      wake: (_stack, connection) => taskOf(connection)?.wake(connection),
      peerClosed: (stack, connection) => {
        const task = taskOf(connection);
        if (task === null) stack.finish(connection);
        else task.peerClosed(connection);
      },
      closed: (_stack, connection, reason) => taskOf(connection)?.closed(connection, reason),
      datagram: (_stack, datagram) => this.#byUdpPort.get(datagram.localPort)?.datagram(datagram),
      echoReply: (_stack, _remote, identifier, sequence) =>
        this.#byIdentifier.get(identifier)?.echoReply(sequence),
    };
  }
}
