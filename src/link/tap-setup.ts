import { createPersistentTap } from '../../native/index.js';
import { ColoError } from '../errors.js';
import { HostIsolation } from './isolation.js';
import type { NetlinkError, Rtnetlink } from './rtnetlink.js';
import { AddressGeneration, InterfaceFlag, type InterfaceInfo } from './rtnetlink-codec.js';
import { TWO_TAGS_BYTES, tapMark } from './vm-mtu.js';

export interface TapSetupOptions {
  readonly interface: string;
  /** Name of the proxy's instance: marks what belongs to it. */
  readonly instance: string;
  /** Create the TAP, persistent, when it is absent. */
  readonly create: boolean;
  /** User and group that may open a TAP created here: an unprivileged QEMU. */
  readonly owner?: number;
  readonly group?: number;
  readonly multiQueue?: boolean;
  /** MTU that the VM is to have, for a TAP created here. */
  readonly mtuBytes: number;
  /** Keep the host's own stack off it; false leaves that to the operator. */
  readonly isolate: boolean;
}

/** What an interface of the operator's was like before: it is so again afterwards. */
interface Before {
  readonly up: boolean;
  readonly noArp: boolean;
  readonly addressGeneration: number | undefined;
}

/** What undoing needs; survives a structured clone. */
export interface TapSetupState {
  readonly index: number;
  readonly isIsolated: boolean;
  readonly before: Before | undefined;
}

const AF_INET6 = 10;

/**
 * Makes a VM's interface the proxy's alone, before the host can send or answer anything on it: created when
 * absent, no address, no ARP, no IPv6 address generation, nothing from it reaches the host's stack; then up.
 *
 * A TAP created here carries the mark `colo-proxy:INSTANCE` as its alias. At the end it is deleted, unless
 * QEMU still holds it: a running VM would lose its network card for good, while a TAP that stays (down, still
 * marked) is taken up again by the next start of the same instance.
 */
export class TapSetup {
  readonly #options: TapSetupOptions;
  readonly #rtnetlink: Rtnetlink;
  readonly #isolation: HostIsolation;
  readonly #mark: string;
  /** The interface that is ready, and the one that was begun with. */
  #preparedIndex = 0;
  #touchedIndex = 0;
  #isIsolated = false;
  #before: Before | undefined;

  constructor(options: TapSetupOptions, rtnetlink: Rtnetlink) {
    this.#options = options;
    this.#rtnetlink = rtnetlink;
    this.#isolation = new HostIsolation(options.instance, options.interface);
    this.#mark = tapMark(options.instance);
  }

  /**
   * Once for each interface of that name that appears; nothing to do afterwards, or while it is absent and not
   * to be created. Throws COLO_ERR_TAP_OPEN, COLO_ERR_TAP_IN_USE, COLO_ERR_TAP_ISOLATE.
   */
  async prepare(): Promise<void> {
    const found = this.#rtnetlink.interface(this.#options.interface) ?? this.#create();
    if (!found || found.index === this.#preparedIndex) return;
    this.#refuseForeignUse(found);
    try {
      await this.#takeOver(found);
    } catch (error) {
      throw asTapError(error, this.#options.interface);
    }
    this.#preparedIndex = found.index;
  }

  get state(): TapSetupState {
    return { index: this.#preparedIndex, isIsolated: this.#isIsolated, before: this.#before };
  }

  /** An earlier process has prepared it, and this one undoes it. */
  inherit({ index, isIsolated, before }: TapSetupState): void {
    this.#preparedIndex = index;
    this.#touchedIndex = index;
    this.#isIsolated = isIsolated;
    this.#before = before;
  }

  #create(): InterfaceInfo | undefined {
    const { interface: name, create, owner, group, multiQueue, mtuBytes } = this.#options;
    if (!create) return undefined;
    try {
      createPersistentTap({
        name,
        ...(owner === undefined ? {} : { owner }),
        ...(group === undefined ? {} : { group }),
        ...(multiQueue === undefined ? {} : { multiQueue }),
      });
      const info = this.#rtnetlink.interface(name);
      if (info) {
        this.#rtnetlink.change(info.index, { alias: this.#mark, mtuBytes: mtuBytes + TWO_TAGS_BYTES });
      }
      return this.#rtnetlink.interface(name);
    } catch (error) {
      throw asTapError(error, name);
    }
  }

  #refuseForeignUse(info: InterfaceInfo): void {
    if (info.master !== 0) {
      const master = this.#rtnetlink.interface(info.master)?.name ?? `interface ${info.master}`;
      throw new ColoError(
        'COLO_ERR_TAP_IN_USE',
        `${info.name} belongs to ${master}, but a VM's interface must belong to the proxy alone: ` +
          `"ip link set dev ${info.name} nomaster" (it is the client side that joins a bridge: --client tap:colo0,bridge=${master})`,
      );
    }
    const address = this.#rtnetlink.addresses(info.index).find((a) => !isLinkLocal(a.family, a.address));
    if (address) {
      throw new ColoError(
        'COLO_ERR_TAP_IN_USE',
        `${info.name} has an address of the host, but a VM's interface must belong to the proxy alone: ` +
          `"ip address flush dev ${info.name}"`,
      );
    }
  }

  async #takeOver(info: InterfaceInfo): Promise<void> {
    const { index } = info;
    this.#touchedIndex = index;
    this.#before = undefined;
    if (this.#options.isolate) {
      this.#before = {
        up: (info.flags & InterfaceFlag.UP) !== 0,
        noArp: (info.flags & InterfaceFlag.NOARP) !== 0,
        addressGeneration: info.addressGeneration,
      };
      if (info.addressGeneration !== undefined) {
        this.#rtnetlink.change(index, { addressGeneration: AddressGeneration.NONE });
      }
      this.#rtnetlink.change(index, { noArp: true });
      for (const address of this.#rtnetlink.addresses(index)) this.#rtnetlink.deleteAddress(address);
      await this.#isolation.apply();
      this.#isIsolated = true;
    }
    this.#rtnetlink.change(index, { up: true });
  }

  /** Undoes `prepare`. Goes as far as it can; throws the first error at the end. */
  async undo(): Promise<void> {
    const info = this.#rtnetlink.interface(this.#options.interface);
    try {
      if (info && info.index === this.#touchedIndex) this.#giveBack(info);
    } finally {
      if (this.#isIsolated) await this.#isolation.remove();
    }
  }

  #giveBack(info: InterfaceInfo): void {
    const isOurs = info.alias === this.#mark;
    if (isOurs && !info.carrier) {
      this.#rtnetlink.delete(info.index);
      return;
    }
    const before = this.#before;
    // Down first: with ARP and addresses back on, the host would at once send into the VM.
    if (isOurs || before?.up === false) this.#rtnetlink.change(info.index, { up: false });
    if (isOurs || !before) return;
    this.#rtnetlink.change(info.index, { noArp: before.noArp });
    if (before.addressGeneration !== undefined) {
      this.#rtnetlink.change(info.index, { addressGeneration: before.addressGeneration });
    }
  }
}

/** fe80::/10: the kernel makes these itself, for every interface that is up. */
function isLinkLocal(family: number, address: Buffer): boolean {
  return family === AF_INET6 && address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
}

/** What the kernel refused about a TAP, with the cure. */
export function asTapError(error: unknown, name: string): ColoError {
  if (error instanceof ColoError) return error;
  const { code, message } = error as NetlinkError;
  const cures: Record<string, string> = {
    EPERM: 'CAP_NET_ADMIN is needed: run as root, or give the service that capability',
    EACCES: 'CAP_NET_ADMIN is needed: run as root, or give the service that capability',
    ENOENT: '/dev/net/tun is missing: load the kernel module "tun"',
    EBUSY: 'somebody else holds it',
    EINVAL: 'it exists and is of another kind (not a TAP, or a multi-queue one)',
  };
  const cure = cures[code ?? ''];
  const errorCode = code === 'EBUSY' ? 'COLO_ERR_TAP_IN_USE' : 'COLO_ERR_TAP_OPEN';
  return new ColoError(errorCode, `interface ${name}: ${message}${cure ? `: ${cure}` : ''}`, {
    cause: error,
  });
}
