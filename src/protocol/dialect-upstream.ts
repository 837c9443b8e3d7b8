/** The dialect of QEMU 2.8 and later: be32 words, be64 after SIZE (migration/colo.c: colo_send_message_value). */
import type { Dialect } from './dialect.js';
import { SyncPoint } from './sync-point.js';

export const upstreamDialect: Dialect = {
  name: 'upstream',
  codeBytes: 4,
  codes: {
    [SyncPoint.READY]: 0,
    [SyncPoint.REQUEST]: 1,
    [SyncPoint.REPLY]: 2,
    [SyncPoint.SEND]: 3,
    [SyncPoint.SIZE]: 4,
    [SyncPoint.RECEIVED]: 5,
    [SyncPoint.LOADED]: 6,
  },
  withValue: [SyncPoint.SIZE],
  valueAlways: false,
  returnPath: true,
};
