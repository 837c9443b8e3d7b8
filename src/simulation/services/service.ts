import type { Datagram, NetworkStack } from '../network-stack.js';
import type { TcpConnection } from '../tcp-state.js';

/**
 * One service of a guest. It holds nothing itself: what it knows of a connection is in `connection.app`, so
 * that a checkpoint copies it with the rest.
 */
export interface Service {
  readonly name: string;
  connected?(stack: NetworkStack, connection: TcpConnection): void;
  readable(stack: NetworkStack, connection: TcpConnection): void;
  writable?(stack: NetworkStack, connection: TcpConnection): void;
  wake?(stack: NetworkStack, connection: TcpConnection): void;
  /** Is every request answered and every byte written? A peer that has closed is then closed to as well. */
  idle(connection: TcpConnection): boolean;
  datagram?(stack: NetworkStack, datagram: Datagram): void;
}

/** How a guest's programs behave, beside what they answer. */
export interface ServiceKnobs {
  /** Time a request takes to answer: a fixed part and a random part on top, drawn from the VM's own entropy. */
  readonly thinkMs: number;
  readonly thinkJitterMs: number;
}

export const NO_KNOBS: ServiceKnobs = { thinkMs: 0, thinkJitterMs: 0 };

/** Longest request line any service reads. */
export const LINE_BYTES_MAX = 4096;

const LINE_FEED = 10;

/** Adds bytes to text that was begun and splits off whole lines. Null: a line is over the limit. */
export function splitLines(begun: string, bytes: Uint8Array): { lines: string[]; rest: string } | null {
  let text = begun;
  const lines: string[] = [];
  let from = 0;
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index] !== LINE_FEED) continue;
    text += Buffer.from(bytes.subarray(from, index)).toString('latin1');
    lines.push(text.endsWith('\r') ? text.slice(0, -1) : text);
    text = '';
    from = index + 1;
  }
  text += Buffer.from(bytes.subarray(from)).toString('latin1');
  return text.length > LINE_BYTES_MAX ? null : { lines, rest: text };
}

export function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'));
}
