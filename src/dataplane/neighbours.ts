import { FrameKind, type FrameView } from '../wire/frame-view.js';

const NEIGHBOURS_MAX = 1024;
const ARP_REQUEST = 1;
const ND_SOLICITATION = 135;
const ND_ADVERTISEMENT = 136;
const ND_ROUTER_SOLICITATION = 133;

/** What an address request asks for, ready to be answered. */
export interface AddressRequest {
  readonly protocol: 'arp' | 'nd';
  /** 4 or 16 bytes. */
  readonly target: Buffer;
}

/**
 * Neighbours on the client side, learnt from their own ARP and ND. The secondary probes its neighbours at other
 * times than the primary; its probes never reach the network, so they are answered from here, to it alone.
 * Control traffic only, so plain objects are fine; bounded, the oldest entry goes first.
 */
export class Neighbours {
  readonly #macs = new Map<string, Buffer>();

  /** Watches one ARP or ND frame from the client side. */
  learn(view: FrameView): void {
    const { bytes, start } = view;
    if (view.kind === FrameKind.ARP) {
      const at = view.network + 14;
      this.#set(view.vlan, bytes, at, 4, view.network + 8);
    } else if (view.kind === FrameKind.ND && view.icmpType === ND_ADVERTISEMENT && view.l4 + 24 <= view.l3End) {
      this.#set(view.vlan, bytes, view.l4 + 8, 16, start + 6);
    } else if (view.kind === FrameKind.ND && view.icmpType === ND_SOLICITATION) {
      this.#set(view.vlan, bytes, view.l3 + 8, 16, start + 6);
    }
  }

  /** What the frame asks for, or null when it is no address request. */
  static request(view: FrameView): AddressRequest | null {
    const { bytes } = view;
    if (view.kind === FrameKind.ARP && bytes.readUInt16BE(view.network + 6) === ARP_REQUEST) {
      return { protocol: 'arp', target: Buffer.from(bytes.subarray(view.network + 24, view.network + 28)) };
    }
    if (view.kind === FrameKind.ND && view.icmpType === ND_SOLICITATION && view.l4 + 24 <= view.l3End) {
      return { protocol: 'nd', target: Buffer.from(bytes.subarray(view.l4 + 8, view.l4 + 24)) };
    }
    return null;
  }

  static isRouterSolicitation(view: FrameView): boolean {
    return view.kind === FrameKind.ND && view.icmpType === ND_ROUTER_SOLICITATION;
  }

  mac(vlan: number, ip: Buffer): Buffer | null {
    return this.#macs.get(`${vlan}/${ip.toString('hex')}`) ?? null;
  }

  #set(vlan: number, bytes: Buffer, ipAt: number, ipLength: 4 | 16, macAt: number): void {
    if (bytes.readInt32BE(ipAt) === 0 && (ipLength === 4 || bytes.readInt32BE(ipAt + 12) === 0)) return;
    const key = `${vlan}/${bytes.toString('hex', ipAt, ipAt + ipLength)}`;
    const known = this.#macs.get(key);
    if (known !== undefined && known.compare(bytes, macAt, macAt + 6) === 0) return;
    if (known === undefined && this.#macs.size >= NEIGHBOURS_MAX) {
      this.#macs.delete(this.#macs.keys().next().value!);
    }
    this.#macs.set(key, Buffer.from(bytes.subarray(macAt, macAt + 6)));
  }
}
