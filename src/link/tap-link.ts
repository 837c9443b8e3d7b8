import { adoptTap, type FramePort, openTap } from '../../native/index.js';
import { ColoError } from '../errors.js';
import { InterfaceLink } from './interface-link.js';
import { FRAME_OVERHEAD_BYTES, type LinkOptions } from './options.js';
import type { Rtnetlink } from './rtnetlink.js';
import { AddressGeneration, InterfaceFlag, type InterfaceInfo } from './rtnetlink-codec.js';
import { asTapError } from './tap-setup.js';
import { formatLinkUrl, type LinkUrl } from './url.js';

/**
 * A TAP whose character device the proxy holds: the client side. It is created when absent, brought up, and
 * with a bridge given becomes one of its ports, with the bridge's MTU. A TAP created here is gone when the
 * proxy closes it or dies; one that was there before is left as it was found.
 */
export class TapLink extends InterfaceLink {
  readonly #bridge: string | undefined;
  #port: FramePort | undefined;
  /** What the interface was like before we changed it; undefined when we made it. */
  #found: InterfaceInfo | undefined;
  #isConfigured = false;

  constructor(url: Extract<LinkUrl, { kind: 'tap' }>, options: LinkOptions) {
    super(formatLinkUrl(url), url.interface, options);
    this.#bridge = url.bridge;
  }

  get setup(): InterfaceInfo | null {
    return this.#found ?? null;
  }

  protected inherit(fd: number, found: unknown): void {
    this.#found = (found as InterfaceInfo | null) ?? undefined;
    this.#port = adoptTap({ fd, name: this.interfaceName, vnetHeader: true });
    this.#isConfigured = true;
  }

  protected override isRelated(link: InterfaceInfo): boolean {
    return link.name === this.#bridge;
  }

  protected readonly keepsPortWhileDown = true;

  /** The device is held for as long as the interface lives, up or down: without a holder it has no carrier. */
  protected async prepare(rtnetlink: Rtnetlink): Promise<void> {
    const present = rtnetlink.interface(this.interfaceName);
    try {
      if (!this.#port || this.#port.fd < 0 || this.#port.interfaceIndex !== present?.index) {
        this.#port?.close();
        this.#found = present;
        this.#isConfigured = false;
        this.#port = openTap({ name: this.interfaceName, vnetHeader: true, offload: 'gso' });
      }
      const info = rtnetlink.interface(this.#port.interfaceIndex);
      if (info) this.#configure(rtnetlink, info);
    } catch (error) {
      throw asTapError(error, this.interfaceName);
    }
  }

  #configure(rtnetlink: Rtnetlink, info: InterfaceInfo): void {
    const { index } = info;
    if (this.#bridge !== undefined) {
      // A bridge port needs no address of its own, and must not speak with one.
      if (info.addressGeneration !== undefined && info.addressGeneration !== AddressGeneration.NONE) {
        rtnetlink.change(index, { addressGeneration: AddressGeneration.NONE });
      }
      this.#join(rtnetlink, info);
    } else if (!this.#found && !this.#isConfigured) {
      rtnetlink.change(index, { mtuBytes: this.options.frameBytesMax - FRAME_OVERHEAD_BYTES });
    }
    // Once: an operator who takes it down later means it.
    if (!this.#isConfigured) rtnetlink.change(index, { up: true });
    this.#isConfigured = true;
  }

  /** Makes it a port of the bridge, now or when the bridge is there (again). */
  #join(rtnetlink: Rtnetlink, info: InterfaceInfo): void {
    const bridge = rtnetlink.interface(this.#bridge!);
    if (!bridge) throw this.#bridgeProblem('does not exist');
    if (bridge.kind !== 'bridge') throw this.#bridgeProblem('is not a bridge');
    if (info.mtuBytes !== bridge.mtuBytes && info.master !== bridge.index) {
      rtnetlink.change(info.index, { mtuBytes: bridge.mtuBytes });
    }
    if (info.master !== bridge.index) rtnetlink.change(info.index, { master: bridge.index });
  }

  #bridgeProblem(what: string): ColoError {
    return new ColoError(
      'COLO_ERR_LINK_OPEN',
      `${this.url}: ${this.#bridge} ${what}: "ip link add ${this.#bridge} type bridge"`,
    );
  }

  protected openPort(): FramePort {
    return this.#port!;
  }

  protected async restore(rtnetlink: Rtnetlink): Promise<void> {
    this.#port?.close();
    const found = this.#found;
    const present = rtnetlink.interface(this.interfaceName);
    if (!found || found.index !== present?.index) return;
    rtnetlink.change(found.index, { up: (found.flags & InterfaceFlag.UP) !== 0 });
    if (found.master !== present.master) rtnetlink.change(found.index, { master: found.master });
    if (found.mtuBytes !== present.mtuBytes) rtnetlink.change(found.index, { mtuBytes: found.mtuBytes });
    if (found.addressGeneration !== undefined && found.addressGeneration !== present.addressGeneration) {
      rtnetlink.change(found.index, { addressGeneration: found.addressGeneration });
    }
  }

  protected observed(): void {}

  protected room(wanted: number): number {
    return wanted;
  }

  protected handedOver(): void {}

  /** The host's stack or the bridge has a frame as soon as it is written. */
  protected unread(): number {
    return 0;
  }
}
