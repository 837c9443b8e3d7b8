import { fileBytes, fileSizeBytes } from '../content.js';
import type { NetworkStack } from '../network-stack.js';
import type { TcpConnection } from '../tcp-state.js';
import type { RequestQueue } from './request-queue.js';
import { newRequestQueue, takeLines, think, thinks } from './request-queue.js';
import type { Service, ServiceKnobs } from './service.js';
import { bytesOf } from './service.js';

interface FileApp extends RequestQueue {
  service: 'file';
  /** The file being sent and how far; null between requests. */
  sending: { name: string; offset: number; bytes: number } | null;
}

/** Bytes made at a time, so that a slow client does not make the guest hold a whole file. */
const PIECE_BYTES = 16 * 1024;

/**
 * HTTP/1.1 as far as a download needs it: `GET /NAME-BYTES.bin` answers bytes computed from the name;
 * `GET /rand` and `GET /time` answer what differs between two VMs.
 */
export function fileService(knobs: ServiceKnobs): Service {
  return {
    name: 'file',
    connected(_stack, connection) {
      connection.app = { service: 'file', ...newRequestQueue(), sending: null } satisfies FileApp;
    },
    readable(stack, connection) {
      const app = connection.app as FileApp;
      if (app.broken) return;
      if (!takeLines(stack, connection, app)) {
        stack.write(connection, response('400 Bad Request', 'the request is too long\n'));
        stack.finish(connection);
      } else if (app.sending === null && hasRequest(app)) {
        if (thinks(knobs)) think(stack, connection, knobs);
        else answer(stack, connection, app);
      }
    },
    wake(stack, connection) {
      answer(stack, connection, connection.app as FileApp);
    },
    writable(stack, connection) {
      const app = connection.app as FileApp;
      pump(stack, connection, app);
      if (app.sending === null && hasRequest(app)) {
        if (thinks(knobs)) think(stack, connection, knobs);
        else answer(stack, connection, app);
      }
    },
    idle(connection) {
      const app = connection.app as FileApp;
      return app.sending === null && !hasRequest(app);
    },
  };
}

/** A request is whole when its empty line has come. */
function hasRequest(app: FileApp): boolean {
  return app.lines.includes('');
}

function answer(stack: NetworkStack, connection: TcpConnection, app: FileApp): void {
  while (app.sending === null && hasRequest(app)) {
    const request = app.lines.splice(0, app.lines.indexOf('') + 1)[0] ?? '';
    const path = /^GET (\/[\x21-\x7e]*) HTTP\/1\.[01]$/.exec(request)?.[1];
    if (path === undefined) {
      stack.write(connection, response('400 Bad Request', 'GET only\n'));
      app.broken = true;
      stack.finish(connection);
      return;
    }
    if (path === '/rand') stack.write(connection, response('200 OK', `${randomText(stack)}\n`));
    else if (path === '/time') stack.write(connection, response('200 OK', `${stack.nowMs().toFixed(3)}\n`));
    else if (!path.endsWith('.bin')) stack.write(connection, response('404 Not Found', 'no such file\n'));
    else startFile(stack, connection, app, path.slice(1));
  }
}

function startFile(stack: NetworkStack, connection: TcpConnection, app: FileApp, name: string): void {
  app.sending = { name, offset: 0, bytes: fileSizeBytes(name) };
  stack.write(connection, header('200 OK', app.sending.bytes));
  pump(stack, connection, app);
}

/** Keeps the send buffer filled. */
function pump(stack: NetworkStack, connection: TcpConnection, app: FileApp): void {
  while (app.sending !== null) {
    const { name, offset, bytes } = app.sending;
    const length = Math.min(PIECE_BYTES, bytes - offset, stack.writableBytes(connection));
    if (length === 0 && offset < bytes) return;
    // Advanced before the write: it may send, be acknowledged and come back here at once.
    app.sending = offset + length === bytes ? null : { name, offset: offset + length, bytes };
    if (length > 0) stack.write(connection, fileBytes(name, offset, length));
  }
}

function header(status: string, bytes: number): Uint8Array {
  return bytesOf(
    `HTTP/1.1 ${status}\r\nContent-Type: application/octet-stream\r\nContent-Length: ${bytes}\r\n\r\n`,
  );
}

function response(status: string, body: string): Uint8Array {
  return Buffer.concat([header(status, body.length), bytesOf(body)]);
}

/** 16 hex digits of the VM's own entropy. */
export function randomText(stack: NetworkStack): string {
  const half = (): string => stack.random32().toString(16).padStart(8, '0');
  return half() + half();
}
