import type { MemoryLink } from '../../link/memory-link.js';
import type { Address, ChannelServer, DuplexChannel, Transport } from '../../system/channel.js';
import type { Clock } from '../../system/clock.js';

export type FrameReceiver = (bytes: Buffer, offset: number, length: number) => void;

/** Where a VM's frames come from and go to. A stopped VM reads nothing: what comes waits outside. */
export interface NetworkDevice {
  open(receive: FrameReceiver): Promise<void>;
  /** Queues one frame; never delivers anything within the call. */
  send(frame: Buffer): void;
  pause(): void;
  resume(): void;
  /** Resolves when everything sent has left the VM: a stop is told to the peer only after it. */
  settled(): Promise<void>;
  /** Abruptly, as when the process is killed. */
  close(): void;
}

const LENGTH_BYTES = 4;
/** NET_BUFSIZE of QEMU's net/net.h: what a longer frame would be. */
const FRAME_BYTES_MAX = 4096 + 65_536;

/**
 * QEMU's `-netdev stream,server=on`: each frame behind its be32 length (net/stream.c, net_socket_rs). One peer
 * at a time; after it has left the next may come. Without a peer frames are lost, as in QEMU.
 */
export class StreamNetdev implements NetworkDevice {
  readonly #transport: Transport;
  readonly #address: Address;
  #receive: FrameReceiver = () => {};
  #server: ChannelServer | null = null;
  #peer: DuplexChannel | null = null;
  #paused = false;
  #closed = false;
  #pending: Buffer = Buffer.alloc(0);
  #full = false;
  #drained: (() => void)[] = [];

  constructor(transport: Transport, address: Address) {
    this.#transport = transport;
    this.#address = address;
  }

  async open(receive: FrameReceiver): Promise<void> {
    this.#receive = receive;
    this.#server = await this.#transport.listen(this.#address, (channel) => this.#accept(channel));
    if (this.#closed) await this.#server.close();
  }

  send(frame: Buffer): void {
    if (this.#peer === null) return;
    const bytes = Buffer.allocUnsafe(LENGTH_BYTES + frame.length);
    bytes.writeUInt32BE(frame.length, 0);
    frame.copy(bytes, LENGTH_BYTES);
    this.#full = !this.#peer.write(bytes);
  }

  pause(): void {
    this.#paused = true;
    this.#peer?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#parse();
    if (!this.#paused) this.#peer?.resume();
  }

  settled(): Promise<void> {
    if (!this.#full || this.#peer === null) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  close(): void {
    this.#closed = true;
    void this.#server?.close();
    this.#lose();
  }

  #accept(channel: DuplexChannel): void {
    if (this.#peer !== null || this.#closed) {
      channel.destroy();
      return;
    }
    this.#peer = channel;
    channel.attach({
      data: (chunk) => {
        this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
        this.#parse();
      },
      ended: () => channel.destroy(),
      drained: () => this.#emptied(),
      closed: () => {
        if (this.#peer === channel) this.#lose();
      },
    });
    if (this.#paused) channel.pause();
  }

  #parse(): void {
    let at = 0;
    while (!this.#paused && this.#pending.length - at >= LENGTH_BYTES) {
      const length = this.#pending.readUInt32BE(at);
      if (length > FRAME_BYTES_MAX) {
        this.#lose();
        return;
      }
      if (this.#pending.length - at < LENGTH_BYTES + length) break;
      const start = at + LENGTH_BYTES;
      at = start + length;
      this.#receive(this.#pending, start, length);
    }
    this.#pending = this.#pending.subarray(at);
  }

  #lose(): void {
    const peer = this.#peer;
    this.#peer = null;
    this.#pending = Buffer.alloc(0);
    peer?.destroy();
    this.#emptied();
  }

  #emptied(): void {
    this.#full = false;
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}

type FrameFilter = (bytes: Buffer, offset: number, length: number) => boolean;

/** A VM at one end of a memory link, for a world on a manual clock. */
export class LinkNetdev implements NetworkDevice {
  readonly #link: MemoryLink;
  readonly #clock: Clock;
  readonly #loses: FrameFilter;
  #flushing = false;
  #closed = false;
  #paused = false;
  #stalled = false;

  /** @param loses asked for each frame towards the VM: is it lost on the way? */
  constructor(link: MemoryLink, clock: Clock, loses: FrameFilter = () => false) {
    this.#link = link;
    this.#clock = clock;
    this.#loses = loses;
  }

  open(receive: FrameReceiver): Promise<void> {
    return this.#link.open({
      receive: (batch) => {
        for (let index = 0; index < batch.count; index++) {
          const offset = batch.offsets[index]!;
          const length = batch.lengths[index]!;
          if (!this.#loses(batch.slab, offset, length)) receive(batch.slab, offset, length);
        }
      },
      stateChanged: () => {},
    });
  }

  /** Sees every frame that the link has taken from the VM. */
  onSent: (frame: Buffer) => void = () => {};

  send(frame: Buffer): void {
    if (this.#link.send(frame, 0, frame.length, 0)) this.onSent(frame);
    if (this.#flushing) return;
    this.#flushing = true;
    // Not within this call: what the peer does with the frame may come back to this VM.
    this.#clock.after(0, () => this.#flush());
  }

  pause(): void {
    this.#paused = true;
    this.#link.setReading(false);
  }

  resume(): void {
    this.#paused = false;
    this.#link.setReading(!this.#stalled);
  }

  /** A device that takes nothing for a while though its VM runs. */
  stall(stalled: boolean): void {
    this.#stalled = stalled;
    if (!this.#closed) this.#link.setReading(!stalled && !this.#paused);
  }

  settled(): Promise<void> {
    this.#flush();
    return Promise.resolve();
  }

  close(): void {
    this.#closed = true;
    void this.#link.close();
  }

  #flush(): void {
    this.#flushing = false;
    if (!this.#closed) this.#link.flush();
  }
}
