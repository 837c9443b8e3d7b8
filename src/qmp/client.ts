/**
 * A QMP client that stays: it connects, and connects again for ever with growing pauses, and tells a dead
 * process from a lost connection. Losing QMP never ends the proxy.
 */
import { asColoError, ColoError } from '../errors.js';
import { type Address, showAddress, type Transport } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';
import { type Log, silentLog } from '../system/log.js';
import { socketTransport } from '../system/socket-channel.js';
import type { QmpObject } from './framing.js';
import { type ExecuteOptions, type QmpGreeting, type QmpLimits, QmpSession } from './session.js';

export type { ExecuteOptions, QmpGreeting, QmpVersion } from './session.js';

/** `waiting`: between two attempts. `ready`: commands may be given. */
export type QmpState = 'stopped' | 'connecting' | 'waiting' | 'ready';

/** `alive`: it greeted. `refused`: nobody listens, the process is gone. `unknown`: neither, in time. */
export type QmpLiveness = 'alive' | 'refused' | 'unknown';

export interface QmpHandlers {
  connected?(greeting: QmpGreeting): void;
  /** `timestampMs`: QEMU's wall clock, milliseconds since 1970; 0 when it said none. */
  event?(name: string, data: QmpObject, timestampMs: number): void;
  /** An established connection was lost. An attempt to reconnect follows at once. */
  closed?(reason: ColoError): void;
  /** The attempt right after a loss was refused: the process is dead. Once per loss. */
  refused?(): void;
}

export interface QmpClientLimits extends QmpLimits {
  /** First pause before another attempt; doubles each time. */
  readonly reconnectMsMin: number;
  readonly reconnectMsMax: number;
  /** A probe that is not answered is `unknown` after this. */
  readonly probeMsMax: number;
}

export const DEFAULT_QMP_LIMITS: QmpClientLimits = {
  lineBytesMax: 4 * 1024 * 1024,
  commandsMax: 64,
  commandMsMax: 5000,
  greetingMsMax: 5000,
  reconnectMsMin: 100,
  reconnectMsMax: 2000,
  probeMsMax: 1000,
};

export interface QmpClientOptions {
  readonly address: Address;
  readonly clock: Clock;
  readonly handlers?: QmpHandlers;
  readonly limits?: Partial<QmpClientLimits>;
  readonly transport?: Pick<Transport, 'connect'>;
  readonly log?: Log;
}

/** Between a connection that was closed before its greeting and the next try, while a probe waits. */
const PROBE_PAUSE_MS = 5;
const REFUSED_CODES: readonly unknown[] = ['ECONNREFUSED', 'ENOENT', 'ECONNRESET'];

export class QmpClient {
  readonly address: Address;
  readonly #clock: Clock;
  readonly #handlers: QmpHandlers;
  readonly #limits: QmpClientLimits;
  readonly #transport: Pick<Transport, 'connect'>;
  readonly #log: Log;
  #state: QmpState = 'stopped';
  #session: QmpSession | undefined;
  #greeting: QmpGreeting | undefined;
  #abort: AbortController | undefined;
  #timer: Timer | undefined;
  #pauseMs: number;
  #probes: Array<(liveness: QmpLiveness) => void> = [];
  #lastProblem = '';

  constructor(options: QmpClientOptions) {
    this.address = options.address;
    this.#clock = options.clock;
    this.#handlers = options.handlers ?? {};
    this.#limits = { ...DEFAULT_QMP_LIMITS, ...options.limits };
    this.#transport = options.transport ?? socketTransport;
    this.#log = options.log ?? silentLog;
    this.#pauseMs = this.#limits.reconnectMsMin;
  }

  get state(): QmpState {
    return this.#state;
  }

  /** Of the present connection. */
  get greeting(): QmpGreeting | undefined {
    return this.#greeting;
  }

  /** What it waits for, for people; empty when ready. */
  get problem(): string {
    return this.#state === 'ready' ? '' : this.#lastProblem;
  }

  start(): void {
    if (this.#state === 'stopped') void this.#connect();
  }

  /** Commands that wait are rejected; no handler is called any more. */
  stop(): void {
    this.#state = 'stopped';
    this.#timer?.cancel();
    this.#abort?.abort(new Error('stopped'));
    this.#session?.close(new ColoError('COLO_ERR_QMP_CONNECT', 'the client was stopped'));
    this.#answerProbes('unknown');
  }

  /**
   * Resolves with what QEMU returned. Rejects with COLO_ERR_QMP_CONNECT (not connected, or lost before the
   * answer), COLO_ERR_QMP_TIMEOUT, or COLO_ERR_QMP_COMMAND (QEMU's class and description).
   */
  execute(command: string, args?: QmpObject, options?: ExecuteOptions): Promise<unknown> {
    if (this.#session === undefined) {
      const text = `${command}: ${showAddress(this.address)} is not connected`;
      return Promise.reject(new ColoError('COLO_ERR_QMP_CONNECT', text));
    }
    return this.#session.execute(command, args, options);
  }

  /**
   * Is there a process? `alive` at once while connected; else by an immediate attempt to connect, which counts
   * only when QEMU greets: a dying process still accepts for a moment.
   */
  probe(): Promise<QmpLiveness> {
    if (this.#state === 'ready') return Promise.resolve('alive');
    if (this.#state === 'stopped') return Promise.resolve('unknown');
    const answer = this.#waitForAttempt();
    if (this.#state === 'waiting') {
      this.#timer?.cancel();
      void this.#connect();
    }
    return answer;
  }

  #waitForAttempt(): Promise<QmpLiveness> {
    return new Promise((resolve) => {
      const settle = (liveness: QmpLiveness): void => {
        timer.cancel();
        this.#probes = this.#probes.filter((other) => other !== settle);
        resolve(liveness);
      };
      const timer = this.#clock.after(this.#limits.probeMsMax, () => settle('unknown'));
      this.#probes.push(settle);
    });
  }

  #answerProbes(liveness: QmpLiveness): void {
    for (const settle of this.#probes) settle(liveness);
  }

  async #connect(): Promise<void> {
    this.#state = 'connecting';
    const abort = new AbortController();
    this.#abort = abort;
    const timer = this.#clock.after(this.#limits.greetingMsMax, () =>
      abort.abort(new Error('no answer in time')),
    );
    try {
      const channel = await this.#transport.connect(this.address, abort.signal);
      if (this.#isStopped() || this.#abort !== abort) {
        channel.destroy();
        return;
      }
      this.#session = new QmpSession(channel, this.#clock, this.#limits, {
        ready: (greeting) => this.#ready(greeting),
        event: (name, data, timestampMs) => this.#handlers.event?.(name, data, timestampMs),
        closed: (reason, greeted) => this.#closed(reason, greeted),
      });
    } catch (cause) {
      if (this.#isStopped() || this.#abort !== abort) return;
      const error = asColoError(cause, 'COLO_ERR_QMP_CONNECT', showAddress(this.address));
      if (REFUSED_CODES.includes((cause as NodeJS.ErrnoException).code)) this.#answerProbes('refused');
      this.#retry(error, this.#nextPauseMs());
    } finally {
      timer.cancel();
    }
  }

  #isStopped(): boolean {
    return this.#state === 'stopped';
  }

  #ready(greeting: QmpGreeting): void {
    this.#state = 'ready';
    this.#greeting = greeting;
    this.#pauseMs = this.#limits.reconnectMsMin;
    this.#lastProblem = '';
    const { major, minor, micro } = greeting.version;
    this.#log.info(
      { address: showAddress(this.address), qemu: `${major}.${minor}.${micro}` },
      'QMP connected',
    );
    this.#answerProbes('alive');
    this.#handlers.connected?.(greeting);
  }

  #closed(reason: ColoError, greeted: boolean): void {
    this.#session = undefined;
    this.#greeting = undefined;
    if (this.#isStopped()) return;
    if (this.#state === 'ready') {
      this.#log.warn({ address: showAddress(this.address), reason: reason.message }, 'QMP connection lost');
      this.#state = 'waiting';
      this.#handlers.closed?.(reason);
      if (!this.#isStopped()) this.#findOutWhy();
      return;
    }
    const probing = this.#probes.length > 0 && !greeted;
    this.#retry(reason, probing ? PROBE_PAUSE_MS : this.#nextPauseMs());
  }

  #findOutWhy(): void {
    void this.probe().then((liveness) => {
      if (liveness === 'refused' && !this.#isStopped()) this.#handlers.refused?.();
    });
  }

  #nextPauseMs(): number {
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(pauseMs * 2, this.#limits.reconnectMsMax);
    return pauseMs;
  }

  /** Says why only when that changed: a VM that is not there yet fills no log. */
  #retry(reason: ColoError, pauseMs: number): void {
    this.#state = 'waiting';
    if (reason.message !== this.#lastProblem) {
      this.#lastProblem = reason.message;
      this.#log.info({ address: showAddress(this.address), reason: reason.message }, 'QMP waits');
    }
    this.#timer?.cancel();
    this.#timer = this.#clock.after(pauseMs, () => void this.#connect());
  }
}
