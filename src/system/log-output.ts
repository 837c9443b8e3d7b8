import { constants, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { Clock, Timer } from './clock.js';

/** Lines that wait for a reader who does not keep up, or for room on a disk. Beyond it a line is left out and counted. */
export const LOG_WAITING_BYTES_MAX = 1024 * 1024;
/** Written at once of what waits, so that frames get their turn between. */
const BYTES_PER_TURN_MAX = 64 * 1024;
const NEXT_TURN_MS = 1;
const RETRY_MS = 100;

/**
 * Where log lines go: whole, in order, and at once as long as they are taken. Never makes its caller wait, and never
 * throws: nothing that becomes of the log (a full pipe, a reader who is gone, a full disk) may touch the service.
 */
export class LogOutput {
  readonly #fd: number;
  readonly #clock: Clock;
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #retry: Timer | undefined;
  #leftOut = 0;
  #whenEmpty: (() => void)[] = [];
  /** Lines left out since the start. */
  linesLeftOut = 0;
  /** Lines were left out, and they are taken again. */
  tellLeftOut: (lines: number) => void = () => {};

  /** `fd`: does not block, or is a file's. */
  constructor(fd: number, clock: Clock) {
    this.#fd = fd;
    this.#clock = clock;
  }

  /** `line` ends with a line feed. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    const taken = this.#waitingBytes === 0 ? this.#put(bytes) : 0;
    if (taken === bytes.length) return;
    if (taken === 0 && this.#waitingBytes + bytes.length > LOG_WAITING_BYTES_MAX) {
      this.#leftOut += 1;
      this.linesLeftOut += 1;
      return;
    }
    this.#waiting.push(bytes.subarray(taken));
    this.#waitingBytes += bytes.length - taken;
    this.#tryAgain(RETRY_MS);
  }

  /** Resolves when everything is written, or after `msMax`. */
  async end(msMax: number): Promise<void> {
    if (this.#waitingBytes === 0) return;
    await new Promise<void>((resolve) => {
      this.#whenEmpty.push(resolve);
      this.#clock.after(msMax, resolve);
    });
  }

  #put(bytes: Buffer): number {
    try {
      return writeSync(this.#fd, bytes);
    } catch {
      return 0; // whatever it is, it may pass
    }
  }

  #tryAgain(afterMs: number): void {
    this.#retry ??= this.#clock.after(afterMs, () => {
      this.#retry = undefined;
      this.#writeSome();
    });
  }

  #writeSome(): void {
    const waiting = this.#waiting;
    let count = 1;
    for (let bytes = waiting[0]!.length; count < waiting.length; count += 1) {
      bytes += waiting[count]!.length;
      if (bytes > BYTES_PER_TURN_MAX) break;
    }
    const some = Buffer.concat(waiting.slice(0, count));
    const taken = this.#put(some);
    this.#waitingBytes -= taken;
    waiting.splice(0, count, ...(taken < some.length ? [some.subarray(taken)] : []));
    if (this.#waitingBytes > 0) {
      this.#tryAgain(taken < some.length ? RETRY_MS : NEXT_TURN_MS);
      return;
    }
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    if (leftOut > 0) this.tellLeftOut(leftOut);
    for (const resolve of this.#whenEmpty.splice(0)) resolve();
  }
}

/** To standard output. */
export function standardOutput(clock: Clock): LogOutput {
  // Asking for process.stdout is what makes pipes and sockets non-blocking.
  const { fd } = process.stdout;
  return new LogOutput(isatty(fd) ? ownTerminal(fd) : fd, clock);
}

/** A terminal may be stopped by hand (Ctrl-S). Others that write to it expect it to block: it is opened once more. */
function ownTerminal(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return fd; // another user's: it blocks
  }
}
