/**
 * Looks at the guest from elsewhere: a program of the operator's, or the echo of an address. Only what the detector makes of
 * it counts, together with other signs.
 */
import type { Clock, Timer } from '../system/clock.js';
import type { Sign } from './detector.js';
import { type RunProgram, runProgram } from './program.js';

/** One failure may be a lost packet. */
const FAILURES_IN_ROW = 2;

export type ProbeSign = Extract<Sign, 'guest-probe-failed' | 'address-silent'>;

export interface ProbeOptions {
  readonly sign: ProbeSign;
  readonly everyMs: number;
  /** A look that takes longer has failed. */
  readonly msMax: number;
  /** Is it well? Told to stop by the signal; never rejects. */
  readonly look: (signal: AbortSignal) => Promise<boolean>;
}

/** Run as `PROGRAM probe PAIR`; exit code 0: the guest serves. */
export function guestProbe(
  program: string,
  pair: string,
  run: RunProgram = runProgram,
): ProbeOptions['look'] {
  return async (signal) => (await run(program, ['probe', pair], signal)).code === 0;
}

/** ICMP or ICMPv6 echo, by the ping of iputils. */
export function addressProbe(address: string, run: RunProgram = runProgram): ProbeOptions['look'] {
  return async (signal) => (await run('ping', ['-n', '-q', '-c', '1', address], signal)).code === 0;
}

export class Probe {
  readonly #options: ProbeOptions;
  readonly #clock: Clock;
  #timer: Timer | null = null;
  #isLooking = false;
  #failures = 0;

  constructor(options: ProbeOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
  }

  get sign(): ProbeSign {
    return this.#options.sign;
  }

  get isFailing(): boolean {
    return this.#failures >= FAILURES_IN_ROW;
  }

  start(): void {
    this.#timer = this.#clock.every(this.#options.everyMs, () => void this.#look());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** What was seen so far was another VM. */
  reset(): void {
    this.#failures = 0;
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const abort = new AbortController();
    const timer = this.#clock.after(this.#options.msMax, () => abort.abort());
    const late = new Promise<false>((resolve) =>
      abort.signal.addEventListener('abort', () => resolve(false)),
    );
    const isWell = await Promise.race([this.#options.look(abort.signal), late]);
    timer.cancel();
    this.#isLooking = false;
    this.#failures = isWell ? 0 : this.#failures + 1;
  }
}
