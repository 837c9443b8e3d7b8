/** The laboratory's own view of a QEMU: a second monitor beside the proxy's, so that it sees what QEMU itself says. */
import net from 'node:net';
import readline from 'node:readline';
import { until } from './command.mjs';

const COMMAND_MS_MAX = 20_000;

export class Monitor {
  /** @type {{name: string, data: object, atMs: number}[]} every event, with QEMU's own time since 1970 */
  events = [];
  closed = false;
  #waiting = new Map();
  #nextId = 0;
  #socket;

  /** @param {string} path */
  static async connect(path, msMax = 10_000) {
    const socket = await until(`QMP at ${path}`, msMax, () => tryConnect(path));
    const monitor = new Monitor(socket);
    await monitor.execute('qmp_capabilities');
    return monitor;
  }

  constructor(socket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('close', () => this.#ended());
    const lines = readline.createInterface({ input: socket });
    lines.on('line', (line) => this.#take(JSON.parse(line)));
    lines.on('error', () => {}); // it repeats the socket's
  }

  /** @returns {Promise<any>} QEMU's answer; rejects with its error text */
  execute(command, args) {
    const id = ++this.#nextId;
    return new Promise((resolve, reject) => {
      if (this.closed) return reject(new Error(`${command}: the monitor is closed`));
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`${command}: no answer within ${COMMAND_MS_MAX} ms`));
      }, COMMAND_MS_MAX);
      this.#waiting.set(id, { command, resolve, reject, timer });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  countOf(eventName) {
    return this.events.filter(({ name }) => name === eventName).length;
  }

  close() {
    this.#socket.destroy();
  }

  #take(message) {
    if (message.event) {
      const { seconds, microseconds } = message.timestamp;
      this.events.push({
        name: message.event,
        data: message.data ?? {},
        atMs: seconds * 1000 + microseconds / 1000,
      });
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return; // the greeting
    this.#waiting.delete(message.id);
    clearTimeout(waiting.timer);
    if (message.error) waiting.reject(new Error(`${waiting.command}: ${message.error.desc}`));
    else waiting.resolve(message.return);
  }

  #ended() {
    this.closed = true;
    for (const { command, reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Error(`${command}: the monitor closed`));
    }
    this.#waiting.clear();
  }
}

function tryConnect(path) {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(undefined));
  });
}
