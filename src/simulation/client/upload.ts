import { fileBytes, firstWrongByte } from '../content.js';
import { GuestPort } from '../guest.js';
import type { NetworkStack } from '../network-stack.js';
import type { TcpConnection } from '../tcp-state.js';
import { ClientTask } from './task.js';

const PIECE_BYTES = 8 * 1024;

/** Sends bytes to the guest's echo service and compares what comes back: a byte that was acknowledged and lost shows. */
export class Upload extends ClientTask {
  readonly #name: string;
  readonly #totalBytes: number;
  #written = 0;

  constructor(stack: NetworkStack, server: Uint8Array, name: string, totalBytes: number) {
    super(`upload ${name} of ${totalBytes} bytes`, stack);
    this.#name = name;
    this.#totalBytes = totalBytes;
    stack.connect(server, GuestPort.ECHO, this);
    this.await();
  }

  override connected(connection: TcpConnection): void {
    this.#pump(connection);
  }

  override writable(connection: TcpConnection): void {
    this.#pump(connection);
  }

  override readable(connection: TcpConnection): void {
    const echoed = this.stack.read(connection);
    const wrong = firstWrongByte(this.#name, this.bytes, echoed);
    if (wrong >= 0) {
      this.end(`echoed byte ${wrong} is wrong`);
      this.stack.abort(connection);
      return;
    }
    this.bytes += echoed.length;
    if (this.bytes > this.#totalBytes) this.end('more bytes came back than were sent');
    const more = this.bytes < this.#totalBytes;
    this.arrived(more);
    if (more || this.answers === 1) return;
    this.answers = 1;
    this.stack.finish(connection);
  }

  override peerClosed(connection: TcpConnection): void {
    super.peerClosed(connection);
    const all = this.bytes === this.#totalBytes;
    this.end(all ? null : `closed after ${this.bytes} of ${this.#totalBytes} bytes`);
  }

  #pump(connection: TcpConnection): void {
    while (this.#written < this.#totalBytes) {
      const room = this.stack.writableBytes(connection);
      const length = Math.min(PIECE_BYTES, this.#totalBytes - this.#written, room);
      if (length === 0) return;
      const from = this.#written;
      this.#written += length; // before the write: it may come back here at once
      this.stack.write(connection, fileBytes(this.#name, from, length));
    }
  }
}
