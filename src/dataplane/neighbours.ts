import type { Link } from '../link/link.js';
import { ArpField, ArpOperation } from '../wire/arp.js';
import { buildArp, buildNeighbourAdvertisement } from '../wire/build.js';
import { FrameKind, type FrameView } from '../wire/frame-view.js';
import { Icmpv6Type } from '../wire/numbers.js';
import { vlanTags } from '../wire/vlan.js';

const NEIGHBOURS_MAX = 1024;
/** Where the target address of a neighbour solicitation or advertisement lies (RFC 4861 4.3). */
const ND_TARGET = 8;
const ND_TARGET_END = 24;

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
      this.#set(view.vlan, bytes, view.network + ArpField.SENDER_IP, 4, view.network + ArpField.SENDER_MAC);
    } else if (
      view.icmpType === Icmpv6Type.NEIGHBOUR_ADVERTISEMENT &&
      view.l4 + ND_TARGET_END <= view.l3End
    ) {
      this.#set(view.vlan, bytes, view.l4 + ND_TARGET, 16, start + 6);
    } else if (view.icmpType === Icmpv6Type.NEIGHBOUR_SOLICITATION) {
      this.#set(view.vlan, bytes, view.l3 + 8, 16, start + 6);
    }
  }

  /**
   * Answers an address request of the secondary over its own link. False when the frame is none, or when the
   * neighbour was never seen: then the secondary's flows stall and the hold timer asks for a checkpoint.
   */
  answer(view: FrameView, secondary: Link): boolean {
    const { bytes, network, l3, l4 } = view;
    const requesterMac = bytes.subarray(view.start + 6, view.start + 12);
    let answer: Buffer;
    if (view.kind === FrameKind.ARP) {
      if (bytes.readUInt16BE(network + ArpField.OPERATION) !== ArpOperation.REQUEST) return false;
      const target = bytes.subarray(network + ArpField.TARGET_IP, network + ArpField.TARGET_IP + 4);
      const mac = this.#mac(view.vlan, target);
      if (mac === undefined) return false;
      answer = buildArp({
        operation: ArpOperation.REPLY,
        senderMac: mac,
        senderIp: target,
        targetMac: requesterMac,
        targetIp: bytes.subarray(network + ArpField.SENDER_IP, network + ArpField.SENDER_IP + 4),
        destinationMac: requesterMac,
        vlans: vlanTags(view.vlan),
      });
    } else {
      if (view.icmpType !== Icmpv6Type.NEIGHBOUR_SOLICITATION || l4 + ND_TARGET_END > view.l3End)
        return false;
      const target = bytes.subarray(l4 + ND_TARGET, l4 + ND_TARGET_END);
      const mac = this.#mac(view.vlan, target);
      if (mac === undefined) return false;
      answer = buildNeighbourAdvertisement({
        ownMac: mac,
        ownIp: target,
        solicitor: bytes.subarray(l3 + 8, l3 + 24),
        destinationMac: requesterMac,
        vlans: vlanTags(view.vlan),
      });
    }
    return secondary.send(answer, 0, answer.length, 0);
  }

  save(): ReadonlyMap<string, Uint8Array> {
    return this.#macs;
  }

  load(macs: ReadonlyMap<string, Uint8Array>): void {
    for (const [address, mac] of macs) this.#macs.set(address, Buffer.from(mac));
  }

  #mac(vlan: number, ip: Buffer): Buffer | undefined {
    return this.#macs.get(`${vlan}/${ip.toString('hex')}`);
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
