import { FrameKind, type FrameView } from '../wire/frame-view.js';

/** One address the guest was seen to use; what an announcement needs (trap T19). */
export interface GuestAddress {
  readonly mac: Buffer;
  /** 4 or 16 bytes. */
  readonly ip: Buffer;
  /** VLAN as FrameView.vlan has it. */
  readonly vlan: number;
}

const ADDRESSES_MAX = 256;
const MACS_MAX = 64;

/**
 * The guest's own addresses, learnt by watching what the carrying VM sends. Bounded: past the limit nothing new
 * is learnt (a guest that invents addresses only hurts its own announcements).
 */
export class GuestAddresses {
  /** MACs as two numbers each: 32 high bits, 16 low bits. */
  readonly #macHigh = new Int32Array(MACS_MAX);
  readonly #macLow = new Int32Array(MACS_MAX);
  #macs = 0;
  readonly #known = new Map<string, GuestAddress>();
  /** The last IPv4 source learnt, so that the usual frame costs one comparison. */
  #lastSource = 0;
  #lastVlan = -1;

  get addresses(): readonly GuestAddress[] {
    return [...this.#known.values()];
  }

  /** The first MAC the guest was seen to use, or null. */
  get mac(): Buffer | null {
    if (this.#macs === 0) return null;
    const mac = Buffer.alloc(6);
    mac.writeInt32BE(this.#macHigh[0]!, 0);
    mac.writeUInt16BE(this.#macLow[0]!, 4);
    return mac;
  }

  /** Does the frame carry one of the guest's own MACs as its source? */
  isOwnSource(bytes: Buffer, start: number): boolean {
    const high = bytes.readInt32BE(start + 6);
    const low = bytes.readUInt16BE(start + 10);
    for (let index = 0; index < this.#macs; index++) {
      if (this.#macHigh[index] === high && this.#macLow[index] === low) return true;
    }
    return false;
  }

  /** Watches one frame of the carrying VM. */
  learn(view: FrameView): void {
    const { bytes, start } = view;
    if ((bytes[start + 6]! & 1) !== 0) return; // a multicast source is nobody's address
    if (!this.isOwnSource(bytes, start)) this.#addMac(bytes, start);
    if (view.kind === FrameKind.ARP) {
      // sender protocol address: 14 bytes into the packet (RFC 826)
      this.#addIp(view, view.network + 14, 4);
      return;
    }
    if (view.ipVersion === 4) {
      const source = bytes.readInt32BE(view.l3 + 12);
      if (source === this.#lastSource && view.vlan === this.#lastVlan) return;
      this.#lastSource = source;
      this.#lastVlan = view.vlan;
      this.#addIp(view, view.l3 + 12, 4);
    } else if (view.ipVersion === 6) {
      const low = bytes.readInt32BE(view.l3 + 20);
      if (low === this.#lastSource && view.vlan === this.#lastVlan) return;
      this.#lastSource = low;
      this.#lastVlan = view.vlan;
      this.#addIp(view, view.l3 + 8, 16);
    }
  }

  /** What an earlier process had learnt. */
  restore(address: GuestAddress): void {
    const { vlan } = address;
    const [mac, ip] = [Buffer.from(address.mac), Buffer.from(address.ip)];
    if (!this.isOwnSource(Buffer.concat([Buffer.alloc(6), mac]), 0)) {
      this.#addMac(Buffer.concat([Buffer.alloc(6), mac]), 0);
    }
    const key = `${vlan}/${ip.toString('hex')}`;
    if (this.#known.size < ADDRESSES_MAX) this.#known.set(key, { mac, ip, vlan });
  }

  #addMac(bytes: Buffer, start: number): void {
    if (this.#macs === MACS_MAX) return;
    this.#macHigh[this.#macs] = bytes.readInt32BE(start + 6);
    this.#macLow[this.#macs] = bytes.readUInt16BE(start + 10);
    this.#macs++;
  }

  #addIp(view: FrameView, at: number, length: 4 | 16): void {
    const { bytes, start } = view;
    if (bytes.readInt32BE(at) === 0 && (length === 4 || bytes.readInt32BE(at + 12) === 0)) return; // unspecified
    const key = `${view.vlan}/${bytes.toString('hex', at, at + length)}`;
    if (this.#known.has(key) || this.#known.size >= ADDRESSES_MAX) return;
    this.#known.set(key, {
      mac: Buffer.from(bytes.subarray(start + 6, start + 12)),
      ip: Buffer.from(bytes.subarray(at, at + length)),
      vlan: view.vlan,
    });
  }
}
