import { asColoError, ColoError } from '../errors.js';
import type { Log } from '../system/log.js';

/** Steps that change the pair's state: one at a time, in the order in which they were added. */
export class StepQueue {
  readonly #log: Log;
  #last: Promise<void> = Promise.resolve();
  #unfinished = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Runs `step` after all earlier ones. A step that fails is logged; it never stops the next. */
  add(name: string, step: () => Promise<void>): void {
    void this.run(name, step).catch(() => undefined);
  }

  /** As `add`, and tells whoever waits what came of it. */
  run<Result>(name: string, step: () => Promise<Result>): Promise<Result> {
    this.#unfinished++;
    const result = this.#last.then(step);
    this.#last = result.then(
      () => {
        this.#unfinished--;
      },
      (error: unknown) => {
        this.#unfinished--;
        const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', name);
        this.#log.error({ code: reason.code }, reason.message);
      },
    );
    return result;
  }

  /** As `run`, at once: whatever is added waits for its end. Rejects with COLO_ERR_HANDOVER while another runs. */
  async runNow<Result>(name: string, step: () => Promise<Result>): Promise<Result> {
    if (this.#unfinished > 0) throw new ColoError('COLO_ERR_HANDOVER', 'the pair is being changed');
    return this.run(name, step);
  }

  /** When everything added so far has run. */
  idle(): Promise<void> {
    return this.#last;
  }
}
