/**
 * A link is a place frames come from and go to. It knows nothing of flows.
 *
 * Frames arrive in batches: one slab of bytes and columns of numbers, no object per frame. Frames leave by
 * `send` (queued, bytes copied or written before it returns, but for those of receive slabs) and `flush` (one system
 * call for many).
 */
import type { ColoError } from '../errors.js';
import type { FrameBytes } from '../wire/frame-memory.js';

/** Length of struct virtio_net_hdr as TAP and AF_PACKET speak it (linux/virtio_net.h, no num_buffers). */
export const VNET_HEADER_BYTES = 10;
/** 0: no virtio-net header. 10: one lies directly before the frame's first byte. */
export type VnetHeaderBytes = 0 | 10;

/** Frames received together. Valid until `receive` returns; the frames' bytes until `LinkHandler.overwriting` says so. */
export interface FrameBatch {
  readonly slab: FrameBytes;
  /** Where each Ethernet frame starts in the slab; its vnet header, if any, lies at `offsets[i] - vnetHeaderBytes`. */
  readonly offsets: Int32Array;
  /** Length of each Ethernet frame in bytes, without vnet header and FCS. */
  readonly lengths: Int32Array;
  readonly count: number;
  readonly vnetHeaderBytes: VnetHeaderBytes;
}

export interface LinkAbilities {
  /** Frames carry a vnet header both ways; partial checksums may be handed over. */
  readonly vnetHeader: boolean;
  /** Super-frames (GSO) up to 64 KiB may be handed over. Implies vnetHeader. */
  readonly gso: boolean;
  /** Largest Ethernet frame without GSO, in bytes (MTU + 14 + two VLAN tags). */
  readonly frameBytesMax: number;
}

/** Plain numbers, read at scrape time. */
export interface LinkCounters {
  framesReceived: number;
  bytesReceived: number;
  framesSent: number;
  bytesSent: number;
  /** Frames `send` refused or the kernel did not take: queue full, link down, too long. */
  sendDrops: number;
  /** Frames the kernel lost before we read them (PACKET_STATISTICS tp_drops and the like). */
  receiveDrops: number;
  /** Times the link was opened again after a loss. */
  reopens: number;
}

/** `up`: frames flow. `waiting`: the peer or interface is not there yet; the link keeps trying. */
export type LinkState = 'closed' | 'waiting' | 'up';

export interface LinkHandler {
  receive(batch: FrameBatch): void;
  /** Called on every change of state; `reason` when it was lost or could not be opened. */
  stateChanged(state: LinkState, reason?: ColoError): void;
  /**
   * Asked right before queued frames are handed to the kernel, also when that is long after `send` because the peer was
   * slow. False: they are thrown away, and counted.
   */
  maySend?(): boolean;
  /** Is any frame still looked at of those that were received in the slab? None, where it is absent. */
  keeps?(slab: FrameBytes): boolean;
  /** The slab, of an earlier batch, is about to be written to: what is kept of it must be copied now. */
  overwriting?(slab: FrameBytes): void;
}

export interface Link {
  /** The URL it was made from, as shown to people: `packet:tap0`, `stream:unix:/run/x.sock`. */
  readonly url: string;
  readonly abilities: LinkAbilities;
  readonly state: LinkState;
  readonly counters: LinkCounters;

  /**
   * Opens the link and keeps it open: what is lost is reopened, what is absent is waited for. Resolves
   * after the first attempt, whatever came of it; rejects only for what waiting cannot mend (a bad name,
   * no privilege).
   */
  open(handler: LinkHandler): Promise<void>;

  /**
   * Queues one frame for sending and returns true, or counts a sendDrop and returns false. The bytes may be
   * reused by the caller after the call; those that lie in a slab of received frames stay as they are until `flush`. With `vnetHeaderBytes` 10 the header lies before `offset`; a link
   * without that ability completes checksums and segments super-frames itself.
   */
  send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean;

  /** Hands everything queued to the kernel. Called once per batch. */
  flush(): void;

  /**
   * Reads, in this call, everything that has arrived and hands it to the handler. After it returns, nothing
   * that the peer had emitted before the call is left unread (traps T6, T8). Returns the number of frames.
   * From within `receive` of the same link it does nothing and returns 0.
   */
  drain(): number;

  /**
   * Frames given to the link that its peer has not read yet; 0 = the peer has taken everything (T8). Over TCP, and
   * on interfaces that are no TAP of a VM, "taken" means that the kernel on the other side has it.
   */
  untaken(): number;

  /** Throws away what is queued towards the peer but not yet in the kernel. Returns the number of frames. */
  discardQueued(): number;

  /** What it reads and writes; -1 while there is none. Only links that a successor process can take up have it. */
  readonly descriptor?: number;
  /** What undoing the set-up needs, as the link knows it; survives a structured clone. */
  readonly setup?: unknown;
  /**
   * Reads and writes no more, until `resume`: a successor takes it up where it stands, through a copy of `descriptor`.
   * Returns the bytes of a frame of which the rest has not been read. Null: there is nothing to take up, or frames wait
   * to be sent.
   */
  suspend?(): Uint8Array | null;
  /** @param unread what `suspend` returned in another process */
  resume?(unread?: Uint8Array): void;
  /** Lets go of what only one process can have: a lock, an address listened on. After `suspend`. */
  release?(): Promise<void>;
  /**
   * Before `open`, which then takes up what another process has open, suspended, and waits for `secure` with the rest.
   * `descriptor` is of this process; -1: nothing is open, and all of it waits.
   */
  standBy?(descriptor: number, setup: unknown): void;
  /** The other process has released it. Rejects as `open`. */
  secure?(): Promise<void>;

  /** Closes for good, undoing what opening changed (an interface made by us, an isolation rule, a lock). */
  close(): Promise<void>;
}

export function newLinkCounters(): LinkCounters {
  return {
    framesReceived: 0,
    bytesReceived: 0,
    framesSent: 0,
    bytesSent: 0,
    sendDrops: 0,
    receiveDrops: 0,
    reopens: 0,
  };
}
