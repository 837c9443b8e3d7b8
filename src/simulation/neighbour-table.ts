import { ArpField, ArpOperation, arpOperation } from '../wire/arp.js';
import type { EthernetFields } from '../wire/build.js';
import { buildArp, buildNeighbourAdvertisement, buildNeighbourSolicitation } from '../wire/build.js';
import type { FrameView } from '../wire/frame-view.js';
import { Icmpv6Type } from '../wire/numbers.js';
import { vlanTags } from '../wire/vlan.js';
import type { Neighbour } from './stack-state.js';
import { addressKey } from './stack-state.js';

const REQUEST_EVERY_MS = 1000;
const REQUESTS_MAX = 5;
/** An entry older than this is asked for again while it goes on being used. */
const CONFIRM_AFTER_MS = 30_000;
const WAITING_FRAMES_MAX = 16;
const NEIGHBOURS_MAX = 1024;

/** Where a machine is on its network. */
export interface HostAddresses {
  readonly mac: Uint8Array;
  readonly ipv4: Uint8Array;
  readonly ipv6: Uint8Array;
  /** VLAN tags of all its frames, as FrameView.vlan has them; 0: untagged. */
  readonly vlan: number;
}

/** ARP (RFC 826) and neighbour discovery (RFC 4861) of one machine; its entries live in the machine's state. */
export class NeighbourTable {
  readonly #host: HostAddresses;
  readonly #transmit: (frame: Buffer) => void;
  readonly #ethernet: EthernetFields;

  constructor(host: HostAddresses, transmit: (frame: Buffer) => void) {
    this.#host = host;
    this.#transmit = transmit;
    this.#ethernet = { sourceMac: host.mac, vlans: vlanTags(host.vlan) };
  }

  /** Sends a frame whose destination MAC is still open (its first six bytes), now or when it is known. */
  send(table: Map<string, Neighbour>, address: Uint8Array, frame: Buffer, nowMs: number): void {
    const entry = this.#entry(table, address);
    if (entry === undefined) return;
    if (entry.mac !== null) {
      frame.set(entry.mac, 0);
      this.#transmit(frame);
      if (nowMs - entry.confirmedAtMs > CONFIRM_AFTER_MS && entry.requestAtMs === Number.POSITIVE_INFINITY) {
        this.#request(entry, nowMs);
      }
      return;
    }
    if (entry.waiting.length < WAITING_FRAMES_MAX) entry.waiting.push(frame);
    if (entry.requestAtMs === Number.POSITIVE_INFINITY) this.#request(entry, nowMs);
  }

  deadlineMs(table: Map<string, Neighbour>): number {
    let deadlineMs = Number.POSITIVE_INFINITY;
    for (const entry of table.values()) deadlineMs = Math.min(deadlineMs, entry.requestAtMs);
    return deadlineMs;
  }

  timers(table: Map<string, Neighbour>, nowMs: number): void {
    for (const entry of table.values()) {
      if (entry.requestAtMs > nowMs) continue;
      if (entry.requests < REQUESTS_MAX) {
        this.#request(entry, nowMs);
      } else {
        entry.requests = 0;
        entry.requestAtMs = Number.POSITIVE_INFINITY;
        entry.waiting = [];
      }
    }
  }

  arp(table: Map<string, Neighbour>, view: FrameView, nowMs: number): void {
    const at = view.network;
    const senderMac = view.bytes.subarray(at + ArpField.SENDER_MAC, at + ArpField.SENDER_MAC + 6);
    const senderIp = view.bytes.subarray(at + ArpField.SENDER_IP, at + ArpField.SENDER_IP + 4);
    const targetIp = view.bytes.subarray(at + ArpField.TARGET_IP, at + ArpField.TARGET_IP + 4);
    const forUs = addressKey(targetIp) === addressKey(this.#host.ipv4);
    this.#learn(table, senderIp, senderMac, nowMs, forUs);
    if (!forUs || arpOperation(view) !== ArpOperation.REQUEST) return;
    this.#transmit(
      buildArp({
        ...this.#ethernet,
        destinationMac: senderMac,
        operation: ArpOperation.REPLY,
        senderMac: this.#host.mac,
        senderIp: this.#host.ipv4,
        targetMac: senderMac,
        targetIp: senderIp,
      }),
    );
  }

  neighbourDiscovery(table: Map<string, Neighbour>, view: FrameView, nowMs: number): void {
    const solicits = view.icmpType === Icmpv6Type.NEIGHBOUR_SOLICITATION;
    if (!solicits && view.icmpType !== Icmpv6Type.NEIGHBOUR_ADVERTISEMENT) return;
    const target = view.bytes.subarray(view.l4 + 8, view.l4 + 24);
    const option = view.l4 + 24;
    if (view.l3End - option < 8 || view.bytes[option] !== (solicits ? 1 : 2)) return;
    const mac = view.bytes.subarray(option + 2, option + 8);
    if (!solicits) {
      this.#learn(table, target, mac, nowMs, false);
      return;
    }
    if (addressKey(target) !== addressKey(this.#host.ipv6)) return;
    const source = view.bytes.subarray(view.l3 + 8, view.l3 + 24);
    this.#learn(table, source, mac, nowMs, true);
    this.#transmit(
      buildNeighbourAdvertisement({
        ...this.#ethernet,
        destinationMac: mac,
        ownMac: this.#host.mac,
        ownIp: this.#host.ipv6,
        solicitor: source,
      }),
    );
  }

  #entry(table: Map<string, Neighbour>, address: Uint8Array): Neighbour | undefined {
    const key = addressKey(address);
    let entry = table.get(key);
    if (entry === undefined && table.size < NEIGHBOURS_MAX) {
      entry = {
        address: Uint8Array.from(address),
        mac: null,
        confirmedAtMs: 0,
        waiting: [],
        requests: 0,
        requestAtMs: Number.POSITIVE_INFINITY,
      };
      table.set(key, entry);
    }
    return entry;
  }

  #learn(
    table: Map<string, Neighbour>,
    address: Uint8Array,
    mac: Uint8Array,
    nowMs: number,
    create: boolean,
  ): void {
    const entry = create ? this.#entry(table, address) : table.get(addressKey(address));
    if (entry === undefined) return;
    entry.mac = Uint8Array.from(mac);
    entry.confirmedAtMs = nowMs;
    entry.requests = 0;
    entry.requestAtMs = Number.POSITIVE_INFINITY;
    for (const waiting of entry.waiting.splice(0)) {
      const frame = Buffer.from(waiting);
      frame.set(entry.mac, 0);
      this.#transmit(frame);
    }
  }

  #request(entry: Neighbour, nowMs: number): void {
    entry.requests++;
    entry.requestAtMs = nowMs + REQUEST_EVERY_MS;
    const senderMac = this.#host.mac;
    if (entry.address.length === 4) {
      const fields = { senderMac, senderIp: this.#host.ipv4, targetIp: entry.address };
      this.#transmit(buildArp({ ...this.#ethernet, operation: ArpOperation.REQUEST, ...fields }));
    } else {
      const fields = { senderMac, senderIp: this.#host.ipv6, targetIp: entry.address };
      this.#transmit(buildNeighbourSolicitation({ ...this.#ethernet, ...fields }));
    }
  }
}
