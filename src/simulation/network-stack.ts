import type { Clock } from '../system/clock.js';
import { buildEcho, buildIp, buildTcp, buildUdp, type IpFields, type VlanTag } from '../wire/build.js';
import { FrameKind, FrameView, TcpFlag } from '../wire/frame-view.js';
import { Icmpv4Type, Icmpv6Type, IpProtocol, UDP_HEADER_BYTES } from '../wire/numbers.js';
import { parseFrame } from '../wire/parse.js';
import { vlanTags } from '../wire/vlan.js';
import { append, takeAll } from './byte-queue.js';
import { cutDatagram, takeFragment } from './fragments.js';
import {
  destinationKey,
  isSound,
  payloadOf,
  refusalFields,
  segmentFields,
  sourceOf,
} from './frame-fields.js';
import { GuestClock } from './guest-clock.js';
import type { HostAddresses } from './neighbour-table.js';
import { NeighbourTable } from './neighbour-table.js';
import type { Random } from './random.js';
import type { StackState } from './stack-state.js';
import { addressKey, connectionKey, newStackState } from './stack-state.js';
import { close, segmentArrives, synArrives } from './tcp-input.js';
import { output, sendReset, sendSyn, windowGain } from './tcp-output.js';
import type { CloseReason, TcpConnection, TcpHost, TcpOptions, TcpSegment } from './tcp-state.js';
import { DEFAULT_TCP_OPTIONS, NEVER, newTcpConnection, tcpDeadlineMs } from './tcp-state.js';
import { tcpTimers } from './tcp-timers.js';

const CONNECTIONS_MAX = 4096;
const INBOX_FRAMES_MAX = 4096;
const ISN_BEFORE_WRAP_MAX = 100_000;
const TIMESTAMP_BEFORE_WRAP_MAX = 3000;
/** The low bits of a mark, which say nothing about its sender. */
const FRAGMENT_ID_MASK = 0xf;

export interface Datagram {
  readonly ipVersion: 4 | 6;
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly localPort: number;
  readonly payload: Uint8Array;
}

/** The programs of a machine. They keep what they know in `connection.app` and `state.services` only. */
export interface Application {
  listens(port: number): boolean;
  connected(stack: NetworkStack, connection: TcpConnection): void;
  readable(stack: NetworkStack, connection: TcpConnection): void;
  writable(stack: NetworkStack, connection: TcpConnection): void;
  peerClosed(stack: NetworkStack, connection: TcpConnection): void;
  closed(stack: NetworkStack, connection: TcpConnection, reason: CloseReason): void;
  /** The time asked for with `wakeAfter` has come. */
  wake(stack: NetworkStack, connection: TcpConnection): void;
  datagram(stack: NetworkStack, datagram: Datagram): void;
  echoReply(stack: NetworkStack, remote: Uint8Array, identifier: number, sequence: number): void;
}

export interface NetworkStackOptions {
  readonly addresses: HostAddresses;
  readonly clock: Clock;
  /** This machine's own entropy: not part of its state, so two copies of one machine draw differently. */
  readonly random: Random;
  readonly transmit: (frame: Buffer) => void;
  readonly application: Application;
  readonly tcp?: Partial<TcpOptions>;
  /** How long after its arrival a frame is looked at: a fixed part and a random part on top. */
  readonly lagMs?: number;
  readonly lagJitterMs?: number;
  /** How fast this machine's clock runs; 1 when absent. Two hosts' clocks never agree for long (trap T10). */
  readonly clockRate?: number;
  /** Of 16 bits: each frame's IPv4 identification or IPv6 flow label; random when absent. It may say who sent the frame. */
  readonly mark?: () => number;
}

/**
 * The network of one machine: frames in, frames out. All it knows is `state`, plain data that a checkpoint
 * copies; it runs only between `start` and `stop`.
 */
export class NetworkStack implements TcpHost {
  readonly options: TcpOptions;
  readonly addresses: HostAddresses;
  state: StackState;
  readonly #entropy: Random;
  readonly #application: Application;
  readonly #clock: GuestClock;
  readonly #neighbours: NeighbourTable;
  readonly #view = new FrameView();
  readonly #lagMs: number;
  readonly #lagJitterMs: number;
  readonly #mark: () => number;
  readonly #vlans: readonly VlanTag[];
  /** Grows with everything that happens to this machine. */
  activity = 0;

  constructor(options: NetworkStackOptions) {
    this.options = { ...DEFAULT_TCP_OPTIONS, ...options.tcp };
    this.addresses = options.addresses;
    this.#entropy = options.random;
    this.#application = options.application;
    this.#clock = new GuestClock(options.clock, () => this.#timers(), options.clockRate);
    this.#neighbours = new NeighbourTable(options.addresses, options.transmit);
    this.#lagMs = options.lagMs ?? 0;
    this.#lagJitterMs = options.lagJitterMs ?? 0;
    this.#mark = options.mark ?? (() => this.random32() & 0xffff);
    this.#vlans = vlanTags(options.addresses.vlan);
    this.state = newStackState(this.#drawNumber(TIMESTAMP_BEFORE_WRAP_MAX));
  }

  get running(): boolean {
    return this.#clock.running;
  }

  start(): void {
    this.#clock.start();
    this.#rearm();
  }

  /** Time stands still from here; frames given to a stopped machine are lost, so do not give it any. */
  stop(): void {
    this.#clock.stop();
    this.state.timeMs = this.#clock.nowMs();
  }

  /** Goes on from another machine's state; only while stopped. */
  load(state: StackState): void {
    this.state = state;
    this.#clock.set(state.timeMs);
    this.#rearm();
  }

  /** One frame from the network device. The bytes are only read during the call. */
  receive(bytes: Buffer, offset: number, length: number): void {
    if (!this.running) return;
    if (this.#lagMs === 0 && this.#lagJitterMs === 0 && this.state.inbox.length === 0) {
      this.#handle(bytes, offset, length);
    } else if (this.state.inbox.length < INBOX_FRAMES_MAX) {
      const lastMs = this.state.inbox.at(-1)?.dueAtMs ?? 0;
      const lagMs = this.#lagMs + this.random() * this.#lagJitterMs;
      const frame = Uint8Array.prototype.slice.call(bytes, offset, offset + length);
      this.state.inbox.push({ frame, dueAtMs: Math.max(lastMs, this.nowMs() + lagMs) });
    }
    this.#rearm();
  }

  /** Opens a connection to another host. */
  connect(remote: Uint8Array, remotePort: number, app: unknown): TcpConnection {
    const state = this.state;
    const ipVersion = remote.length === 4 ? 4 : 6;
    do {
      state.ephemeralPort = state.ephemeralPort >= 60_999 ? 32_768 : state.ephemeralPort + 1;
    } while (state.byAddress.has(connectionKey(remote, remotePort, state.ephemeralPort)));
    const connection = this.#add(
      { ipVersion, local: this.#own(ipVersion), localPort: state.ephemeralPort, remote, remotePort },
      -1,
    );
    connection.app = app;
    sendSyn(this, connection);
    this.#rearm();
    return connection;
  }

  /** Everything that has arrived in order; the window opens again. */
  read(connection: TcpConnection): Uint8Array {
    const bytes = takeAll(connection.unread);
    if (windowGain(connection) >= Math.min(2 * connection.mss, connection.rcvBufferBytes / 2)) {
      connection.ackNow = true;
      this.#settle(connection);
    }
    return bytes;
  }

  /** How much `write` may be given before the buffer is over its limit. */
  writableBytes(connection: TcpConnection): number {
    return Math.max(0, this.options.sendBufferBytesMax - connection.out.bytes);
  }

  /** Queues bytes and gives them away; nothing after `finish`. */
  write(connection: TcpConnection, bytes: Uint8Array): void {
    if (connection.finQueued || connection.phase === 'closed') return;
    append(connection.out, bytes);
    this.#settle(connection);
  }

  /** No more data from this side: FIN after what is queued. */
  finish(connection: TcpConnection): void {
    connection.finQueued = true;
    this.#settle(connection);
  }

  abort(connection: TcpConnection): void {
    if (connection.phase !== 'closed' && connection.phase !== 'syn-sent') sendReset(this, connection);
    close(this, connection, 'reset');
  }

  /** Calls the application's `wake` for this connection after a while of this machine's time. */
  wakeAfter(connection: TcpConnection, delayMs: number): void {
    connection.wakeAtMs = this.nowMs() + delayMs;
    this.#rearm();
  }

  sendDatagram(remote: Uint8Array, remotePort: number, localPort: number, payload: Uint8Array): void {
    const ports = { sourcePort: localPort, destinationPort: remotePort };
    const ip = this.#ip(remote);
    // A machine counts its datagrams: the pieces of two that are on their way must not be taken for one another's.
    const id = (ip.id! & ~FRAGMENT_ID_MASK) | (this.state.fragmentId & FRAGMENT_ID_MASK);
    const whole = buildUdp({ ...ip, ...ports, payload });
    const l4 = whole.subarray(whole.length - payload.length - UDP_HEADER_BYTES);
    const frames = cutDatagram({ ...ip, id }, IpProtocol.UDP, l4);
    if (frames.length > 1) this.state.fragmentId++;
    for (const frame of frames) this.#transmitTo(remote, frame);
    this.#rearm();
  }

  sendEcho(remote: Uint8Array, identifier: number, sequence: number, payload: Uint8Array): void {
    this.#transmitTo(remote, buildEcho({ ...this.#ip(remote), identifier, sequence, payload }));
    this.#rearm();
  }

  // TcpHost: what connections need.

  nowMs(): number {
    return this.#clock.nowMs();
  }

  timestamp(): number {
    return (Math.floor(this.nowMs()) + this.state.timestampOffset) >>> 0;
  }

  /** From 0 to below 1. */
  random(): number {
    return this.#entropy.uint32() / 0x1_0000_0000;
  }

  /** An unsigned 32-bit number of this machine's own entropy. */
  random32(): number {
    return this.#entropy.uint32();
  }

  send(connection: TcpConnection, segment: TcpSegment): void {
    const fields = segmentFields(connection, segment);
    this.#transmitTo(connection.remote, buildTcp({ ...this.#ip(connection.remote), ...fields }));
  }

  connected(connection: TcpConnection): void {
    this.#application.connected(this, connection);
  }

  readable(connection: TcpConnection): void {
    this.#application.readable(this, connection);
  }

  writable(connection: TcpConnection): void {
    this.#application.writable(this, connection);
  }

  peerClosed(connection: TcpConnection): void {
    this.#application.peerClosed(this, connection);
  }

  closed(connection: TcpConnection, reason: CloseReason): void {
    this.state.connections.delete(connection.id);
    this.state.byAddress.delete(
      connectionKey(connection.remote, connection.remotePort, connection.localPort),
    );
    this.#application.closed(this, connection, reason);
  }

  #own(ipVersion: 4 | 6): Uint8Array {
    return ipVersion === 4 ? this.addresses.ipv4 : this.addresses.ipv6;
  }

  #add(
    address: Pick<TcpConnection, 'ipVersion' | 'local' | 'localPort' | 'remote' | 'remotePort'>,
    servicePort: number,
  ): TcpConnection {
    const { state } = this;
    const connection = newTcpConnection(
      state.connectionId++,
      address,
      servicePort,
      this.#drawNumber(ISN_BEFORE_WRAP_MAX),
      this.options,
    );
    connection.rcvScale = this.options.windowScale;
    state.connections.set(connection.id, connection);
    state.byAddress.set(connectionKey(address.remote, address.remotePort, address.localPort), connection.id);
    return connection;
  }

  /** A random 32-bit number; now and then one that comes to its end soon. */
  #drawNumber(beforeWrapMax: number): number {
    const number = this.random32();
    const { wrapSoon } = this.options;
    if (wrapSoon === 0 || this.random() >= wrapSoon) return number;
    // Short connections must come to the end as well as long ones.
    return -(number % Math.ceil(beforeWrapMax * this.random() ** 4)) >>> 0;
  }

  #ip(remote: Uint8Array): IpFields {
    const { mac } = this.addresses;
    const mark = this.#mark();
    return {
      sourceMac: mac,
      vlans: this.#vlans,
      source: this.#own(remote.length === 4 ? 4 : 6),
      destination: remote,
      id: mark, // the two VMs' IP ids are never equal
      flowLabel: mark,
      dontFragment: true,
    };
  }

  #transmitTo(remote: Uint8Array, frame: Buffer): void {
    this.#neighbours.send(this.state.neighbours, remote, frame, this.nowMs());
  }

  #settle(connection: TcpConnection): void {
    output(this, connection);
    this.#rearm();
  }

  #handle(bytes: Buffer, offset: number, length: number): void {
    const view = this.#view;
    const kind = parseFrame(bytes, offset, length, 0, view);
    if (kind === FrameKind.MALFORMED || view.vlan !== this.addresses.vlan) return;
    const { neighbours } = this.state;
    if (kind === FrameKind.ARP) this.#neighbours.arp(neighbours, view, this.nowMs());
    if (view.ipVersion === 0 || !isSound(view)) return;
    if (kind === FrameKind.ND) this.#neighbours.neighbourDiscovery(neighbours, view, this.nowMs());
    if (destinationKey(view) !== addressKey(this.#own(view.ipVersion as 4 | 6))) return;
    if (kind === FrameKind.FRAGMENT) this.#fragment(view);
    else if (kind === FrameKind.TCP) this.#segment(view);
    else if (kind === FrameKind.UDP) this.#datagram(view);
    else if (kind === FrameKind.ICMP || kind === FrameKind.ICMPV6) this.#icmp(view);
  }

  #fragment(view: FrameView): void {
    const l4 = takeFragment(this.state.fragments, view);
    if (l4 === null) return;
    const fields = { source: sourceOf(view), destination: this.#own(view.ipVersion as 4 | 6) };
    const whole = buildIp({ ...fields, vlans: this.#vlans }, view.ipProtocol, l4);
    this.#handle(whole, 0, whole.length);
  }

  #segment(view: FrameView): void {
    const remote = sourceOf(view);
    const id = this.state.byAddress.get(connectionKey(remote, view.sourcePort, view.destinationPort));
    const existing = id === undefined ? undefined : this.state.connections.get(id);
    if (existing !== undefined) {
      segmentArrives(this, existing, view);
      return;
    }
    const opens = (view.tcpFlags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST)) === TcpFlag.SYN;
    const port = view.destinationPort;
    if (opens && this.#application.listens(port) && this.state.connections.size < CONNECTIONS_MAX) {
      const ipVersion = view.ipVersion as 4 | 6;
      const local = this.#own(ipVersion);
      const address = { ipVersion, local, localPort: port, remote, remotePort: view.sourcePort };
      synArrives(this, this.#add(address, port), view);
    } else if ((view.tcpFlags & TcpFlag.RST) === 0) {
      this.#refuse(view, remote);
    }
  }

  /** A segment for no connection is answered with a reset (RFC 9293 section 3.10.7.1). */
  #refuse(view: FrameView, remote: Uint8Array): void {
    this.#transmitTo(remote, buildTcp({ ...this.#ip(remote), ...refusalFields(view) }));
  }

  #datagram(view: FrameView): void {
    this.#application.datagram(this, {
      ipVersion: view.ipVersion as 4 | 6,
      remote: sourceOf(view),
      remotePort: view.sourcePort,
      localPort: view.destinationPort,
      payload: payloadOf(view),
    });
  }

  #icmp(view: FrameView): void {
    const identifier = view.sourcePort;
    const sequence = view.bytes.readUInt16BE(view.l4 + 6);
    const remote = sourceOf(view);
    const types = view.ipVersion === 4 ? Icmpv4Type : Icmpv6Type;
    if (view.icmpType === types.ECHO) {
      const payload = payloadOf(view);
      this.#transmitTo(
        remote,
        buildEcho({ ...this.#ip(remote), identifier, sequence, reply: true, payload }),
      );
    } else if (view.icmpType === types.ECHO_REPLY) {
      this.#application.echoReply(this, remote, identifier, sequence);
    }
  }

  #timers(): void {
    const nowMs = this.nowMs();
    const { state } = this;
    while (state.inbox.length > 0 && state.inbox[0]!.dueAtMs <= nowMs) {
      const { frame } = state.inbox.shift()!;
      this.#handle(Buffer.from(frame.buffer, frame.byteOffset, frame.length), 0, frame.length);
    }
    for (const connection of [...state.connections.values()]) {
      if (connection.wakeAtMs <= nowMs) {
        connection.wakeAtMs = NEVER;
        this.#application.wake(this, connection);
      }
      if (tcpDeadlineMs(connection) <= nowMs) tcpTimers(this, connection);
    }
    this.#neighbours.timers(state.neighbours, nowMs);
    this.#rearm();
  }

  #rearm(): void {
    this.activity++;
    if (!this.running) return;
    let deadlineMs = Math.min(
      this.state.inbox[0]?.dueAtMs ?? NEVER,
      this.#neighbours.deadlineMs(this.state.neighbours),
    );
    for (const connection of this.state.connections.values()) {
      deadlineMs = Math.min(deadlineMs, tcpDeadlineMs(connection));
    }
    this.#clock.wakeAt(deadlineMs);
  }
}
