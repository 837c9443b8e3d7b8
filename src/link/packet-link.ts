import { adoptPacketSocket, type FramePort, type NativeError, openPacketSocket } from '../../native/index.js';
import { ColoError } from '../errors.js';
import { EthtoolFeatures } from './ethtool-features.js';
import { InterfaceLink } from './interface-link.js';
import type { LinkOptions } from './options.js';
import type { Rtnetlink } from './rtnetlink.js';
import type { InterfaceInfo } from './rtnetlink-codec.js';
import { TapBacklog } from './tap-backlog.js';
import { TapSetup, type TapSetupOptions, type TapSetupState } from './tap-setup.js';
import { vmMtuBytes } from './vm-mtu.js';

/** Kept by the kernel for a slow driver before it says EAGAIN. */
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;

/**
 * The host's side of an interface, by AF_PACKET: a VM's TAP whose character device QEMU holds, or any other.
 * With a `setup` the interface is first made the proxy's alone (`--primary-tap`).
 *
 * On a TAP `untaken` tells what its holder has not read, and frames beyond what the TAP's queue holds wait in
 * the proxy. On other interfaces a frame counts as taken once the kernel has it.
 */
export class PacketLink extends InterfaceLink {
  readonly #setupOptions: TapSetupOptions | undefined;
  #setup: TapSetup | undefined;
  #backlog: TapBacklog | undefined;
  #ethtool: EthtoolFeatures | undefined;
  #carrierLosses = 0;
  #inheritedDescriptor = -1;
  #inheritedSetup: unknown = null;

  constructor(interfaceName: string, options: LinkOptions, setup?: TapSetupOptions) {
    super(`packet:${interfaceName}`, interfaceName, options);
    this.#setupOptions = setup;
  }

  protected async prepare(rtnetlink: Rtnetlink): Promise<void> {
    if (!this.#setupOptions) return;
    if (this.#setup === undefined) {
      this.#setup = new TapSetup(this.#setupOptions, rtnetlink);
      if (this.#inheritedSetup !== null) this.#setup.inherit(this.#inheritedSetup as TapSetupState);
    }
    await this.#setup.prepare();
  }

  protected readonly keepsPortWhileDown = false;

  get setup(): TapSetupState | null {
    return this.#setup?.state ?? null;
  }

  protected inherit(descriptor: number, setup: unknown): void {
    this.#inheritedDescriptor = descriptor;
    this.#inheritedSetup = setup;
  }

  protected override mtuBytesOf(info: InterfaceInfo): number {
    return vmMtuBytes(info.mtuBytes, info.alias);
  }

  protected async restore(): Promise<void> {
    this.#ethtool?.close();
    await this.#setup?.undo();
  }

  protected openPort(_info: InterfaceInfo): FramePort {
    const fd = this.#inheritedDescriptor;
    this.#inheritedDescriptor = -1;
    if (fd >= 0) return adoptPacketSocket({ fd, interface: this.interfaceName, vnetHeader: true });
    try {
      return openPacketSocket({
        interface: this.interfaceName,
        promiscuous: true,
        vnetHeader: true,
        receiveBufferBytes: this.options.receiveBufferBytes,
        sendBufferBytes: SEND_BUFFER_BYTES,
      });
    } catch (error) {
      const { code, message } = error as NativeError;
      const cure =
        code === 'EPERM' ? ': CAP_NET_RAW is needed, run as root or give the service that capability' : '';
      throw new ColoError('COLO_ERR_LINK_OPEN', `${this.url}: ${message}${cure}`, { cause: error });
    }
  }

  protected observed(info: InterfaceInfo, isNew: boolean): void {
    if (isNew) this.#backlog = info.kind === 'tun' ? this.#newBacklog(info) : undefined;
    // A new holder of the TAP starts with an empty queue.
    if (info.carrierLosses !== this.#carrierLosses) this.#backlog?.reset();
    this.#carrierLosses = info.carrierLosses;
    if (this.#backlog) {
      this.#ethtool ??= new EthtoolFeatures();
      this.pump.offload.driver = this.#ethtool.segmentation(info.index);
    }
  }

  #newBacklog(info: InterfaceInfo): TapBacklog {
    const readStatistics = () => ({
      interface: this.rtnetlink.statistics(info.index),
      sendErrors: this.pump.countDrops().sendErrors,
    });
    return new TapBacklog(info.transmitQueueFrames, readStatistics, (frames) => {
      this.counters.sendDrops += frames;
    });
  }

  protected room(wanted: number): number {
    return this.#backlog ? this.#backlog.room(wanted) : wanted;
  }

  protected handedOver(frames: number): void {
    this.#backlog?.sent(frames);
  }

  protected unread(): number {
    return this.#backlog?.refresh() ?? 0;
  }
}
