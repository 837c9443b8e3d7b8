/**
 * Is a VM that has not died still there? No single sign says so: a monitor may hang while the guest serves, and an idle
 * guest says nothing. Signs are named and weighed; from LOST_WEIGHT on the VM counts as lost. A closed monitor socket
 * that refuses is no sign but a fact, and is not weighed here.
 */
export type Sign =
  | 'monitor-silent' // QMP has not answered a question for heartbeatMsMax
  | 'monitor-silent-long' // nor for heartbeatAloneMsMax
  | 'frames-untaken' // its link has frames for it that it has not taken for heartbeatMsMax
  | 'output-missing' // the other VM has sent what it has not, and its monitor has not answered since
  | 'link-down' // its link has no carrier, or its peer has closed it
  | 'checkpoint-late' // a checkpoint has waited for its next word for heartbeatMsMax
  | 'guest-probe-failed' // the operator's program has said so, twice in a row
  | 'address-silent'; // the address that is probed has not echoed, twice in a row

export const SIGN_WEIGHTS: Readonly<Record<Sign, number>> = {
  'monitor-silent': 1,
  'monitor-silent-long': 1,
  'frames-untaken': 1,
  'output-missing': 1,
  'link-down': 1,
  'checkpoint-late': 1,
  'guest-probe-failed': 1,
  'address-silent': 1,
};

export const SIGNS = Object.keys(SIGN_WEIGHTS) as readonly Sign[];

/** Two signs of different kinds, or a monitor that is silent for very long. */
export const LOST_WEIGHT = 2;

export interface DetectorLimits {
  /** Between two questions. */
  readonly heartbeatEveryMs: number;
  /** A monitor that answers later, frames that wait longer, or a checkpoint that does, are a sign. */
  readonly heartbeatMsMax: number;
  /** A monitor silent for this long is enough by itself. */
  readonly heartbeatAloneMsMax: number;
}

/** A look that comes this much later than planned says more about this process than about the VM. */
const LATE_LOOK_SHARE = 1;

/**
 * Signs of one VM, as they are at the last look. Time comes in as a number, and counts as far as this process has seen it:
 * of the time before a late look only what was planned, and that from the next look on, since an answer that came
 * meanwhile may not have been read yet.
 */
export class Detector {
  readonly #limits: DetectorLimits;
  /** Since when questions are unanswered, or frames wait; null: they are not. */
  #askedMs: number | null = null;
  #isOpen = false;
  #untakenMs: number | null = null;
  #outputMissing = false;
  #linkDown = false;
  #owedMs: number | null = null;
  #failing: readonly Sign[] = [];
  #lookedMs: number | null = null;
  /** The time that counts, and what the next look adds to it. */
  #seenMs = 0;
  #deferredMs = 0;

  constructor(limits: DetectorLimits) {
    this.#limits = limits;
  }

  /** Everything that was seen before does not count: the VM is new, or was stopped on purpose. */
  reset(): void {
    this.#askedMs = null;
    this.#isOpen = false;
    this.#untakenMs = null;
    this.#outputMissing = false;
    this.#linkDown = false;
    this.#owedMs = null;
    this.#failing = [];
    this.#lookedMs = null;
    this.#deferredMs = 0;
  }

  /** True when a question should be sent: none is open. */
  mayAsk(): boolean {
    if (this.#isOpen) return false;
    this.#isOpen = true;
    this.#askedMs ??= this.#fromNowMs;
    return true;
  }

  /** False: it failed, and silence goes on since the first question without an answer. */
  answered(well: boolean): void {
    this.#isOpen = false;
    if (!well) return;
    this.#askedMs = null;
    this.#outputMissing = false;
  }

  /** The hold timer ran out over output of the other VM alone. A guest that is merely slow has a monitor that answers. */
  outputIsMissing(): void {
    this.#outputMissing = true;
  }

  /**
   * @param untaken frames that the VM has not taken from its link
   * @param owesWord a checkpoint waits for the VM's next word
   * @param failing probes that fail now
   */
  look(
    nowMs: number,
    untaken: number,
    linkUp: boolean,
    owesWord = false,
    failing: readonly Sign[] = [],
  ): void {
    this.#failing = failing;
    this.#see(nowMs);
    if (!owesWord) this.#owedMs = null;
    else this.#owedMs ??= this.#fromNowMs;
    if (untaken === 0) this.#untakenMs = null;
    else this.#untakenMs ??= this.#fromNowMs;
    this.#linkDown = !linkUp;
  }

  /** Where something begins that is seen now. */
  get #fromNowMs(): number {
    return this.#seenMs + this.#deferredMs;
  }

  #see(nowMs: number): void {
    const { heartbeatEveryMs } = this.#limits;
    const sinceMs = this.#lookedMs === null ? 0 : nowMs - this.#lookedMs;
    const isLate = sinceMs > heartbeatEveryMs * (1 + LATE_LOOK_SHARE);
    this.#lookedMs = nowMs;
    this.#seenMs += this.#deferredMs + (isLate ? 0 : sinceMs);
    this.#deferredMs = isLate ? heartbeatEveryMs : 0;
  }

  signs(): Sign[] {
    const { heartbeatMsMax, heartbeatAloneMsMax } = this.#limits;
    const silentMs = this.#askedMs === null ? 0 : this.#seenMs - this.#askedMs;
    const signs: Sign[] = [];
    if (silentMs >= heartbeatMsMax) signs.push('monitor-silent');
    if (silentMs >= heartbeatAloneMsMax) signs.push('monitor-silent-long');
    if (this.#untakenMs !== null && this.#seenMs - this.#untakenMs >= heartbeatMsMax)
      signs.push('frames-untaken');
    if (this.#outputMissing) signs.push('output-missing');
    if (this.#linkDown) signs.push('link-down');
    if (this.#owedMs !== null && this.#seenMs - this.#owedMs >= heartbeatMsMax) signs.push('checkpoint-late');
    return [...signs, ...this.#failing];
  }

  isLost(): boolean {
    const weight = this.signs().reduce((sum, sign) => sum + SIGN_WEIGHTS[sign], 0);
    // Nothing counts while the monitor answers: a VM that does is stuck elsewhere, and says so through the phases.
    return weight >= LOST_WEIGHT && this.signs().includes('monitor-silent');
  }
}
