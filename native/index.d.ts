/**
 * The native addon's contract: the system calls that TypeScript cannot make, and byte kernels. It decides
 * nothing. Every call is non-blocking and synchronous; offsets and lengths are checked against the buffers
 * (RangeError), wrong types throw TypeError, what the kernel refuses throws a NativeError.
 */

/** What the kernel refused. `errno` is negative, as in Node's own errors. */
export interface NativeError extends Error {
  /** `EPERM`, `ENETDOWN`, `EBUSY` ... */
  readonly code: string;
  readonly errno: number;
  /** The call or request that failed: `TUNSETIFF`, `bind`, `recvmmsg` ... */
  readonly syscall: string;
  /** The interface it was about, when there is one. */
  readonly interface?: string;
}

/** Why the addon could not be loaded; while set, every function below throws it. */
export const loadError: Error | undefined;

/** Bytes of every receive slot that are not frame: room for a vnet header and one VLAN tag put back. */
export const SLOT_OVERHEAD_BYTES: 16;
/** struct virtio_net_hdr as TAP and AF_PACKET speak it, always little-endian here (linux/virtio_net.h). */
export const VNET_HEADER_BYTES: 10;
/** Packet sockets of one thread that are being closed in other threads; one more is closed by the caller, who waits. */
export const CLOSES_ASIDE_MAX: 16;

/** Called from the event loop. What it throws becomes an uncaughtException of the thread, as in Node. */
export type ReadyCallback = () => void;

/** Readiness of one descriptor (uv_poll, level triggered). A started port keeps its event loop alive. */
export interface Port {
  /** -1 once closed. */
  readonly fd: number;
  /**
   * Calls `onReadable` whenever there is something to read, or an error to be thrown by the next read. After
   * an error that does not go away (the interface is gone) polling stops; `start` again to resume. Calling it
   * again replaces the callback.
   */
  start(onReadable: ReadyCallback): void;
  /** Calls `onWritable` once, when the kernel takes more. With or without `start`. */
  wantWritable(onWritable: ReadyCallback): void;
  /** Ends both; may be called from a callback. */
  stop(): void;
  /**
   * Stops and closes the descriptor. Idempotent; every other call then throws EBADF. The kernel makes the closing of a
   * packet socket wait (tens of milliseconds): another thread does that, a little later (CLOSES_ASIDE_MAX), and the
   * process or worker does not end before it is done.
   */
  close(): void;
}

export interface FrameStatistics {
  /** Frames the kernel had for this port since it was opened, dropped ones included (sockets only; else 0). */
  packets: number;
  /** Of those, lost because the receive buffer was full (sockets only). */
  drops: number;
  /** Frames longer than their slot: dropped here, never passed on in part. */
  truncated: number;
  /** Frames the kernel could not describe in a vnet header (a GSO type virtio does not know): lost. */
  undescribable: number;
  /** Frames `send` skipped because the kernel refused that frame (EMSGSIZE, EINVAL ...). */
  sendErrors: number;
  /** Code of the latest of those, '' when there was none. */
  lastSendError: string;
}

/** A TAP whose character device we hold, or an AF_PACKET socket: both move whole Ethernet frames. */
export interface FramePort extends Port {
  readonly interface: string;
  readonly interfaceIndex: number;
  /** Frames carry a vnet header both ways: 10, or 0. */
  readonly vnetHeaderBytes: 0 | 10;
  /**
   * Receives up to `maxFrames` frames. Slot k is `slab[k * slotBytes, (k + 1) * slotBytes)`; its frame starts at
   * `offsets[k]` with its vnet header, if the port has them, in the 10 bytes before. A VLAN tag the kernel had
   * taken out is back in the frame. Frames longer than `slotBytes - SLOT_OVERHEAD_BYTES` are dropped and
   * counted. The k-th frame received lies in slot k.
   *
   * Returns the number of frames; 0 means that nothing was left waiting (unless more than 1,024 unusable frames were
   * dropped on the way). It ends with the frame that makes it 256 KiB. Throws ENETDOWN once when the interface went
   * down.
   */
  receive(
    slab: Uint8Array,
    offsets: Int32Array,
    lengths: Int32Array,
    slotBytes: number,
    maxFrames: number,
  ): number;
  /**
   * Sends frames `first` to `first + count - 1` of the columns, in order. With `vnetHeaderBytes` 10 (only on a
   * port that has vnet headers) one lies before each offset; with 0 a port with vnet headers sends an empty one.
   *
   * Returns how many frames are done with, from the front: taken by the kernel, or refused for what they are
   * (skipped, counted in `sendErrors`). Fewer than `count`: the kernel's queue is full (EAGAIN, ENOBUFS); go on
   * with the rest later. Throws when the interface is down or gone (ENETDOWN, ENXIO, EIO, EBADFD); frames
   * before that point are returned first, and the next call throws.
   */
  send(
    slab: Uint8Array,
    offsets: Int32Array,
    lengths: Int32Array,
    vnetHeaderBytes: 0 | 10,
    first: number,
    count: number,
  ): number;
  /** A fresh object with totals since opening. For scraping, not per frame. */
  statistics(): FrameStatistics;
}

export interface TapOptions {
  /** At most 15 bytes; `%d` in it lets the kernel choose a number (see FramePort.interface). */
  name: string;
  /** Frames carry vnet headers (IFF_VNET_HDR). Default false. */
  vnetHeader?: boolean;
  /** One queue of a multi-queue TAP; a TAP is multi-queue or not for life (else EINVAL). Default false. */
  multiQueue?: boolean;
  /** The TAP outlives its holder. Default false. */
  persistent?: boolean;
  /** Users and group that may open it without CAP_NET_ADMIN. */
  owner?: number;
  group?: number;
  /** Do not create it: ENODEV when there is none. Default false. */
  mustExist?: boolean;
  /**
   * Offloads that the holder takes (TUNSETOFFLOAD; needs vnetHeader): partial checksums, and with `gso` TCPv4
   * and TCPv6 super-frames with ECN. Default 'none'.
   */
  offload?: 'none' | 'checksum' | 'gso';
}

/** Opens the TAP's character device, creating the interface (down, unconfigured) unless told not to. */
export function openTap(options: TapOptions): FramePort;

/**
 * Makes sure that a persistent TAP of that name exists, with owner and group set, and lets go of it, so that
 * QEMU can open it. `created` is false when it was there before. EBUSY: somebody holds it (a single-queue TAP).
 */
export function createPersistentTap(options: Pick<TapOptions, 'name' | 'multiQueue' | 'owner' | 'group'>): {
  name: string;
  created: boolean;
};

/** Makes the TAP non-persistent: it is gone at once, or when its last holder closes it. ENODEV, EBUSY, EINVAL. */
export function removeTap(name: string): void;

export interface PacketSocketOptions {
  interface: string;
  /** Also see frames for other MAC addresses, for as long as the socket is open. Default false. */
  promiscuous?: boolean;
  /**
   * Frames carry vnet headers: partial checksums and super-frames pass both ways. Default false, and then a
   * frame that came with a partial checksum or as a super-frame is handed over as it is, without a mark.
   */
  vnetHeader?: boolean;
  /** Forced past the system's limit when privileged, else as much as allowed: see FramePort.receiveBufferBytes. */
  receiveBufferBytes: number;
  sendBufferBytes?: number;
  /**
   * Hand frames straight to the driver (PACKET_QDISC_BYPASS): a full TAP queue then answers ENOBUFS instead of
   * dropping silently; but a super-frame that the driver would need segmented gets ENOBUFS for ever: only for
   * frames without GSO, or a TAP whose holder takes it. Default false.
   */
  bypassQueue?: boolean;
}

export interface PacketPort extends FramePort {
  /** The receive buffer that the kernel granted, in its own accounting (SO_RCVBUF, twice the bytes asked). */
  readonly receiveBufferBytes: number;
}

/** AF_PACKET socket on one interface; our own outgoing frames are not seen (PACKET_IGNORE_OUTGOING). */
export function openPacketSocket(options: PacketSocketOptions): PacketPort;

/**
 * Takes over a copy (dup) of a TAP's or packet socket's descriptor that an earlier process has opened, as it was set up:
 * `vnetHeader` must be what it was. What it had not read is still there. ENODEV: it belongs to another interface.
 */
export function adoptTap(options: { fd: number; name: string; vnetHeader: boolean }): FramePort;
export function adoptPacketSocket(options: { fd: number; interface: string; vnetHeader: boolean }): FramePort;

/** A connected stream socket. */
export interface StreamPort extends Port {
  /** Bytes read into `buffer[offset, offset + length)`; 0 at the peer's end, -1 when nothing is there yet. */
  read(buffer: Uint8Array, offset: number, length: number): number;
  /** Bytes taken; 0 when the kernel takes nothing now. EPIPE, ECONNRESET. */
  write(buffer: Uint8Array, offset: number, length: number): number;
  /** The peer is told that no more comes (shutdown of the writing half); it may still send. ENOTCONN: it is gone. */
  finish(): void;
  /**
   * SIOCOUTQ: 0 exactly when the peer has read everything (unix socket; for TCP: its kernel has acknowledged
   * everything). Other values count memory on unix sockets, not bytes.
   */
  unsentBytes(): number;
  /** FIONREAD: bytes waiting to be read. */
  unreadBytes(): number;
  /** SO_SNDBUF: how much the kernel takes before the peer has read it, up to net.core.wmem_max. */
  setSendBuffer(bytes: number): void;
}

/**
 * Takes over a copy (dup) of a connected unix or TCP stream socket's descriptor, non-blocking, TCP_NODELAY on
 * TCP. Pause the net.Socket first, adopt, then destroy it: the connection stays. ENOTSOCK, EPROTOTYPE.
 */
export function adoptStream(fd: number): StreamPort;

/** A raw netlink socket; messages are made and read by the caller. */
export interface NetlinkPort extends Port {
  /** Sends one datagram to the kernel. */
  send(message: Uint8Array): void;
  /**
   * One datagram from the kernel into `buffer`: its length, or -1 when none waits. ENOBUFS: messages were lost,
   * ask for the whole state again. EMSGSIZE: it did not fit and is lost.
   */
  receive(buffer: Uint8Array): number;
}

/**
 * Of this thread's event loop: for so many microseconds after a port had something to be read, the loop asks for events
 * without sleeping. 0, as at first: it sleeps at once.
 */
export function setBusyPoll(us: number): void;

export interface NetlinkOptions {
  /** Default 'route'. */
  protocol?: 'route' | 'netfilter' | 'generic';
  /** Bit mask of multicast groups (RTMGRP_LINK = 1 ...). Default 0. */
  groups?: number;
}
export function openNetlink(options: NetlinkOptions): NetlinkPort;

/**
 * Index, counted from the ranges' starts, of the first byte in which a[aOffset, +length) and b[bOffset, +length)
 * differ; -1 when they are equal.
 */
export function firstDifference(
  a: Uint8Array,
  aOffset: number,
  b: Uint8Array,
  bOffset: number,
  length: number,
): number;

/**
 * One's complement sum (RFC 1071) of the range as big-endian 16-bit words, an odd last byte padded with zero,
 * added to `initial` and folded to 16 bits. Not inverted.
 */
export function sum16(buffer: Uint8Array, offset: number, length: number, initial: number): number;

/** Sends one datagram (`READY=1`, `WATCHDOG=1` ...) to the service manager's socket; `@` starts an abstract name. */
export function notifySystemd(socketPath: string, text: string): void;

/**
 * Becomes another program (execve(2)) that has, and can ever get, no capabilities but the kept ones: bit n of the 64 is
 * capability n (linux/capability.h). `words`: program and arguments; environment and standard streams stay. Returns only
 * by throwing.
 */
export function executeConfined(keptLow: number, keptHigh: number, words: readonly string[]): never;

/**
 * TCP_QUICKACK: what has arrived on this TCP socket is acknowledged now, not up to 40 ms later. The kernel goes
 * back to delaying by itself: to be called again after every read. EBADF, ENOTSOCK, EOPNOTSUPP (not TCP).
 */
export function acknowledgeAtOnce(fd: number): void;
