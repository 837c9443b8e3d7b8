/** A program that runs beside the laboratory until it is ended: only processes started here are ever signalled. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';

export class Child {
  /** @type {number | null} */
  exitCode = null;
  /** @type {string | null} */
  signal = null;
  #process;

  /**
   * @param {string} name for messages
   * @param {string[]} command program and arguments
   * @param {{logFile: string, ipc?: boolean}} options standard output and error go to `logFile`
   */
  constructor(name, command, { logFile, ipc = false }) {
    this.name = name;
    this.logFile = logFile;
    const log = fs.openSync(logFile, 'a');
    const [program, ...args] = command;
    this.#process = spawn(program, args, { stdio: ['ignore', log, log, ...(ipc ? ['ipc'] : [])] });
    fs.closeSync(log);
    this.ended = new Promise((resolve) => {
      this.#process.once('error', (error) => {
        fs.appendFileSync(logFile, `${error.message}\n`);
        this.exitCode = 127;
        resolve();
      });
      this.#process.once('exit', (code, signal) => {
        this.exitCode = code;
        this.signal = signal;
        resolve();
      });
    });
  }

  get pid() {
    return this.#process.pid;
  }

  get process() {
    return this.#process;
  }

  get isRunning() {
    return this.exitCode === null && this.signal === null;
  }

  /** @param {NodeJS.Signals} signal */
  kill(signal) {
    if (this.isRunning) this.#process.kill(signal);
  }

  /** Asks, then insists. */
  async stop(signal = 'SIGTERM', msMax = 5000) {
    if (!this.isRunning) return;
    this.kill(signal);
    const timer = setTimeout(() => this.kill('SIGKILL'), msMax);
    await this.ended;
    clearTimeout(timer);
  }

  logText() {
    return fs.readFileSync(this.logFile, 'utf8');
  }
}
