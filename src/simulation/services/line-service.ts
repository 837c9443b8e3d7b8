import type { NetworkStack } from '../network-stack.js';
import type { TcpConnection } from '../tcp-state.js';
import { randomText } from './file-service.js';
import type { RequestQueue } from './request-queue.js';
import { newRequestQueue, takeLines, think, thinks } from './request-queue.js';
import type { Service, ServiceKnobs } from './service.js';
import { bytesOf } from './service.js';

/** What is remembered of the answers, so that it can be seen which of them this copy of the guest gave. */
export const SAID_BYTES_KEPT = 256;

export interface LineApp extends RequestQueue {
  service: 'line';
  counter: number;
  /** Bytes said so far, and the last of them. */
  saidBytes: number;
  saidLast: string;
}

/**
 * One line asks, one line answers: `inc` counts on this connection, `rand` and `time` differ between two VMs,
 * `call PORT` makes the guest open a connection to the asker's address.
 */
export function lineService(knobs: ServiceKnobs): Service {
  return {
    name: 'line',
    connected(_stack, connection) {
      connection.app = {
        service: 'line',
        ...newRequestQueue(),
        counter: 0,
        saidBytes: 0,
        saidLast: '',
      } satisfies LineApp;
    },
    readable(stack, connection) {
      const app = connection.app as LineApp;
      if (app.broken) return;
      if (!takeLines(stack, connection, app)) {
        stack.write(connection, bytesOf('error: the line is too long\n'));
        stack.finish(connection);
      } else if (thinks(knobs)) {
        if (app.lines.length > 0) think(stack, connection, knobs);
      } else {
        while (app.lines.length > 0) answer(stack, connection, app);
      }
    },
    wake(stack, connection) {
      const app = connection.app as LineApp;
      answer(stack, connection, app);
      if (app.lines.length > 0) think(stack, connection, knobs);
    },
    idle: (connection) => (connection.app as LineApp).lines.length === 0,
  };
}

function answer(stack: NetworkStack, connection: TcpConnection, app: LineApp): void {
  const line = app.lines.shift();
  if (line === undefined) return;
  const said = `${reply(stack, connection, app, line)}\n`;
  app.saidBytes += said.length;
  app.saidLast = (app.saidLast + said).slice(-SAID_BYTES_KEPT);
  stack.write(connection, bytesOf(said));
}

function reply(stack: NetworkStack, connection: TcpConnection, app: LineApp, line: string): string {
  if (line === 'inc') return `counter=${++app.counter}`;
  if (line === 'rand') {
    const answer = `rand=${randomText(stack)}`;
    stack.state.services.lastRandom = answer; // what this copy said: the other one says something else
    return answer;
  }
  if (line === 'time') return `time=${stack.nowMs().toFixed(3)}`;
  const port = /^call ([1-9][0-9]{0,4})$/.exec(line)?.[1];
  if (port !== undefined && Number(port) <= 65_535) {
    stack.connect(connection.remote, Number(port), { service: 'caller', calls: ++app.counter });
    return `calling ${port}`;
  }
  return 'error: inc, rand, time or call PORT';
}
