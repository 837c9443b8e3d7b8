import type { FramePort } from '../../native/index.js';
import { asColoError, ColoError } from '../errors.js';
import type { Timer } from '../system/clock.js';
import { Backoff } from './backoff.js';
import { FramePump } from './frame-pump.js';
import { InterfaceLock } from './interface-lock.js';
import {
  type Link,
  type LinkAbilities,
  type LinkCounters,
  type LinkHandler,
  type LinkState,
  newLinkCounters,
  type VnetHeaderBytes,
} from './link.js';
import { FRAME_OVERHEAD_BYTES, type LinkOptions } from './options.js';
import { InterfaceMonitor, Rtnetlink } from './rtnetlink.js';
import { InterfaceFlag, type InterfaceInfo } from './rtnetlink-codec.js';

/** How often the kernel's drop counters are brought into the link's. */
const STATISTICS_PERIOD_MS = 1000;
/** Waits between looks at a queue that a VM does not empty: doubled from the one to the other. */
const ROOM_RETRY_MS_MIN = 1;
const ROOM_RETRY_MS_MAX = 16;

/** From this length on, a system call costs less than a copy into the queue and what the copy drives out of the caches. */
const AT_ONCE_BYTES_MIN = 8 * 1024;

/** Errors that waiting cannot mend when the link is first opened. */
const PERMANENT_CODES: ReadonlySet<string> = new Set([
  'COLO_ERR_TAP_OPEN',
  'COLO_ERR_TAP_IN_USE',
  'COLO_ERR_TAP_ISOLATE',
]);

/** The system says that a privilege is missing. */
const PRIVILEGE_CODES: ReadonlySet<string> = new Set(['EPERM', 'EACCES']);

function isPermanent(error: ColoError): boolean {
  const cause = error.cause as { code?: string } | undefined;
  return PERMANENT_CODES.has(error.code) || PRIVILEGE_CODES.has(cause?.code ?? '');
}

/**
 * A link over a network interface of this host, found by name. Whatever happens to the interface (down, gone,
 * back under another index, carrier lost) is learnt from rtnetlink, looked at again as a whole, and followed.
 */
export abstract class InterfaceLink implements Link {
  readonly url: string;
  readonly counters: LinkCounters = newLinkCounters();
  protected readonly options: LinkOptions;
  protected readonly interfaceName: string;
  protected readonly pump: FramePump;
  #abilities: LinkAbilities;
  #rtnetlink: Rtnetlink | undefined;
  #handler!: LinkHandler;
  #state: LinkState = 'closed';
  #closed = false;
  #reason: string | undefined;
  #lock: InterfaceLock | undefined;
  #monitor: InterfaceMonitor | undefined;
  #statisticsTimer: Timer | undefined;
  #retry: Backoff;
  #roomTimer: Timer | undefined;
  #roomRetryMs = ROOM_RETRY_MS_MIN;
  #opens = 0;
  #info: InterfaceInfo | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #standsBy = false;

  protected constructor(url: string, interfaceName: string, options: LinkOptions) {
    this.url = url;
    this.interfaceName = interfaceName;
    this.options = options;
    this.#abilities = { vnetHeader: true, gso: true, frameBytesMax: options.frameBytesMax };
    this.#retry = new Backoff(options);
    this.pump = new FramePump(this.#abilities, options, this.counters, {
      receive: (batch) => this.#handler.receive(batch),
      broken: (error) => this.#broken(error),
      writable: () => this.flush(),
    });
  }

  /** Makes the interface ready, before each look at it; cheap when nothing is to be done. */
  protected abstract prepare(rtnetlink: Rtnetlink): Promise<void>;
  /** True when closing the port would take the interface away. */
  protected abstract readonly keepsPortWhileDown: boolean;
  protected abstract openPort(info: InterfaceInfo): FramePort;
  /** Undoes `prepare`, once the port is closed. */
  protected abstract restore(rtnetlink: Rtnetlink): Promise<void>;
  /** The interface was looked at, with the port open; `isNew`: the port was opened just now. */
  protected abstract observed(info: InterfaceInfo, isNew: boolean): void;
  /** How many of `wanted` frames may be handed to the kernel now; 0: ask again soon. */
  protected abstract room(wanted: number): number;
  protected abstract handedOver(frames: number): void;
  /** Frames in the kernel that the peer has not read. */
  protected abstract unread(): number;

  get abilities(): LinkAbilities {
    return this.#abilities;
  }

  get state(): LinkState {
    return this.#state;
  }

  get descriptor(): number {
    return this.pump.port?.fd ?? -1;
  }

  suspend(): Uint8Array | null {
    this.flush();
    if (this.#state !== 'up' || this.pump.port === undefined || this.pump.queue.count > 0) return null;
    this.pump.suspend();
    return new Uint8Array();
  }

  resume(): void {
    this.pump.resume();
  }

  async release(): Promise<void> {
    await this.#lock?.release();
    this.#lock = undefined;
  }

  standBy(descriptor: number, setup: unknown): void {
    this.#standsBy = true;
    if (descriptor < 0) return;
    this.pump.suspend();
    this.inherit(descriptor, setup);
  }

  /** What undoing `prepare` needs. */
  abstract readonly setup: unknown;
  /** What `prepare` and `openPort` would make is there. */
  protected abstract inherit(descriptor: number, setup: unknown): void;

  /** Of the interface, as last seen; false while it is absent. */
  get carrier(): boolean {
    return this.#info?.carrier ?? false;
  }

  protected get rtnetlink(): Rtnetlink {
    this.#rtnetlink ??= new Rtnetlink();
    return this.#rtnetlink;
  }

  async open(handler: LinkHandler): Promise<void> {
    this.#handler = handler;
    this.pump.keeper = handler;
    this.#state = 'waiting';
    if (!this.#standsBy) return this.secure();
    if (this.pump.isSuspended) await this.#lookOnce();
  }

  async secure(): Promise<void> {
    try {
      this.#lock = await InterfaceLock.acquire(this.interfaceName, this.url);
      await this.#lookOnce();
    } catch (error) {
      const known = asColoError(error, 'COLO_ERR_LINK_OPEN', this.url);
      if (isPermanent(known)) {
        await this.close().catch(() => {}); // the first error is the one to tell
        throw known;
      }
      this.#failed(known);
    }
    if (this.#closed) return;
    this.#statisticsTimer = this.options.clock.every(STATISTICS_PERIOD_MS, () => this.pump.countDrops());
    this.#monitor = new InterfaceMonitor(
      (link) => link.name === this.interfaceName || link.index === this.#info?.index || this.isRelated(link),
      () => this.#look(),
    );
    this.#look(); // what changed before the monitor was there
  }

  /** The MTU that the other end may use. */
  protected mtuBytesOf(info: InterfaceInfo): number {
    return info.mtuBytes;
  }

  /** Other interfaces whose changes matter: a bridge to join. */
  protected isRelated(_link: InterfaceInfo): boolean {
    return false;
  }

  /** Looks at the interface; one look at a time, and another when something changed meanwhile. */
  #look(): void {
    this.#lookAgain = true;
    if (this.#looking || this.#closed) return;
    this.#looking = this.#lookUntilSettled();
  }

  async #lookUntilSettled(): Promise<void> {
    while (this.#lookAgain && !this.#closed) {
      this.#lookAgain = false;
      try {
        await this.#lookOnce();
      } catch (error) {
        this.#failed(asColoError(error, 'COLO_ERR_LINK_OPEN', this.url));
      }
    }
    this.#looking = undefined;
  }

  #failed(error: ColoError): void {
    if (this.#closed) return;
    this.#waitFor(error.message, error);
    this.#retry.schedule(() => this.#look());
  }

  async #lookOnce(): Promise<void> {
    const held = this.pump.port;
    if (held && this.rtnetlink.interface(this.interfaceName)?.index !== held.interfaceIndex)
      this.#closePort();
    await this.prepare(this.rtnetlink);
    if (this.#closed) return;
    const info = this.rtnetlink.interface(this.interfaceName);
    this.#info = info;
    const isUp = info !== undefined && (info.flags & InterfaceFlag.UP) !== 0;
    if (info?.index !== this.pump.port?.interfaceIndex || (!isUp && !this.keepsPortWhileDown))
      this.#closePort();
    if (!info) return this.#waitFor('the interface does not exist');
    if (!isUp) return this.#waitFor('the interface is down');
    const isNew = !this.pump.port;
    if (isNew) this.#openPort(info);
    this.#updateAbilities(info);
    this.observed(info, isNew);
    this.#retry.reset();
    this.#retry.cancel();
    if (!info.carrier) return this.#waitFor('the interface has no carrier: nobody is at its other end');
    this.#become('up');
  }

  #openPort(info: InterfaceInfo): void {
    this.pump.attach(this.openPort(info));
    if (this.#opens++ > 0) this.counters.reopens++;
  }

  /** What had arrived before the loss is still handed over. */
  #closePort(): void {
    this.pump.drain();
    this.pump.detach();
  }

  #broken(error: Error): void {
    if (!this.keepsPortWhileDown) this.pump.detach();
    const reason = asColoError(error, 'COLO_ERR_LINK_LOST', this.url);
    if (this.#state === 'up') this.#waitFor(reason.message, reason);
    this.#retry.schedule(() => this.#look());
  }

  #updateAbilities(info: InterfaceInfo): void {
    const frameBytesMax = this.mtuBytesOf(info) + FRAME_OVERHEAD_BYTES;
    if (frameBytesMax === this.#abilities.frameBytesMax) return;
    this.#abilities = { ...this.#abilities, frameBytesMax };
    this.pump.offload.abilities = { ...this.pump.offload.abilities, frameBytesMax };
  }

  #waitFor(what: string, error?: ColoError): void {
    if (this.#closed || (this.#state === 'waiting' && this.#reason === what)) return;
    const code = this.#opens > 0 ? 'COLO_ERR_LINK_LOST' : 'COLO_ERR_LINK_OPEN';
    this.#reason = what;
    if (this.#state === 'up') this.counters.sendDrops += this.discardQueued();
    this.#state = 'waiting';
    this.#handler.stateChanged('waiting', error ?? new ColoError(code, `${this.url}: ${what}`));
  }

  #become(state: LinkState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#reason = undefined;
    this.#handler.stateChanged(state);
  }

  send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    if (length >= AT_ONCE_BYTES_MIN && this.#sendAtOnce(bytes, offset, length, vnetHeaderBytes)) return true;
    if (this.#state === 'up' && this.pump.offload.queue(bytes, offset, length, vnetHeaderBytes)) return true;
    this.counters.sendDrops++;
    return false;
  }

  /** Behind what is queued, and without a copy. False: nothing was done with it. */
  #sendAtOnce(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    const { pump } = this;
    if (this.#state !== 'up' || !pump.offload.passes(bytes, offset, length, vnetHeaderBytes)) return false;
    this.flush();
    if (pump.queue.count > 0 || this.#handler.maySend?.() === false || this.room(1) === 0) return false;
    if (!pump.writeOne(bytes, offset, length)) return false;
    this.handedOver(1);
    return true;
  }

  flush(): void {
    for (;;) {
      const wanted = this.pump.queue.count;
      if (wanted === 0) break;
      if (this.#handler.maySend?.() === false) {
        this.counters.sendDrops += this.discardQueued();
        break;
      }
      const room = this.room(wanted);
      if (room === 0) {
        this.#retryRoom();
        return;
      }
      const taken = this.pump.write(room);
      this.handedOver(taken);
      if (taken < room) return; // the kernel's queue is full: the pump calls again
    }
    this.#roomRetryMs = ROOM_RETRY_MS_MIN;
  }

  #retryRoom(): void {
    if (this.#roomTimer) return;
    this.#roomTimer = this.options.clock.after(this.#roomRetryMs, () => {
      this.#roomTimer = undefined;
      this.flush();
    });
    this.#roomRetryMs = Math.min(2 * this.#roomRetryMs, ROOM_RETRY_MS_MAX);
  }

  drain(): number {
    return this.pump.drain();
  }

  untaken(): number {
    return this.#state === 'up' ? this.unread() + this.pump.queue.count : 0;
  }

  discardQueued(): number {
    const frames = this.pump.queue.count;
    this.pump.queue.clear();
    return frames;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#retry.cancel();
    this.#roomTimer?.cancel();
    this.#statisticsTimer?.cancel();
    this.#monitor?.close();
    await this.#looking;
    this.pump.detach();
    try {
      await this.restore(this.rtnetlink);
    } finally {
      await this.#lock?.release();
      this.#rtnetlink?.close();
      this.#state = 'closed';
      this.#handler?.stateChanged('closed');
    }
  }
}
