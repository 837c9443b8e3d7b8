import { otherSeat, type Seat } from '../dataplane/data-plane.js';
import { ColoError } from '../errors.js';
import { type ClaimReason, noArbiter } from '../failover/arbiter.js';
import { Mandate } from '../failover/mandate.js';
import { type RunProgram, runProgram } from '../failover/program.js';
import type { PairParts } from './parts.js';

/** Run as `PROGRAM fence PAIR SEAT GENERATION` for the VM that must not come back; exit code 0: it cannot. */
export interface Fence {
  readonly program: string;
  readonly msMax: number;
  readonly run?: RunProgram;
}

/** May this side go on? The arbiter is asked first, then the other side is fenced; only two times yes is a yes. */
export class Authority {
  readonly mandate: Mandate;
  readonly #parts: PairParts;

  constructor(parts: PairParts, generationChanged: (generation: number) => void) {
    this.#parts = parts;
    const { arbiter, state, clock, log, limits } = parts;
    const generation = state?.found.generation ?? 0;
    this.mandate = new Mandate(arbiter ?? noArbiter(), generation, clock, limits.mandate, {
      held: (now) => log.info({ generation: now }, 'the arbiter lets this side go on'),
      lost: (detail) => {
        const error = new ColoError('COLO_ERR_ARBITER', `nothing leaves: ${detail}`);
        log.error({ code: error.code }, error.message);
      },
      generationChanged,
    });
  }

  /** `seat` goes on alone, and the VM on the other is fenced. */
  async allows(reason: ClaimReason, seat: Seat): Promise<boolean> {
    return (await this.mandate.claim(reason, seat)) && (await this.fences(otherSeat(seat)));
  }

  /** The VM on that seat cannot come back. */
  async fences(seat: Seat): Promise<boolean> {
    const { fence, clock, name, log } = this.#parts;
    if (fence === undefined) return true;
    const abort = new AbortController();
    const timer = clock.after(fence.msMax, () => abort.abort());
    const args = ['fence', name, seat, String(this.mandate.generation)];
    const { code, detail } = await (fence.run ?? runProgram)(fence.program, args, abort.signal);
    timer.cancel();
    if (code === 0) return true;
    const error = new ColoError('COLO_ERR_FENCE', `${fence.program}: ${code ?? 'no exit code'} ${detail}`);
    log.error({ code: error.code, seat }, error.message);
    return false;
  }

  get isHeld(): boolean {
    return this.mandate.isHeld(this.#parts.clock.now());
  }
}
