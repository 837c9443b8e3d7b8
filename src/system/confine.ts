/**
 * Privileges that no proxy needs are given up for good, also by what it starts: a process of root begins anew with the
 * few that it does need. Under the systemd unit there is nothing to give up.
 */
import { readFileSync } from 'node:fs';
import { executeConfined } from '../../native/index.js';

/** linux/capability.h. */
export const Capability = {
  /** The group of the runtime directory and its sockets. */
  CHOWN: 0,
  /** Sockets and files of a QEMU that runs as another user. */
  DAC_OVERRIDE: 1,
  /** An admin address below port 1024. */
  NET_BIND_SERVICE: 10,
  /** Taps, bridges, isolation: links reopen at any time. */
  NET_ADMIN: 12,
  /** Packet sockets. */
  NET_RAW: 13,
} as const;

const KEPT = Object.values(Capability).reduce((set, capability) => set | (1n << BigInt(capability)), 0n);

/** Sets of capabilities of a process, from /proc/PID/status. */
export function permittedCapabilities(statusText: string): bigint {
  const hex = /^CapPrm:\s*([0-9a-f]+)$/m.exec(statusText)?.[1];
  return hex === undefined ? 0n : BigInt(`0x${hex}`);
}

/**
 * Does not return where there is something to give up: the same command line begins anew in this process. Elsewhere,
 * such as for a user with few capabilities of his own, nothing happens.
 *
 * @param argv as process.argv
 */
export function confineProcess(argv: readonly string[]): void {
  const permitted = permittedCapabilities(readFileSync('/proc/self/status', 'utf8'));
  if (process.getuid?.() !== 0 || (permitted & ~KEPT) === 0n) return;
  if (process.send !== undefined) return; // a parent's channel would not outlast it
  const [node, ...words] = argv;
  const command = [node!, ...process.execArgv, ...words];
  executeConfined(Number(KEPT & 0xffffffffn), Number(KEPT >> 32n), command);
}
