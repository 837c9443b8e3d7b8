/**
 * What may be asked of a running pair: one table for the command line and the admin address. An action changes
 * something; what only tells is in the status.
 */
import { CHECKPOINT_MODES, type CheckpointMode } from '../checkpoint/ports.js';
import type { Seat } from '../dataplane/data-plane.js';
import { ColoError } from '../errors.js';
import type { Pair } from './pair.js';

/** As they come over the wire: everything is text. */
export type ActionArguments = Readonly<Record<string, string>>;

export interface Action {
  /** `POST /api/VERB`, `colo-proxy VERB`. */
  readonly verb: string;
  /** Arguments it knows; others are refused. */
  readonly takes: readonly string[];
  /** Resolves with what came of it, as plain JSON. Rejects with a ColoError; COLO_ERR_USAGE for wrong arguments. */
  run(pair: Pair, args: ActionArguments): Promise<Readonly<Record<string, unknown>>>;
}

export const ACTIONS: readonly Action[] = [
  {
    verb: 'checkpoint',
    takes: ['mode', 'periodMs'],
    async run(pair, { mode, periodMs }) {
      if (mode === undefined && periodMs === undefined) return { ...(await pair.checkpoint()) };
      const plan = pair.chooseCheckpoints({
        ...(mode === undefined ? {} : { mode: modeOf(mode) }),
        ...(periodMs === undefined ? {} : { periodMs: numberOf('periodMs', periodMs) }),
      });
      return { ...plan };
    },
  },
  {
    verb: 'failover',
    takes: ['to'],
    async run(pair, { to }) {
      await pair.protection.failover(seatOf(to));
      return outcome(pair);
    },
  },
  {
    verb: 'switchover',
    takes: [],
    async run(pair) {
      await pair.switchover();
      return outcome(pair);
    },
  },
  {
    verb: 'protect',
    takes: ['cancel'],
    async run(pair, { cancel }) {
      await (cancel === 'true' ? pair.protection.unprotect() : pair.protection.protect());
      return outcome(pair);
    },
  },
];

function outcome(pair: Pair): Readonly<Record<string, unknown>> {
  const { state, carrier, generation } = pair.status();
  return { state, carrier, generation };
}

function seatOf(text: string | undefined): Seat {
  if (text === 'primary' || text === 'secondary') return text;
  throw new ColoError(
    'COLO_ERR_USAGE',
    `to ${text ?? ''}: expected primary or secondary, the seat that goes on`,
  );
}

/** Runs the action of that name; COLO_ERR_USAGE when there is none or it does not know an argument. */
export function runAction(
  pair: Pair,
  verb: string,
  args: ActionArguments,
): Promise<Readonly<Record<string, unknown>>> {
  const action = ACTIONS.find((each) => each.verb === verb);
  const unknown = Object.keys(args).find((name) => !action?.takes.includes(name));
  if (action === undefined || unknown !== undefined) {
    const text = action === undefined ? `no such action: ${verb}` : `${verb} takes no ${unknown}`;
    return Promise.reject(new ColoError('COLO_ERR_USAGE', text));
  }
  return action.run(pair, args);
}

function modeOf(text: string): CheckpointMode {
  const mode = CHECKPOINT_MODES.find((each) => each === text);
  if (mode !== undefined) return mode;
  throw new ColoError('COLO_ERR_USAGE', `mode ${text}: expected ${CHECKPOINT_MODES.join(' or ')}`);
}

function numberOf(name: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new ColoError('COLO_ERR_USAGE', `${name} ${text}: expected a whole number of milliseconds`);
}
