import type { NetworkStack } from '../network-stack.js';
import type { TcpConnection } from '../tcp-state.js';
import type { ServiceKnobs } from './service.js';
import { splitLines } from './service.js';

/** Requests of one connection: lines that came and are answered one after the other. */
export interface RequestQueue {
  begun: string;
  lines: string[];
  /** Over-long input: nothing more is read from this connection. */
  broken: boolean;
}

const LINES_MAX = 1024;

export function newRequestQueue(): RequestQueue {
  return { begun: '', lines: [], broken: false };
}

/** Reads what has arrived. False when the peer sent what no service reads; the caller ends the connection. */
export function takeLines(stack: NetworkStack, connection: TcpConnection, queue: RequestQueue): boolean {
  const split = splitLines(queue.begun, stack.read(connection));
  if (split === null || queue.lines.length + split.lines.length > LINES_MAX) {
    queue.broken = true;
    return false;
  }
  queue.begun = split.rest;
  queue.lines.push(...split.lines);
  return true;
}

/** Has the next request answered after the service's think time; `wake` is called then. */
export function think(stack: NetworkStack, connection: TcpConnection, knobs: ServiceKnobs): void {
  if (connection.wakeAtMs !== Number.POSITIVE_INFINITY) return;
  stack.wakeAfter(connection, knobs.thinkMs + stack.random() * knobs.thinkJitterMs);
}

/** Does the service think at all? Without, it answers in the same instant. */
export function thinks(knobs: ServiceKnobs): boolean {
  return knobs.thinkMs > 0 || knobs.thinkJitterMs > 0;
}
