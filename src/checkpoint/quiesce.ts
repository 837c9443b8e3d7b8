/** Waiting until both VMs have read everything that was fed to them (trap T8). */
import type { Clock } from '../system/clock.js';
import type { CheckpointLimits } from './limits.js';
import type { EpochGate } from './ports.js';

export interface Quiescence {
  /** Both VMs have taken everything. */
  readonly quiet: boolean;
  /** Frames not taken when time ran out; 0 when nobody could say. */
  readonly frames: number;
}

/**
 * Resolves once nothing is untaken, or after `quiesceMsMax` whatever the gate does. Never rejects: a gate that
 * fails to answer is not quiet, and the next barrier will say why.
 */
export function quiesce(
  closed: Promise<void>,
  gate: EpochGate,
  clock: Clock,
  limits: Pick<CheckpointLimits, 'quiesceMsMax' | 'quiescePollMs'>,
): Promise<Quiescence> {
  return new Promise((resolve) => {
    let settled = false;
    let frames = 0;
    const settle = (quiet: boolean): void => {
      if (settled) return;
      settled = true;
      deadline.cancel();
      resolve({ quiet, frames });
    };
    const deadline = clock.after(limits.quiesceMsMax, () => settle(false));
    const poll = async (): Promise<void> => {
      const untaken = await gate.untaken();
      if (settled) return;
      frames = untaken.primary + untaken.secondary;
      if (frames === 0) settle(true);
      else clock.after(limits.quiescePollMs, () => void again());
    };
    const again = (): Promise<void> => poll().catch(() => settle(false));
    closed.then(again, () => settle(false));
  });
}
