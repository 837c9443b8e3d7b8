/** `colo-proxy colo-compare`: in the place of QEMU's colo-compare object, as a process of its own. */
import { randomBytes } from 'node:crypto';
import { type CompareLimits, DEFAULT_COMPARE_LIMITS } from '../compare/verdict.js';
import { ColoCompare, type ColoCompareParts } from '../dataplane/colo-compare.js';
import { ColoError } from '../errors.js';
import { DEFAULT_LINK_OPTIONS, type LinkOptions } from '../link/options.js';
import { StreamLink } from '../link/stream-link.js';
import { parseLinkUrl } from '../link/url.js';
import { createStandardLog } from '../observe/log.js';
import { realClock } from '../system/clock.js';
import { LineLimiter } from '../system/line-limiter.js';
import type { Log } from '../system/log.js';
import { openNumbersServer } from './numbers-server.js';

/** As commander hands them over. */
export interface ColoCompareOptions {
  readonly primaryIn: string;
  readonly secondaryIn: string;
  readonly outdev: string;
  readonly notifyDev?: string;
  readonly vnetHdrSupport?: boolean;
  readonly compareTimeout: string;
  readonly expiredScanCycle: string;
  readonly maxQueueSize: string;
  readonly http?: string;
}

const LINK_OPTIONS: LinkOptions = {
  ...DEFAULT_LINK_OPTIONS,
  batchFramesMax: 512,
  // QEMU has no limit for an outdev whose reader is slow; this one is generous
  sendQueueBytesMax: 64 * 1024 * 1024,
  sendQueueFramesMax: 65_536,
  // three super-frames fill what the kernel chooses, and those behind them would be copied to wait
  sendBufferBytes: 2 * 1024 * 1024,
};
const FRAME_BYTES = 1600;
const SUPER_FRAME_BYTES = 65_536;
const LOG_LIMITS = { burstLines: 20, linesPerSecond: 2 };

/** Runs until SIGTERM or SIGINT; resolves with the exit code. Throws COLO_ERR_USAGE and COLO_ERR_LINK_URL. */
export async function runColoCompare(options: ColoCompareOptions): Promise<number> {
  const { log, end } = createStandardLog({ level: 'info', format: 'auto' }, realClock);
  const compare = new ColoCompare(coloComparePartsOf(options, log));
  const signal = new Promise<string>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  const http =
    options.http === undefined ? undefined : await openNumbersServer(options.http, () => numbersOf(compare));
  await compare.open();
  log.info({ signal: await signal }, 'stopping');
  http?.close();
  await compare.close();
  await end();
  return 0;
}

export function coloComparePartsOf(options: ColoCompareOptions, log: Log): ColoCompareParts {
  const vnet = options.vnetHdrSupport === true;
  const wireHeader = { bytes: 10 };
  const link = (chardev: string, hasHeader = vnet): StreamLink => {
    const url = parseLinkUrl(`chardev:${chardev}${hasHeader ? ',vnet' : ''}`);
    if (url.kind !== 'chardev') throw new ColoError('COLO_ERR_USAGE', `${chardev} is no chardev`);
    return new StreamLink(url, LINK_OPTIONS, wireHeader);
  };
  const lines = new LineLimiter(realClock, LOG_LIMITS);
  const limited = (write: (leftOut: number) => void): void => {
    const leftOut = lines.take();
    if (leftOut >= 0) write(leftOut);
  };
  return {
    links: {
      'primary-in': link(options.primaryIn),
      'secondary-in': link(options.secondaryIn),
      outdev: link(options.outdev),
      ...(options.notifyDev === undefined ? {} : { 'notify-dev': link(options.notifyDev, false) }),
    },
    clock: realClock,
    limits: limitsOf(options),
    flowSeed: randomBytes(4).readInt32LE(),
    expiredScanMs: positive(options.expiredScanCycle, '--expired-scan-cycle'),
    events: {
      diverged: ({ reason, flow, offset }) =>
        limited((leftOut) =>
          log.info({ reason, flow, offset, leftOut }, 'the VMs differ: a checkpoint is needed'),
        ),
      linkChanged: (name, state, reason) => log.info({ name, state, ...(reason && { err: reason }) }, 'link'),
      wordRefused: (word) => limited((leftOut) => log.warn({ word, leftOut }, 'notify_dev: unknown word')),
    },
  };
}

/** QEMU's options in terms of our limits. A connection that outgrows its share asks for a checkpoint; nothing is dropped. */
function limitsOf(options: ColoCompareOptions): CompareLimits {
  const holdMsMax = positive(options.compareTimeout, '--compare-timeout');
  const queueFrames = positive(options.maxQueueSize, '--max-queue-size');
  const frameBytes = options.vnetHdrSupport === true ? SUPER_FRAME_BYTES : FRAME_BYTES;
  const { holdMsMin, heldBytesMax } = DEFAULT_COMPARE_LIMITS;
  return {
    ...DEFAULT_COMPARE_LIMITS,
    holdMsMax,
    holdMsMin: Math.min(holdMsMin, holdMsMax),
    heldBytesPerFlowMax: Math.min(heldBytesMax, queueFrames * frameBytes),
  };
}

/** A whole number of 1 to 2^31 - 1. Throws COLO_ERR_USAGE. */
function positive(text: string, flag: string): number {
  const value = Number(text);
  if (/^\d{1,10}$/.test(text) && value >= 1 && value < 2 ** 31) return value;
  throw new ColoError('COLO_ERR_USAGE', `${flag} ${text}: must be a whole number from 1 on`);
}

/** What --http shows, by metric name. */
function numbersOf(compare: ColoCompare): Record<string, number> {
  const { comparator, words, links, flows } = compare;
  const [primaryUnstorable = 0, secondaryUnstorable = 0] = comparator.unstorable;
  return {
    colo_compare_primary_frames_total: links['primary-in'].counters.framesReceived,
    colo_compare_secondary_frames_total: links['secondary-in'].counters.framesReceived,
    colo_compare_released_frames_total: compare.framesReleased,
    colo_compare_undelivered_frames_total: compare.undelivered,
    colo_compare_malformed_frames_total: compare.malformed,
    colo_compare_unstorable_primary_frames_total: primaryUnstorable,
    colo_compare_unstorable_secondary_frames_total: secondaryUnstorable,
    colo_compare_divergences_total: comparator.divergencesByReason.reduce((sum, count) => sum + count, 0),
    colo_compare_checkpoints_asked_total: words?.asked ?? 0,
    colo_compare_checkpoints_told_total: words?.told ?? 0,
    colo_compare_words_refused_total: words?.refused ?? 0,
    colo_compare_held_frames: comparator.heldFrames,
    colo_compare_held_bytes: comparator.heldBytes,
    colo_compare_flows: flows.count,
  };
}
