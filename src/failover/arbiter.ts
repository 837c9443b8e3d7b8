/**
 * Who may let output leave. The arbiter is asked before any promotion, so that of two sides that cannot see each other
 * at most one goes on (trap T26). Three answers, and only one of them is a yes: what is unknown counts as lost.
 */
import type { Clock } from '../system/clock.js';

/** Why the right is asked for. `start`: a proxy begins; `again`: its lease had run out and nobody else has ruled since. */
export type ClaimReason = 'start' | 'again' | 'promote-secondary' | 'continue-primary' | 'switchover';

export interface Claim {
  readonly reason: ClaimReason;
  /** Seat of the VM that is to carry the traffic. */
  readonly seat: 'primary' | 'secondary';
  /** Newest generation that this side knows of, 0 for none: whoever has ruled in a later one knows more. */
  readonly generation: number;
}

export type ClaimAnswer =
  | {
      readonly outcome: 'won';
      readonly generation: number;
      /** On the clock of this side: output must have stopped by then. Infinity: the right does not run out. */
      readonly heldUntilMs: number;
    }
  | { readonly outcome: 'lost' | 'unknown'; readonly detail: string };

export interface Arbiter {
  readonly kind: 'none' | 'exec' | 'file' | 'etcd';
  /** Nothing may leave before the first claim is won, and the right must be renewed; 0: neither. */
  readonly leaseMs: number;
  /** May reject, and take as long as its own limits allow: who asks takes both as unknown (`answerWithin`). */
  claim(claim: Claim, signal: AbortSignal): Promise<ClaimAnswer>;
  /** The same right for longer; `lost`: it has run out or is another's. Only asked where there is a lease. */
  renew(signal: AbortSignal): Promise<ClaimAnswer>;
  /** Gives the right back, so that nobody has to wait for the lease's end. */
  release(): Promise<void>;
  /** What a successor process needs to go on with the same right; it is this process from then on. */
  save?(): ArbiterSnapshot;
  /** @param shiftMs what the new clock shows more than the old one */
  load?(from: ArbiterSnapshot, shiftMs: number): void;
}

/** Plain values, as the arbiter that made it knows them. */
export type ArbiterSnapshot = Readonly<Record<string, string | number>>;

/** Who claims, as the arbiter's storage shows it. */
export interface Claimant {
  /** Name of the pair. */
  readonly pair: string;
  /** Of this installation, kept in its state file: it survives the process. */
  readonly owner: string;
  /** Of this process alone. A frozen process and its successor are two. */
  readonly process: string;
}

export interface LeaseLimits {
  readonly leaseMs: number;
  /** Output stops this much before the lease's end. */
  readonly marginMs: number;
}

/** One host, one proxy, both VMs' frames pass through it: what it does not let out does not leave. Chosen, not assumed. */
export function noArbiter(): Arbiter {
  return {
    kind: 'none',
    leaseMs: 0,
    claim: async ({ generation }) => ({
      outcome: 'won',
      generation: generation + 1,
      heldUntilMs: Number.POSITIVE_INFINITY,
    }),
    renew: async () => ({ outcome: 'unknown', detail: 'there is no lease' }),
    release: async () => undefined,
  };
}

/** An answer, or `unknown` when `ask` fails or takes longer than `msMax`; `ask` is told to stop. Never rejects. */
export async function answerWithin(
  clock: Clock,
  msMax: number,
  ask: (signal: AbortSignal) => Promise<ClaimAnswer>,
): Promise<ClaimAnswer> {
  const abort = new AbortController();
  return new Promise((resolve) => {
    const timer = clock.after(msMax, () => {
      resolve({ outcome: 'unknown', detail: `the arbiter did not answer within ${msMax} ms` });
      abort.abort();
    });
    Promise.resolve()
      .then(() => ask(abort.signal))
      .catch((error: unknown): ClaimAnswer => ({ outcome: 'unknown', detail: String(error) }))
      .then((answer) => {
        timer.cancel();
        resolve(answer);
      });
  });
}
