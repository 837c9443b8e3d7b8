import { asColoError } from '../errors.js';
import type { Log } from '../system/log.js';

/** Steps that change the pair's state: one at a time, in the order in which they were added. */
export class StepQueue {
  readonly #log: Log;
  #last: Promise<void> = Promise.resolve();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Runs `step` after all earlier ones. A step that fails is logged; it never stops the next. */
  add(name: string, step: () => Promise<void>): void {
    void this.run(name, step).catch(() => undefined);
  }

  /** As `add`, and tells whoever waits what came of it. */
  run<Result>(name: string, step: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(step);
    this.#last = result.then(
      () => undefined,
      (error: unknown) => {
        const reason = asColoError(error, 'COLO_ERR_QMP_COMMAND', name);
        this.#log.error({ code: reason.code }, reason.message);
      },
    );
    return result;
  }

  /** When everything added so far has run. */
  idle(): Promise<void> {
    return this.#last;
  }
}
