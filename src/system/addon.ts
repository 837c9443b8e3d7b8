import { loadError } from '../../native/index.js';

/** Why the native addon cannot be used, or null. */
export function addonProblem(): string | null {
  return loadError?.message ?? null;
}
