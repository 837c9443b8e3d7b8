/** A pair's status as text for a terminal: `colo-proxy status` and `top`. */

import { type CopyProgress, copyShare } from '../pair/initial-copy.js';
import type { PairStatus } from '../pair/status.js';
import type { TopFlow } from '../pair/top-flows.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

export function bytesText(value: number): string {
  let left = value;
  let unit = 0;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit++;
  }
  return `${unit === 0 ? left : left.toFixed(1)} ${UNITS[unit]}`;
}

export function statusLines(status: PairStatus): string[] {
  const { pause } = status;
  const pauseMean = pause.count === 0 ? 'none yet' : `${(pause.sumMs / pause.count).toFixed(1)} ms mean`;
  const notReady = status.parts.filter((part) => !part.ready);
  return [
    `${status.name}: ${status.state.replace('-', ' ')}, ${status.carrier === 'none' ? 'nobody' : `the ${status.carrier}`} carries the traffic`,
    ...notReady.map((part) => `  not ready: ${part.name}: ${part.detail}`),
    ...(status.copy === null ? [] : [`  copying      ${copyText(status.copy)}`]),
    ...(status.signs.length === 0 ? [] : [`  signs        of a lost VM: ${status.signs.join(', ')}`]),
    `  epoch        ${status.epoch}, phase ${status.phase}`,
    `  checkpoints  ${counts(status.checkpoints)}; pause ${pauseMean}`,
    `  divergences  ${counts(status.divergences)}`,
    `  held         ${status.heldFrames} frames, ${bytesText(status.heldBytes)}`,
    `  gate         ${status.gateClosed ? 'closed' : 'open'}, ${status.gateFrames} frames`,
    `  released     ${counts(status.framesReleased)} frames`,
    ...status.waivers
      .filter(({ frames }) => frames > 0)
      .map(
        ({ rule, why, frames, bytes }) =>
          `  unprotected  ${frames} frames, ${bytesText(bytes)} by ${rule === 'link-control' ? rule : `rule ${rule}: ${why}`}`,
      ),
    `  dropped      ${counts(status.drops)} frames`,
    `  failovers    ${counts(status.failovers)}`,
    ...status.links.map(
      ({ side, url, state, counters }) =>
        `  ${`${side} link`.padEnd(15)} ${state} ${url}: ${bytesText(counters.bytesReceived)} in, ` +
        `${bytesText(counters.bytesSent)} out, ${counters.sendDrops + counters.receiveDrops} lost`,
    ),
  ];
}

function copyText(copy: CopyProgress): string {
  const left = copy.msLeft === null ? '' : `, about ${Math.ceil(copy.msLeft / 1000)} s left`;
  return `${copy.stage}, ${Math.floor(100 * copyShare(copy))} % of ${bytesText(copy.bytesTotal)}${left}`;
}

/** What `top` shows: rates between two statuses `elapsedMs` apart, and the flows. */
export function topLines(
  status: PairStatus,
  before: PairStatus | null,
  elapsedMs: number,
  flows: readonly TopFlow[],
): string[] {
  const rate = (read: (one: PairStatus) => number): string =>
    before === null || elapsedMs <= 0
      ? '-'
      : `${bytesText(Math.max(0, Math.round(((read(status) - read(before)) * 1000) / elapsedMs)))}/s`;
  const client = (one: PairStatus) => one.links.find(({ side }) => side === 'client')!.counters;
  return [
    ...statusLines(status),
    '',
    `  to clients ${rate((one) => client(one).bytesSent)}   from clients ${rate((one) => client(one).bytesReceived)}`,
    '',
    `  ${'FLOW'.padEnd(60)} ${'HELD'.padStart(10)} ${'QUIET FOR'.padStart(10)}`,
    ...flows.map(
      ({ flow, heldBytes, idleMs }) =>
        `  ${flow.padEnd(60)} ${bytesText(heldBytes).padStart(10)} ${`${(idleMs / 1000).toFixed(1)} s`.padStart(10)}`,
    ),
  ];
}

/** `5 (matched 3, waived 2)`; only what has happened. */
function counts(values: Readonly<Record<string, number>>): string {
  const some = Object.entries(values).filter(([, count]) => count > 0);
  const total = some.reduce((sum, [, count]) => sum + count, 0);
  if (some.length === 0) return '0';
  return `${total} (${some.map(([name, count]) => `${name} ${count}`).join(', ')})`;
}
