import type { NetworkStack } from '../network-stack.js';
import type { CloseReason, TcpConnection } from '../tcp-state.js';

/** What a task of a scripted client did, and what was wrong with what it got. */
export interface TaskReport {
  readonly name: string;
  /** Bytes received and compared with what they had to be. */
  readonly bytes: number;
  /** Requests answered rightly, or datagrams that came back. */
  readonly answers: number;
  /** Requests without an answer. */
  readonly lost: number;
  /** Longest time without a byte while some were due, in the client's milliseconds. */
  readonly gapMsMax: number;
  readonly durationMs: number;
  /** The first thing that was wrong; null when nothing was. */
  readonly problem: string | null;
}

/** One thing a client does: it asks, checks every byte it gets, and reports once. */
export abstract class ClientTask {
  readonly name: string;
  readonly stack: NetworkStack;
  /** Resolves with the report; never rejects. */
  readonly done: Promise<TaskReport>;
  protected bytes = 0;
  protected answers = 0;
  protected lost = 0;
  #report: TaskReport | null = null;
  #resolve: (report: TaskReport) => void = () => {};
  readonly #startedAtMs: number;
  #waitingSinceMs = -1;
  #gapMsMax = 0;

  constructor(name: string, stack: NetworkStack) {
    this.name = name;
    this.stack = stack;
    this.#startedAtMs = stack.nowMs();
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Set when the task has ended. */
  get report(): TaskReport | null {
    return this.#report;
  }

  /** How far it is, while it runs. */
  get progress(): { bytes: number; answers: number } {
    return { bytes: this.bytes, answers: this.answers };
  }

  connected(_connection: TcpConnection): void {}
  readable(_connection: TcpConnection): void {}
  writable(_connection: TcpConnection): void {}
  wake(_connection: TcpConnection): void {}
  peerClosed(connection: TcpConnection): void {
    this.stack.finish(connection);
  }
  closed(_connection: TcpConnection, reason: CloseReason): void {
    if (reason !== 'finished') this.end(`the connection was ${reason}`);
  }

  /** Something is due from now on. */
  protected await(): void {
    if (this.#waitingSinceMs < 0) this.#waitingSinceMs = this.stack.nowMs();
  }

  /** Something came; `more` says whether more is due. */
  protected arrived(more: boolean): void {
    if (this.#waitingSinceMs < 0) return;
    const nowMs = this.stack.nowMs();
    this.#gapMsMax = Math.max(this.#gapMsMax, nowMs - this.#waitingSinceMs);
    this.#waitingSinceMs = more ? nowMs : -1;
  }

  protected end(problem: string | null): void {
    if (this.#report !== null) return;
    this.#report = {
      name: this.name,
      bytes: this.bytes,
      answers: this.answers,
      lost: this.lost,
      gapMsMax: this.#gapMsMax,
      durationMs: this.stack.nowMs() - this.#startedAtMs,
      problem,
    };
    this.#resolve(this.#report);
  }
}
