import type { Clock } from '../system/clock.js';
import { type Arbiter, type Claimant, type LeaseLimits, noArbiter } from './arbiter.js';
import { EtcdArbiter } from './arbiter-etcd.js';
import { execArbiter } from './arbiter-exec.js';
import { FileArbiter } from './arbiter-file.js';
import type { RunProgram } from './program.js';

/** As configured; what a kind does not need may be missing. */
export interface ArbiterChoice extends LeaseLimits {
  readonly kind: Arbiter['kind'];
  readonly program?: string | undefined;
  readonly directory?: string | undefined;
  /** With commas between. */
  readonly endpoints: string;
  readonly prefix: string;
}

/** `choice` has passed the checks of the configuration. */
export function createArbiter(
  choice: ArbiterChoice,
  claimant: Claimant,
  clock: Clock,
  run: RunProgram,
): Arbiter {
  const { kind, program, directory, endpoints, prefix } = choice;
  switch (kind) {
    case 'none':
      return noArbiter();
    case 'exec':
      return execArbiter(program!, claimant, run);
    case 'file':
      return new FileArbiter(directory!, claimant, choice, clock);
    case 'etcd':
      return new EtcdArbiter({ endpoints: endpoints.split(','), prefix }, claimant, choice, clock);
  }
}
