import type { NetworkStack } from '../network-stack.js';
import { Counter } from './line-tasks.js';
import { ClientTask } from './task.js';

/** Opens, asks once, closes; then the next. Each connection must begin to count at 1. */
export class ShortConnections extends ClientTask {
  readonly #server: Uint8Array;
  readonly #count: number;

  constructor(stack: NetworkStack, server: Uint8Array, count: number) {
    super('short connections', stack);
    this.#server = server;
    this.#count = count;
    this.#next();
  }

  #next(): void {
    this.await();
    const one = new Counter(this.stack, this.#server, 1, 0);
    void one.done.then(({ bytes, answers, problem }) => {
      this.bytes += bytes;
      this.answers += answers;
      this.arrived(false);
      if (problem !== null) this.end(`connection ${this.answers + 1}: ${problem}`);
      else if (this.answers === this.#count) this.end(null);
      else this.#next();
    });
  }
}
