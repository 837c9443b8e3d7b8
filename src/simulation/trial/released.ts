/** What leaves the proxy towards the clients, looked at frame by frame. */
import { readU16, readU32 } from '../../wire/bytes.js';
import { FrameKind, FrameView } from '../../wire/frame-view.js';
import { parseFrame } from '../../wire/parse.js';
import { mix32 } from '../random.js';
import { originOf, type World } from '../world.js';
import type { Fail } from './violation.js';

const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_RARP = 0x8035;
const NA_SOLICITED = 0x40;
const ICMPV6_NA = 136;

/** Of one connection: who spoke last, and the highest TSval shown. */
interface Shown {
  instance: number;
  /** Highest TSval that earlier speakers have shown, -1 for none. */
  before: number;
  timestamp: number;
}

export class ReleasedFrames {
  /** Without the proxy's own announcements. */
  frames = 0;
  bytes = 0;
  /** Sum of the moments at which they left, in simulated milliseconds. */
  leftMs = 0;
  /** Of which frames left, and when. */
  fingerprint = 0;
  readonly #world: World;
  readonly #fail: Fail;
  readonly #view = new FrameView();
  readonly #retired = new Set<number>();
  #releasing = -1;
  readonly #shown = new Map<number, Shown>();

  constructor(world: World, fail: Fail) {
    this.#world = world;
    this.#fail = fail;
    world.onReleased = (bytes, offset, length, nic) => this.#see(bytes, offset, length, nic);
  }

  #see(bytes: Buffer, offset: number, length: number, nic: number): void {
    const { arbiter, proxies } = this.#world;
    if (arbiter !== null && !arbiter.allows(proxies)) {
      this.#fail('one-side-releases', `proxy ${proxies} lets a frame leave without the arbiter's word`);
    }
    const view = this.#view;
    if (parseFrame(bytes, offset, length, 0, view) === FrameKind.MALFORMED) {
      this.#fail('transcript', 'a malformed frame leaves');
      return;
    }
    if (isAnnouncement(view)) return;
    this.frames++;
    this.leftMs += this.#world.clock.now() - this.#world.linkDelayMs;
    this.bytes += length;
    const mark = markOf(view);
    const what = mark ^ (length << 16) ^ view.seq ^ view.ack;
    this.fingerprint = mix32(this.fingerprint ^ what ^ (this.#world.clock.now() * 1000));
    if (mark < 0) return;
    const { instance } = originOf(mark);
    this.#oneSpeaks(instance);
    if (view.kind === FrameKind.TCP && view.timestamp !== 0) this.#timestamp(view, nic, instance);
  }

  /** A VM that was followed by another one never comes back. */
  #oneSpeaks(instance: number): void {
    if (instance === this.#releasing) return;
    if (this.#retired.has(instance)) {
      this.#fail('one-side-releases', `VM ${instance} is heard again after VM ${this.#releasing}`);
    }
    if (!this.#world.mayCarry(instance)) {
      this.#fail('one-side-releases', `VM ${instance} is heard, which has loaded no checkpoint`);
    }
    this.#retired.add(this.#releasing);
    this.#releasing = instance;
  }

  /** A client drops what seems older than what it has seen: time must not go back when another VM goes on (T10). */
  #timestamp(view: FrameView, nic: number, instance: number): void {
    const key = ((nic * 8 + view.ipVersion) * 65_536 + view.sourcePort) * 65_536 + view.destinationPort;
    const stamp = readU32(view.bytes, view.timestamp);
    let shown = this.#shown.get(key);
    if (shown === undefined) {
      shown = { instance, before: -1, timestamp: stamp };
      this.#shown.set(key, shown);
    } else if (shown.instance !== instance) {
      shown.instance = instance;
      shown.before = shown.timestamp;
    }
    if (shown.before >= 0 && ((stamp - shown.before) | 0) < 0) {
      const ports = `${view.sourcePort} > ${view.destinationPort}`;
      this.#fail('transcript', `TSval of ${ports} goes back from ${shown.before} to ${stamp}`);
    }
    if (((stamp - shown.timestamp) | 0) > 0) shown.timestamp = stamp;
  }
}

/** Who sent the frame, as `originOf` reads it: IPv4's identification or IPv6's flow label; -1 when it says nothing. */
export function markOf(view: FrameView): number {
  if (view.ipVersion === 4) return readU16(view.bytes, view.l3 + 4);
  if (view.ipVersion !== 6 || view.kind === FrameKind.ND) return -1;
  return readU16(view.bytes, view.l3 + 2);
}

/** The proxy's own frames: nobody asked for them, and no VM of this world sends such ones. */
function isAnnouncement(view: FrameView): boolean {
  const { bytes, network, etherType } = view;
  if (etherType === ETHERTYPE_RARP) return true;
  if (etherType === ETHERTYPE_ARP) {
    return bytes.compare(bytes, network + 24, network + 28, network + 14, network + 18) === 0;
  }
  return (
    view.kind === FrameKind.ND && view.icmpType === ICMPV6_NA && (bytes[view.l4 + 4]! & NA_SOLICITED) === 0
  );
}
