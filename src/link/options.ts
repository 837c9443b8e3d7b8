import { type Clock, realClock } from '../system/clock.js';

/** What every link of a process shares; each has a limit with a name and a unit. */
export interface LinkOptions {
  readonly clock: Clock;
  /** Largest Ethernet frame without GSO, in bytes: MTU + 14 + two VLAN tags. */
  readonly frameBytesMax: number;
  /** Frames handed over in one batch. */
  readonly batchFramesMax: number;
  /** What may wait for a slow peer, in bytes and frames; a frame beyond is a counted sendDrop. */
  readonly sendQueueBytesMax: number;
  readonly sendQueueFramesMax: number;
  /** Receive buffer of a packet socket: what the kernel may keep while the proxy is busy. */
  readonly receiveBufferBytes: number;
  /**
   * What the kernel takes for a unix stream before the peer has read it, up to net.core.wmem_max; absent: its own choice
   * (208 KiB). What it has taken leaves, whatever is decided later.
   */
  readonly sendBufferBytes?: number;
  /** Waits between two attempts to open a lost link: doubled from the one to the other. */
  readonly reconnectMsMin: number;
  readonly reconnectMsMax: number;
  readonly connectMsMax: number;
  /** Access mode and group of unix sockets that a `,server` link makes. */
  readonly socketMode?: number;
  readonly socketGroup?: number;
}

export const DEFAULT_MTU_BYTES = 1500;

/** Ethernet header and two VLAN tags: what a frame has beyond the MTU. */
export const FRAME_OVERHEAD_BYTES = 14 + 8;

export const DEFAULT_LINK_OPTIONS: LinkOptions = {
  clock: realClock,
  frameBytesMax: DEFAULT_MTU_BYTES + FRAME_OVERHEAD_BYTES,
  batchFramesMax: 64,
  sendQueueBytesMax: 8 * 1024 * 1024,
  sendQueueFramesMax: 8192,
  receiveBufferBytes: 16 * 1024 * 1024,
  reconnectMsMin: 20,
  reconnectMsMax: 1000,
  connectMsMax: 5000,
};
