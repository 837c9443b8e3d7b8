/** A program that runs beside the laboratory until it is ended: only processes started here are ever signalled. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { sleep } from './command.mjs';

const LOOK_MS = 20;

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

/** A process that a child of ours has started in its own place; only that it is there can be seen of it. */
export class SuccessorOfChild {
  /** @type {number | null} 0 when its log says that it stopped in order */
  exitCode = null;
  signal = null;

  constructor(pid, logFile) {
    this.pid = pid;
    this.logFile = logFile;
  }

  get isRunning() {
    try {
      return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${this.pid}/status`, 'latin1'));
    } catch {
      return false;
    }
  }

  kill(signal) {
    if (this.isRunning) process.kill(this.pid, signal);
  }

  get ended() {
    return this.#end(Number.POSITIVE_INFINITY);
  }

  async #end(msMax) {
    const endMs = performance.now() + msMax;
    while (this.isRunning && performance.now() < endMs) await sleep(LOOK_MS);
    if (!this.isRunning) this.exitCode ??= /"msg":"stopped"/.test(this.logText()) ? 0 : 1;
  }

  async stop(signal = 'SIGTERM', msMax = 5000) {
    this.kill(signal);
    await this.#end(msMax);
    this.kill('SIGKILL');
  }

  logText() {
    return fs.readFileSync(this.logFile, 'utf8');
  }
}
