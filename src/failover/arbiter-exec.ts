import type { Arbiter, Claimant } from './arbiter.js';
import { type RunProgram, runProgram } from './program.js';

/**
 * A program decides: Pacemaker, STONITH, a phone call. It is run as `PROGRAM claim PAIR SEAT REASON GENERATION` and
 * answers by its exit code: 0 this side goes on, 1 the other does; anything else, a signal, or no answer in time is
 * unknown. A yes holds until the next question: the program must have fenced the other side before it says it.
 */
export function execArbiter(program: string, { pair }: Claimant, run: RunProgram = runProgram): Arbiter {
  return {
    kind: 'exec',
    leaseMs: 0,
    async claim({ seat, reason, generation }, signal) {
      const args = ['claim', pair, seat, reason, String(generation + 1)];
      const { code, detail } = await run(program, args, signal);
      if (code === 0) {
        return { outcome: 'won', generation: generation + 1, heldUntilMs: Number.POSITIVE_INFINITY };
      }
      if (code === 1) return { outcome: 'lost', detail: `${program} says no: ${detail}` };
      return { outcome: 'unknown', detail: `${program}: ${code === null ? '' : `exit ${code} `}${detail}` };
    },
    renew: async () => ({ outcome: 'unknown', detail: 'there is no lease' }),
    release: async () => undefined,
  };
}
