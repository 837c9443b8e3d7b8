import { fileSizeBytes, firstWrongByte } from '../content.js';
import { GuestPort } from '../guest.js';
import type { NetworkStack } from '../network-stack.js';
import { bytesOf } from '../services/service.js';
import type { TcpConnection } from '../tcp-state.js';
import { ClientTask } from './task.js';

const HEADER_BYTES_MAX = 1024;

/** Fetches one file and compares every byte with what the file's name says it must be. */
export class Download extends ClientTask {
  readonly #file: string;
  readonly #fileBytes: number;
  #header = '';
  #inBody = false;

  constructor(stack: NetworkStack, server: Uint8Array, file: string) {
    super(`GET /${file}`, stack);
    this.#file = file;
    this.#fileBytes = fileSizeBytes(file);
    stack.connect(server, GuestPort.FILE, this);
    this.await();
  }

  override connected(connection: TcpConnection): void {
    this.stack.write(connection, bytesOf(`GET /${this.#file} HTTP/1.1\r\nHost: guest\r\n\r\n`));
  }

  override readable(connection: TcpConnection): void {
    let body = this.stack.read(connection);
    if (!this.#inBody) {
      const rest = this.#readHeader(body);
      if (rest === null) return;
      body = rest;
    }
    const wrong = firstWrongByte(this.#file, this.bytes, body);
    if (wrong >= 0) this.#fail(connection, `byte ${wrong} is wrong`);
    else if (this.bytes + body.length > this.#fileBytes)
      this.#fail(connection, 'more bytes than the file has');
    this.bytes += body.length;
    const more = this.bytes < this.#fileBytes;
    this.arrived(more);
    if (more || this.report !== null) return;
    this.answers = 1;
    this.stack.finish(connection);
  }

  override peerClosed(connection: TcpConnection): void {
    super.peerClosed(connection);
    this.end(this.bytes === this.#fileBytes ? null : `ended after ${this.bytes} of ${this.#fileBytes} bytes`);
  }

  /** Returns what of `bytes` belongs to the body, or null while the header is not whole. */
  #readHeader(bytes: Uint8Array): Uint8Array | null {
    this.#header += Buffer.from(bytes).toString('latin1');
    const end = this.#header.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.#header.length > HEADER_BYTES_MAX) this.end('the answer has no end of header');
      return null;
    }
    this.#inBody = true;
    const expected = `HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${this.#fileBytes}`;
    if (this.#header.slice(0, end) !== expected) {
      this.end(`unexpected header: ${JSON.stringify(this.#header.slice(0, end))}`);
    }
    return bytesOf(this.#header.slice(end + 4));
  }

  #fail(connection: TcpConnection, problem: string): void {
    this.end(problem);
    this.stack.abort(connection);
  }
}
