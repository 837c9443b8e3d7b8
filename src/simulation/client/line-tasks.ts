import { GuestPort } from '../guest.js';
import type { NetworkStack } from '../network-stack.js';
import { SAID_BYTES_KEPT } from '../services/line-service.js';
import { bytesOf, splitLines } from '../services/service.js';
import type { TcpConnection } from '../tcp-state.js';
import { ClientTask } from './task.js';

/** A conversation in lines: one request, its answer, the next request. */
export abstract class LineTask extends ClientTask {
  readonly connection: TcpConnection;
  /** The last bytes heard on `connection`. */
  heardLast = '';
  #begun = '';
  #ending = false;

  constructor(name: string, stack: NetworkStack, server: Uint8Array) {
    super(name, stack);
    this.connection = stack.connect(server, GuestPort.LINE, this);
    this.await();
  }

  /** What is wrong with this answer, or null. */
  protected abstract check(line: string): string | null;
  /** What follows a right answer. */
  protected abstract next(): void;

  protected ask(request: string): void {
    this.await();
    this.stack.write(this.connection, bytesOf(`${request}\n`));
  }

  protected hangUp(): void {
    this.#ending = true;
    this.stack.finish(this.connection);
  }

  override readable(connection: TcpConnection): void {
    const bytes = this.stack.read(connection);
    this.bytes += bytes.length;
    this.heardLast = (this.heardLast + Buffer.from(bytes).toString('latin1')).slice(-SAID_BYTES_KEPT);
    const split = splitLines(this.#begun, bytes);
    if (split === null) {
      this.end('an endless line');
      return;
    }
    this.#begun = split.rest;
    for (const line of split.lines) {
      this.arrived(false);
      const problem = this.check(line);
      if (problem !== null) {
        this.end(problem);
        this.stack.abort(connection);
        return;
      }
      this.answers++;
      this.next();
    }
  }

  override peerClosed(connection: TcpConnection): void {
    super.peerClosed(connection);
    this.end(this.#ending ? null : 'the guest closed the connection');
  }
}

/**
 * Counts on one connection: every answer must be the number after the last one, whatever happens to the VMs.
 * Ends after `requests` answers, or when told to `stop`.
 */
export class Counter extends LineTask {
  readonly #requests: number;
  readonly #everyMs: number;
  #stopping = false;

  constructor(stack: NetworkStack, server: Uint8Array, requests: number, everyMs: number) {
    super('counter', stack, server);
    this.#requests = requests;
    this.#everyMs = everyMs;
  }

  /** Hangs up after the answer that is due. */
  stop(): void {
    this.#stopping = true;
  }

  override connected(): void {
    this.ask('inc');
  }

  override wake(): void {
    if (this.#stopping) this.hangUp();
    else this.ask('inc');
  }

  protected override check(line: string): string | null {
    const expected = `counter=${this.answers + 1}`;
    return line === expected ? null : `got ${JSON.stringify(line)} instead of ${expected}`;
  }

  protected override next(): void {
    if (this.answers >= this.#requests || this.#stopping) this.hangUp();
    else this.stack.wakeAfter(this.connection, this.#everyMs);
  }
}

/** Asks for what two VMs answer differently. Any well-formed answer is right; `answer` tells which it was. */
export class DivergentRequest extends LineTask {
  readonly #what: 'rand' | 'time';
  answer = '';

  constructor(stack: NetworkStack, server: Uint8Array, what: 'rand' | 'time') {
    super(`divergent ${what}`, stack, server);
    this.#what = what;
  }

  override connected(): void {
    this.ask(this.#what);
  }

  protected override check(line: string): string | null {
    const form = this.#what === 'rand' ? /^rand=[0-9a-f]{16}$/ : /^time=[0-9]+\.[0-9]{3}$/;
    if (!form.test(line)) return `got ${JSON.stringify(line)}`;
    this.answer = line;
    return null;
  }

  protected override next(): void {
    this.hangUp();
  }
}

/** Has the guest open a connection to this client, greets back and checks the echo. */
export class CallBack extends LineTask {
  readonly #port: number;
  #heard = '';
  #heardAll = false;

  constructor(stack: NetworkStack, server: Uint8Array, port: number) {
    super('call back', stack, server);
    this.#port = port;
  }

  override connected(connection: TcpConnection): void {
    if (connection === this.connection) this.ask(`call ${this.#port}`);
  }

  /** The guest's connection arrived; from here it is this task's. */
  adopt(connection: TcpConnection): void {
    connection.app = this;
    this.arrived(false);
    this.await();
    this.stack.write(connection, bytesOf('good day\n'));
  }

  override readable(connection: TcpConnection): void {
    if (connection === this.connection) {
      super.readable(connection);
      return;
    }
    const bytes = this.stack.read(connection);
    this.bytes += bytes.length;
    this.#heard += Buffer.from(bytes).toString('latin1');
    const expected = 'hello from the guest, call 1\ngood day\n';
    if (!expected.startsWith(this.#heard)) this.end(`heard ${JSON.stringify(this.#heard)}`);
    if (this.#heard !== expected) return;
    this.#heardAll = true;
    this.arrived(false);
    this.stack.finish(connection);
    this.hangUp();
  }

  protected override check(line: string): string | null {
    return line === `calling ${this.#port}` ? null : `got ${JSON.stringify(line)}`;
  }

  protected override next(): void {
    this.await();
  }

  /** Both connections end, in either order. */
  override peerClosed(connection: TcpConnection): void {
    if (this.#heardAll) super.peerClosed(connection);
    else this.end('the guest closed a connection');
  }
}
