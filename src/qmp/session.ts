/** One connection to a QMP monitor: greeting, capabilities, commands and their replies, events. Ends for good when closed. */
import { ColoError } from '../errors.js';
import type { DuplexChannel } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';
import { encodeMessage, isObject, QmpLineReader, type QmpObject } from './framing.js';

export interface QmpLimits {
  /** Longest line a monitor may send. */
  readonly lineBytesMax: number;
  /** Commands sent and not answered; more are refused. */
  readonly commandsMax: number;
  /** How long QEMU gets to answer a command. */
  readonly commandMsMax: number;
  /** From the connection to the accepted capabilities. A monitor that serves another client says nothing. */
  readonly greetingMsMax: number;
}

export interface QmpVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  /** The distributor's suffix, may be empty. */
  readonly package: string;
}

export interface QmpGreeting {
  readonly version: QmpVersion;
  /** Out-of-band commands may be used on this connection. */
  readonly outOfBand: boolean;
}

export interface SessionEvents {
  ready(greeting: QmpGreeting): void;
  /** `timestampMs`: QEMU's wall clock, milliseconds since 1970; 0 when it said none. */
  event(name: string, data: QmpObject, timestampMs: number): void;
  /** Once, and last. `greeted`: a greeting had come. */
  closed(reason: ColoError, greeted: boolean): void;
}

export interface ExecuteOptions {
  readonly timeoutMs?: number;
  /** Executed past the queue of other commands, where QEMU offers it. */
  readonly outOfBand?: boolean;
}

interface Pending {
  readonly command: string;
  readonly timer: Timer;
  resolve(value: unknown): void;
  reject(error: ColoError): void;
}

export class QmpSession {
  readonly #channel: DuplexChannel;
  readonly #clock: Clock;
  readonly #limits: QmpLimits;
  readonly #events: SessionEvents;
  readonly #reader: QmpLineReader;
  readonly #pending = new Map<string, Pending>();
  readonly #greetingTimer: Timer;
  #greeting: QmpGreeting | undefined;
  #ready = false;
  #closed = false;
  #sequence = 0;
  /** Replies that came after their time, or to nothing we asked. */
  strayReplies = 0;

  constructor(channel: DuplexChannel, clock: Clock, limits: QmpLimits, events: SessionEvents) {
    this.#channel = channel;
    this.#clock = clock;
    this.#limits = limits;
    this.#events = events;
    this.#reader = new QmpLineReader(limits.lineBytesMax);
    this.#greetingTimer = clock.after(limits.greetingMsMax, () =>
      this.close(new ColoError('COLO_ERR_QMP_TIMEOUT', `no greeting within ${limits.greetingMsMax} ms`)),
    );
    channel.attach({
      data: (chunk) => this.#data(chunk),
      ended: () => this.close(this.#lost(undefined)),
      drained: () => undefined,
      closed: (error) => this.close(this.#lost(error)),
    });
  }

  /** Resolves with what QEMU returned; see QmpClient.execute. */
  execute(command: string, args: QmpObject | undefined, options: ExecuteOptions = {}): Promise<unknown> {
    if (!this.#ready || this.#closed) {
      return Promise.reject(
        new ColoError('COLO_ERR_QMP_CONNECT', `${command}: the monitor is not connected`),
      );
    }
    if (this.#pending.size >= this.#limits.commandsMax) {
      const text = `${command}: ${this.#pending.size} commands wait for an answer already`;
      return Promise.reject(new ColoError('COLO_ERR_QMP_TIMEOUT', text));
    }
    const outOfBand = options.outOfBand === true && this.#greeting?.outOfBand === true;
    return this.#send(outOfBand ? 'exec-oob' : 'execute', command, args, options.timeoutMs);
  }

  /** Closes at once; every command that waits is rejected with `reason`. */
  close(reason: ColoError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#greetingTimer.cancel();
    this.#channel.destroy();
    for (const pending of this.#pending.values()) {
      pending.timer.cancel();
      pending.reject(
        new ColoError('COLO_ERR_QMP_CONNECT', `${pending.command}: ${reason.message}`, { cause: reason }),
      );
    }
    this.#pending.clear();
    this.#events.closed(reason, this.#greeting !== undefined);
  }

  #send(kind: string, command: string, args: QmpObject | undefined, timeoutMs?: number): Promise<unknown> {
    const id = `colo-${++this.#sequence}`;
    const limitMs = timeoutMs ?? this.#limits.commandMsMax;
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(limitMs, () => {
        this.#pending.delete(id);
        reject(new ColoError('COLO_ERR_QMP_TIMEOUT', `${command}: no answer within ${limitMs} ms`));
      });
      this.#pending.set(id, { command, timer, resolve, reject });
      // Commands are few and bounded by commandsMax: a full socket needs no back-pressure.
      this.#channel.write(encodeMessage({ [kind]: command, ...(args && { arguments: args }), id }));
    });
  }

  #lost(error: Error | undefined): ColoError {
    const midLine = this.#reader.pendingBytes > 0 ? ' in mid-line' : '';
    const text = `QEMU closed the monitor connection${midLine}${error === undefined ? '' : `: ${error.message}`}`;
    return new ColoError('COLO_ERR_QMP_CONNECT', text, { cause: error });
  }

  #data(chunk: Buffer): void {
    if (this.#closed) return;
    try {
      this.#reader.push(chunk, (message) => {
        if (!this.#closed) this.#message(message);
      });
    } catch (error) {
      this.close(error instanceof ColoError ? error : new ColoError('COLO_ERR_QMP_PROTOCOL', String(error)));
    }
  }

  #message(message: QmpObject): void {
    if (this.#greeting === undefined) this.#greet(message);
    else if (typeof message.event === 'string') this.#event(message.event, message);
    else if ('return' in message || 'error' in message) this.#reply(message);
    else throw new ColoError('COLO_ERR_QMP_PROTOCOL', 'a message that is no greeting, event or reply');
  }

  #greet(message: QmpObject): void {
    const greeting = parseGreeting(message);
    this.#greeting = greeting;
    const args = greeting.outOfBand ? { enable: ['oob'] } : undefined;
    this.#send('execute', 'qmp_capabilities', args, this.#limits.greetingMsMax).then(
      () => {
        if (this.#closed) return;
        this.#greetingTimer.cancel();
        this.#ready = true;
        this.#events.ready(greeting);
      },
      (error: ColoError) => this.close(error),
    );
  }

  #event(name: string, message: QmpObject): void {
    const data = isObject(message.data) ? message.data : {};
    const timestamp = isObject(message.timestamp) ? message.timestamp : {};
    const { seconds, microseconds } = timestamp;
    const known = typeof seconds === 'number' && typeof microseconds === 'number' && seconds >= 0;
    this.#events.event(name, data, known ? seconds * 1000 + microseconds / 1000 : 0);
  }

  #reply(message: QmpObject): void {
    const id = message.id;
    const pending = typeof id === 'string' ? this.#pending.get(id) : undefined;
    if (pending === undefined) {
      this.strayReplies++;
      return;
    }
    this.#pending.delete(id as string);
    pending.timer.cancel();
    if ('return' in message) {
      pending.resolve(message.return);
      return;
    }
    const error = isObject(message.error) ? message.error : {};
    const text = `${pending.command}: ${said(error.class, 'error')}: ${said(error.desc, 'no description')}`;
    pending.reject(new ColoError('COLO_ERR_QMP_COMMAND', text, { cause: error }));
  }
}

/** A peer may say an object where QEMU says a string, even one that cannot be turned into a string. */
function said(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

function parseGreeting(message: QmpObject): QmpGreeting {
  const greeting = message.QMP;
  const version = isObject(greeting) ? greeting.version : undefined;
  const numbers = isObject(version) ? version.qemu : undefined;
  if (!isObject(greeting) || !isObject(version) || !isObject(numbers)) {
    throw new ColoError('COLO_ERR_QMP_PROTOCOL', 'the first line is not a QMP greeting');
  }
  const { capabilities } = greeting;
  return {
    version: {
      major: Number(numbers.major),
      minor: Number(numbers.minor),
      micro: Number(numbers.micro),
      package: typeof version.package === 'string' ? version.package : '',
    },
    outOfBand: Array.isArray(capabilities) && capabilities.includes('oob'),
  };
}
