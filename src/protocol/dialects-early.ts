/** The dialects of the patch series before COLO was merged, in the branches of github.com/coloft/qemu. */
import type { Dialect } from './dialect.js';
import { upstreamDialect } from './dialect-upstream.js';
import { SyncPoint } from './sync-point.js';

/**
 * Series 8, July 2015: every word is a be64. SEND is followed by the size, then RAM and device state in one
 * piece; there is no SIZE. Called there checkpoint-ready, -new, -suspended, -send, -received, -loaded, guest-shutdown.
 */
export const v8Dialect: Dialect = {
  name: 'v8',
  codeBytes: 8,
  codes: {
    [SyncPoint.READY]: 0x46,
    [SyncPoint.REQUEST]: 0x47,
    [SyncPoint.REPLY]: 0x48,
    [SyncPoint.SEND]: 0x49,
    [SyncPoint.RECEIVED]: 0x4a,
    [SyncPoint.LOADED]: 0x4b,
    [SyncPoint.GUEST_SHUTDOWN]: 0x4c,
  },
  withValue: [SyncPoint.SEND],
  valueAlways: false,
  returnPath: false,
};

/** Series 9, September 2015: a be32 command and always a be64 value. Command 0 is invalid. */
export const v9Dialect: Dialect = {
  name: 'v9',
  codeBytes: 4,
  codes: {
    [SyncPoint.READY]: 1,
    [SyncPoint.REQUEST]: 2,
    [SyncPoint.REPLY]: 3,
    [SyncPoint.SEND]: 4,
    [SyncPoint.SIZE]: 5,
    [SyncPoint.RECEIVED]: 6,
    [SyncPoint.LOADED]: 7,
    [SyncPoint.GUEST_SHUTDOWN]: 8,
  },
  withValue: [SyncPoint.SIZE],
  valueAlways: true,
  returnPath: false,
};

/** Series 15, February 2016: upstream's words, and one more. */
export const v15Dialect: Dialect = {
  ...upstreamDialect,
  name: 'v15',
  codes: { ...upstreamDialect.codes, [SyncPoint.GUEST_SHUTDOWN]: 7 },
  returnPath: false,
};
