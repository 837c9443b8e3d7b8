/**
 * What systemd wants to hear (sd_notify(3)): ready, reloading, stopping, and a sign of life before its watchdog bites.
 * Without NOTIFY_SOCKET nothing happens.
 */
import { notifySystemd } from '../../native/index.js';
import type { Clock, Timer } from './clock.js';

export interface ServiceManagerOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly pid: number;
  /** For tests; the addon's notifySystemd otherwise. */
  readonly notify?: (socketPath: string, text: string) => void;
  /** The manager could not be told; called once. */
  readonly failed: (error: unknown) => void;
}

export class ServiceManager {
  readonly #options: ServiceManagerOptions;
  #watchdog: Timer | undefined;
  #hasFailed = false;

  constructor(options: ServiceManagerOptions) {
    this.#options = options;
  }

  /** The event loop that feeds the watchdog is the one that moves frames: when it hangs, systemd restarts the proxy. */
  ready(status: string): void {
    this.#tell(`READY=1\nSTATUS=${status}`);
    const everyMs = this.#watchdogMs() / 2;
    if (everyMs > 0) this.#watchdog ??= this.#options.clock.every(everyMs, () => this.#tell('WATCHDOG=1'));
  }

  status(text: string): void {
    this.#tell(`STATUS=${text}`);
  }

  /** Another process is the service from now on. */
  mainProcess(pid: number): void {
    this.#watchdog?.cancel();
    this.#tell(`MAINPID=${pid}`);
  }

  stopping(): void {
    this.#tell('STOPPING=1');
    this.#watchdog?.cancel();
  }

  /** 0 when there is none, or it is for another process. */
  #watchdogMs(): number {
    const { env, pid } = this.#options;
    if (env.WATCHDOG_PID !== undefined && env.WATCHDOG_PID !== String(pid)) return 0;
    const microseconds = Number(env.WATCHDOG_USEC);
    return Number.isSafeInteger(microseconds) && microseconds > 0 ? microseconds / 1000 : 0;
  }

  #tell(text: string): void {
    const { env, notify = notifySystemd, failed } = this.#options;
    const path = env.NOTIFY_SOCKET;
    if (path === undefined || path === '') return;
    try {
      notify(path, text);
    } catch (error) {
      if (!this.#hasFailed) failed(error);
      this.#hasFailed = true;
    }
  }
}
