/** The words of the COLO checkpoint protocol: QEMU's qapi COLOMessage names (COLO-FT, migration/colo.c). */
export const SyncPoint = {
  READY: 'checkpoint-ready',
  REQUEST: 'checkpoint-request',
  REPLY: 'checkpoint-reply',
  SEND: 'vmstate-send',
  SIZE: 'vmstate-size',
  RECEIVED: 'vmstate-received',
  LOADED: 'vmstate-loaded',
  GUEST_SHUTDOWN: 'guest-shutdown',
} as const;
export type SyncPoint = (typeof SyncPoint)[keyof typeof SyncPoint];

/** Which way a word travels. */
export type Direction = 'primary-to-secondary' | 'secondary-to-primary';
