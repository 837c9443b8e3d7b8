/** Progress of work that may take long, on the error output: nothing when it is short, else a line now and again. */
import type { Clock } from '../system/clock.js';
import { bytesText } from './status-text.js';

const EVERY_MS = 2000;

export interface ProgressOptions {
  /** `replay`. */
  readonly what: string;
  /** 0: not known. */
  readonly totalBytes: number;
  readonly clock: Clock;
  readonly out: (text: string) => void;
}

export class Progress {
  readonly #options: ProgressOptions;
  readonly #beganMs: number;
  #toldMs: number;
  #doneBytes = 0;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#beganMs = options.clock.now();
    this.#toldMs = this.#beganMs;
  }

  done(bytes: number): void {
    this.#doneBytes += bytes;
    const { clock, out } = this.#options;
    const nowMs = clock.now();
    if (nowMs - this.#toldMs < EVERY_MS) return;
    this.#toldMs = nowMs;
    out(`${this.#text(nowMs - this.#beganMs)}\n`);
  }

  #text(elapsedMs: number): string {
    const { what, totalBytes } = this.#options;
    if (totalBytes === 0) return `${what}: ${bytesText(this.#doneBytes)}`;
    const share = Math.min(1, this.#doneBytes / totalBytes);
    const leftSeconds = Math.round((elapsedMs * (1 - share)) / share / 1000);
    return `${what}: ${Math.floor(share * 100)} % of ${bytesText(totalBytes)}, about ${leftSeconds} s left`;
  }
}
