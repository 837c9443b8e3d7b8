/** What each QEMU version needs set before `migrate` so that COLO begins and not a plain migration. */
import type { Role } from '../protocol/state-tables.js';

/**
 * Seen with 7.2.22, 10.0.13 and 11.1.3: up to 9 the stream alone makes the secondary a COLO secondary
 * (migration/savevm.c: loadvm_process_enable_colo); from 10 on it must be told; from 11 on the return path is
 * needed on both sides, else the capability is refused and `migrate` silently ends as a plain migration.
 */
export function coloCapabilities(qemuMajor: number, role: Role): Readonly<Record<string, boolean>> {
  if (qemuMajor >= 11) return { 'return-path': true, 'x-colo': true };
  if (qemuMajor >= 10 || role === 'primary') return { 'x-colo': true };
  return {};
}
