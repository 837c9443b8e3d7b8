import type { Socket } from 'node:net';
import { adoptStream, type StreamPort } from '../../native/index.js';
import { asColoError, ColoError } from '../errors.js';
import type { FrameBytes } from '../wire/frame-memory.js';
import { CHARDEV_PREFIX_BYTES, ChardevDeframer, ChardevStage, type WireHeader } from './chardev-framing.js';
import { Deframer, FRAME_LENGTH_BYTES, STREAM_FRAME_BYTES_MAX } from './framing.js';
import {
  type Link,
  type LinkAbilities,
  type LinkCounters,
  type LinkHandler,
  type LinkState,
  newLinkCounters,
  VNET_HEADER_BYTES,
  type VnetHeaderBytes,
} from './link.js';
import { type FrameStage, OffloadStage } from './offload.js';
import type { LinkOptions } from './options.js';
import { PassingRun } from './passing-run.js';
import { SendQueue } from './send-queue.js';
import {
  ConnectingEndpoint,
  type EndpointEvents,
  ListeningEndpoint,
  type StreamEndpoint,
} from './stream-endpoint.js';
import { formatLinkUrl, type LinkUrl } from './url.js';

/** Read from the kernel in one go; also the most that is read before other links get their turn. */
const READ_SLAB_BYTES = 512 * 1024;
/** `drain` ends here even when a peer never stops writing: what it had emitted before fits many times. */
const DRAIN_BYTES_BEYOND_UNREAD_MAX = 1024 * 1024;
/** A run that ends is written at once when it is as long; a shorter one is copied, so that few calls write many frames. */
const RUN_BYTES_MIN = 64 * 1024;

/**
 * QEMU's `-netdev stream`, or a chardev of its network filters: no root, no TAP. Node makes the connection; from then on the addon reads and writes
 * its descriptor in large pieces. A peer that breaks the framing loses its connection, nothing else.
 *
 * `untaken` is exact on unix sockets: SIOCOUTQ is 0 exactly when the peer has read everything. Over TCP it
 * means "in the peer's kernel".
 */
export class StreamLink implements Link {
  readonly url: string;
  readonly abilities: LinkAbilities;
  readonly counters: LinkCounters = newLinkCounters();
  /** Peers refused because one was being served. */
  peersRefused = 0;
  readonly #options: LinkOptions;
  /** Of TCP, the kernel finds out for itself how much is good. */
  readonly #sendBufferBytes: number | undefined;
  readonly #endpoint: StreamEndpoint;
  readonly #deframer: Deframer;
  readonly #queue: SendQueue;
  readonly #stage: FrameStage;
  /** Frames behind those of the queue. */
  readonly #run = new PassingRun(() => this.#endRun());
  #handler!: LinkHandler;
  #state: LinkState = 'closed';
  #port: StreamPort | undefined;
  #connections = 0;
  #framesOfConnection = 0;
  #connectedAtMs = 0;
  /** Bytes of the oldest queued frame, length word included, that the kernel has taken already. */
  #partlyWritten = 0;
  #waitingToWrite = false;
  #reading = false;
  #isSuspended = false;
  /** Undefined: this process is the first. */
  #inheritedDescriptor: number | undefined;
  /** Frames written since the peer was last known to have read everything. */
  #sentSinceTaken = 0;

  /** @param wireHeader shared by links whose frames go from one to the other. */
  constructor(
    url: Extract<LinkUrl, { kind: 'stream' | 'chardev' }>,
    options: LinkOptions,
    wireHeader: WireHeader = { bytes: VNET_HEADER_BYTES },
  ) {
    this.#options = options;
    this.url = formatLinkUrl(url);
    const isChardev = url.kind === 'chardev';
    const hasVnetHeader = isChardev && url.vnet;
    const wire = hasVnetHeader ? wireHeader : undefined;
    this.abilities = {
      vnetHeader: hasVnetHeader,
      gso: hasVnetHeader,
      frameBytesMax: isChardev ? STREAM_FRAME_BYTES_MAX : options.frameBytesMax,
    };
    this.#sendBufferBytes = url.address.family === 'unix' ? options.sendBufferBytes : undefined;
    this.#endpoint = url.server
      ? new ListeningEndpoint(url.address, options)
      : new ConnectingEndpoint(url.address, options);
    this.#deframer = isChardev
      ? new ChardevDeframer(READ_SLAB_BYTES, options.batchFramesMax, wire)
      : new Deframer(READ_SLAB_BYTES, options.batchFramesMax);
    this.#queue = new SendQueue({
      prefixBytes: hasVnetHeader ? CHARDEV_PREFIX_BYTES : FRAME_LENGTH_BYTES,
      bytesMax: options.sendQueueBytesMax,
      framesMax: options.sendQueueFramesMax,
    });
    this.#stage =
      wire === undefined
        ? new OffloadStage(this.abilities, this.#queue)
        : new ChardevStage(this.#queue, wire);
  }

  get state(): LinkState {
    return this.#state;
  }

  async open(handler: LinkHandler): Promise<void> {
    this.#handler = handler;
    this.#deframer.batch.keeper = handler;
    this.#state = 'waiting';
    if (this.#inheritedDescriptor === undefined) return this.secure();
    if (this.#inheritedDescriptor >= 0) this.#adopt(this.#inheritedDescriptor);
  }

  async secure(): Promise<void> {
    const events: EndpointEvents = {
      connected: (socket) => this.#connected(socket),
      failed: (error) => this.#handler.stateChanged('waiting', this.#named(error)),
    };
    const isConnected = this.#port !== undefined;
    await this.#endpoint.start(events, isConnected).catch((error) => {
      throw this.#named(error);
    });
    // A server has nothing to report yet: say that it waits.
    if (this.#port === undefined && this.#connections === 0) this.#handler.stateChanged('waiting');
  }

  #connected(socket: Socket): boolean {
    // A peer that closed and came back at once: its end may still be unread.
    if (this.#port) this.#read(READ_SLAB_BYTES);
    if (this.#port) {
      this.peersRefused++;
      return false;
    }
    try {
      this.#port = adoptSocket(socket, this.#sendBufferBytes);
    } catch (error) {
      this.#handler.stateChanged(
        'waiting',
        this.#named(asColoError(error, 'COLO_ERR_LINK_OPEN', 'cannot adopt')),
      );
      return false;
    }
    if (this.#connections++ > 0) this.counters.reopens++;
    this.#framesOfConnection = 0;
    this.#connectedAtMs = this.#options.clock.now();
    this.#deframer.reset();
    this.#port.start(() => this.#read(READ_SLAB_BYTES));
    this.#become('up');
    return true;
  }

  #adopt(descriptor: number): void {
    this.#port = adoptStream(descriptor);
    this.#isSuspended = true;
    this.#connections++;
    this.#connectedAtMs = this.#options.clock.now();
    this.#become('up');
  }

  get descriptor(): number {
    return this.#port?.fd ?? -1;
  }

  suspend(): Uint8Array | null {
    this.flush();
    const port = this.#port;
    if (port === undefined || this.#waiting > 0) return null;
    this.#isSuspended = true;
    port.stop();
    return Buffer.from(this.#deframer.partial);
  }

  resume(unread?: Uint8Array): void {
    this.#isSuspended = false;
    if (unread !== undefined) {
      this.#deframer.slab.set(unread, this.#deframer.fill);
      this.#deframer.filled(unread.length);
    }
    this.#port?.start(() => this.#read(READ_SLAB_BYTES));
  }

  release(): Promise<void> {
    return this.#endpoint.close();
  }

  standBy(descriptor: number): void {
    this.#inheritedDescriptor = descriptor;
  }

  #become(state: LinkState, reason?: ColoError): void {
    this.#state = state;
    this.#handler.stateChanged(state, reason);
  }

  #named(error: ColoError): ColoError {
    return new ColoError(error.code, `${this.url}: ${error.message}`, { cause: error.cause ?? error });
  }

  /** Reads until nothing is left, the connection is lost, or `bytesMax` have been read. */
  #read(bytesMax: number): number {
    const port = this.#port;
    if (!port || this.#reading || this.#isSuspended) return 0;
    this.#reading = true;
    let frames = 0;
    let left = bytesMax;
    try {
      while (left > 0 && this.#port === port) {
        this.#deframer.makeRoom();
        const { room } = this.#deframer;
        const read = this.#readOnce(port);
        if (read <= 0) break;
        left -= read;
        frames += this.#deliver(port);
        // a short read has emptied the socket
        if (read < room) break;
      }
    } finally {
      this.#reading = false;
    }
    return frames;
  }

  /** Bytes read into the deframer; 0 when the connection is over, -1 when nothing waits. */
  #readOnce(port: StreamPort): number {
    let read = 0;
    try {
      read = port.read(this.#deframer.slab, this.#deframer.fill, this.#deframer.room);
    } catch (error) {
      this.#lose(asColoError(error, 'COLO_ERR_LINK_LOST', 'reading failed'));
      return 0;
    }
    if (read > 0) this.#deframer.filled(read);
    else if (read === 0) this.#lose(this.#endOfPeer());
    return read;
  }

  #endOfPeer(): ColoError {
    const partial = this.#deframer.partialBytes;
    const where = partial > 0 ? ` in the middle of a frame (${partial} bytes of it had come)` : '';
    return new ColoError('COLO_ERR_LINK_LOST', `the peer closed the connection${where}`);
  }

  #deliver(port: StreamPort): number {
    const { counters } = this;
    const { batch } = this.#deframer;
    let frames = 0;
    while (this.#port === port) {
      let count = 0;
      try {
        count = this.#deframer.nextBatch();
      } catch (error) {
        this.#lose(asColoError(error, 'COLO_ERR_LINK_FRAMING', 'framing'));
        break;
      }
      if (count === 0) break;
      counters.bytesReceived += batch.bytes;
      counters.framesReceived += count;
      this.#framesOfConnection += count;
      frames += count;
      this.#handler.receive(batch);
    }
    return frames;
  }

  #lose(reason: ColoError): void {
    const port = this.#port;
    if (!port) return;
    this.#port = undefined;
    port.close();
    this.counters.sendDrops += this.#waiting;
    this.#queue.clear();
    this.#run.clear();
    this.#partlyWritten = 0;
    this.#waitingToWrite = false;
    this.#sentSinceTaken = 0;
    this.#endpoint.connectionEnded(this.#wasUseful(reason));
    this.#become('waiting', this.#named(reason));
  }

  /** Whether to connect again at once: not to a peer that talks nonsense or hangs up at the door. */
  #wasUseful(reason: ColoError): boolean {
    if (reason.code === 'COLO_ERR_LINK_FRAMING') return false;
    const lastedMs = this.#options.clock.now() - this.#connectedAtMs;
    return this.#framesOfConnection > 0 || lastedMs > this.#options.reconnectMsMax;
  }

  /** Frames that the kernel has not taken whole. */
  get #waiting(): number {
    return this.#queue.count + this.#run.frames;
  }

  send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    if (this.#port && this.#take(bytes, offset, length, vnetHeaderBytes)) return true;
    this.counters.sendDrops++;
    return false;
  }

  #take(bytes: FrameBytes, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    const run = this.#run;
    const passes =
      vnetHeaderBytes === 0 && !this.abilities.vnetHeader && length <= this.abilities.frameBytesMax;
    if (run.frames > 0) {
      if (passes && run.goesOn(bytes, offset, length)) return true;
      this.#endRun();
    }
    if (passes && this.#queue.count === 0 && run.begins(bytes, offset, length)) return true;
    return this.#stage.queue(bytes, offset, length, vnetHeaderBytes);
  }

  #endRun(): void {
    if (this.#run.bytes >= RUN_BYTES_MIN) this.flush();
    this.counters.sendDrops += this.#run.moveTo(this.#queue);
  }

  flush(): void {
    if (!this.#waitingToWrite) this.#write();
  }

  #write(): void {
    this.#waitingToWrite = false;
    try {
      while (this.#port && this.#waiting > 0) {
        if (this.#handler.maySend?.() === false) {
          this.counters.sendDrops += this.discardQueued();
          if (this.#waiting === 0) return;
        }
        const written = this.#queue.count > 0 ? this.#writeQueue(this.#port) : this.#writeRun(this.#port);
        if (written > 0) continue;
        this.#waitingToWrite = true;
        this.#port.wantWritable(() => this.#write());
        return;
      }
    } catch (error) {
      this.#lose(asColoError(error, 'COLO_ERR_LINK_LOST', 'writing failed'));
    }
  }

  /** Bytes written; 0 when the kernel takes no more for now. */
  #writeQueue(port: StreamPort): number {
    const queue = this.#queue;
    const before = queue.bytes;
    const length = before - this.#partlyWritten;
    const written = port.write(queue.slab, queue.startOffset + this.#partlyWritten, length);
    const given = this.#partlyWritten + written;
    const frames = queue.dropBytes(given);
    this.#sent(frames, before - queue.bytes, given);
    return written;
  }

  #writeRun(port: StreamPort): number {
    const run = this.#run;
    const before = run.bytes;
    const given = port.write(run.slab!, run.start, before);
    const frames = run.written(given);
    this.#sent(frames, before - run.bytes, given);
    // the kernel has the beginning of a frame: the rest of it must follow, whatever becomes of the slab
    if (run.frames > 0) this.counters.sendDrops += run.moveTo(this.#queue);
    return given;
  }

  /** Of `given` bytes, `bytes` are whole frames: the rest is of the next one. */
  #sent(frames: number, bytes: number, given: number): void {
    this.counters.framesSent += frames;
    this.counters.bytesSent += bytes - frames * this.#queue.prefixBytes;
    this.#sentSinceTaken += frames;
    this.#partlyWritten = given - bytes;
  }

  drain(): number {
    if (!this.#port) return 0;
    return this.#read(this.#port.unreadBytes() + DRAIN_BYTES_BEYOND_UNREAD_MAX);
  }

  untaken(): number {
    if (!this.#port) return 0;
    if (this.#partlyWritten === 0 && this.#port.unsentBytes() === 0) this.#sentSinceTaken = 0;
    return this.#sentSinceTaken + this.#waiting;
  }

  /** A frame that the kernel has in part stays: the peer must get the rest of it. */
  discardQueued(): number {
    const before = this.#waiting;
    this.#run.clear();
    this.#queue.truncate(this.#partlyWritten > 0 ? 1 : 0);
    return before - this.#waiting;
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const port = this.#port;
    this.#port = undefined;
    port?.close();
    this.#queue.clear();
    this.#run.clear();
    this.#become('closed');
    await this.#endpoint.close();
  }
}

/** The connection goes on under a descriptor of our own; Node's object is thrown away unused. */
function adoptSocket(socket: Socket, sendBufferBytes: number | undefined): StreamPort {
  const handle = (socket as unknown as { _handle?: { fd?: number } })._handle;
  socket.setKeepAlive(true, 5000);
  const port = adoptStream(handle?.fd ?? -1);
  if (sendBufferBytes !== undefined) port.setSendBuffer(sendBufferBytes);
  socket.destroy();
  return port;
}
