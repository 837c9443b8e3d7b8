import type { Clock, Timer } from '../../system/clock.js';
import { fileBytes, firstWrongByte } from '../content.js';
import { GuestPort } from '../guest.js';
import type { Datagram, NetworkStack } from '../network-stack.js';
import { ClientTask } from './task.js';

const PAYLOAD_BYTES = 64;

/** Sends numbered probes one by one and waits for each to come back; what does not in time is lost. */
abstract class ProbeTask extends ClientTask {
  protected readonly server: Uint8Array;
  readonly #clock: Clock;
  readonly #count: number;
  readonly #everyMs: number;
  readonly #answerMsMax: number;
  #sent = 0;
  #waitingFor = -1;
  #timer: Timer | null = null;

  constructor(name: string, stack: NetworkStack, clock: Clock, server: Uint8Array, probes: ProbeOptions) {
    super(name, stack);
    this.server = server;
    this.#clock = clock;
    this.#count = probes.count;
    this.#everyMs = probes.everyMs;
    this.#answerMsMax = probes.answerMsMax;
  }

  protected abstract send(number: number): void;

  begin(): this {
    this.#next();
    return this;
  }

  protected answered(number: number): void {
    if (number !== this.#waitingFor) return; // late: it was counted as lost
    this.answers++;
    this.#settle();
  }

  #settle(): void {
    this.#waitingFor = -1;
    this.arrived(false);
    this.#timer?.cancel();
    this.#timer = this.#clock.after(this.#everyMs, () => this.#next());
  }

  #next(): void {
    if (this.#sent === this.#count) {
      this.end(null);
      return;
    }
    this.#waitingFor = this.#sent++;
    this.await();
    this.#timer = this.#clock.after(this.#answerMsMax, () => {
      this.lost++;
      this.#settle();
    });
    this.send(this.#waitingFor);
  }
}

export interface ProbeOptions {
  readonly count: number;
  readonly everyMs: number;
  readonly answerMsMax: number;
  /** Of each UDP echo, behind its number; more than fits the link goes in fragments. */
  readonly payloadBytes?: number;
}

/** UDP echoes with a number and a payload of their own each. */
export class UdpEcho extends ProbeTask {
  readonly port: number;
  readonly #payloadBytes: number;

  constructor(stack: NetworkStack, clock: Clock, server: Uint8Array, port: number, probes: ProbeOptions) {
    super('udp echo', stack, clock, server, probes);
    this.port = port;
    this.#payloadBytes = probes.payloadBytes ?? PAYLOAD_BYTES;
  }

  protected override send(number: number): void {
    const bytes = this.#payloadBytes;
    const payload = fileBytes(`udp-${this.port}`, number * bytes, bytes);
    const datagram = new Uint8Array(4 + bytes);
    new DataView(datagram.buffer).setUint32(0, number);
    datagram.set(payload, 4);
    this.stack.sendDatagram(this.server, GuestPort.ECHO, this.port, datagram);
  }

  datagram({ payload }: Datagram): void {
    if (payload.length !== 4 + this.#payloadBytes) {
      this.end(`a datagram of ${payload.length} bytes came back`);
      return;
    }
    const number = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
    this.bytes += payload.length;
    if (firstWrongByte(`udp-${this.port}`, number * this.#payloadBytes, payload.subarray(4)) >= 0) {
      this.end(`datagram ${number} came back changed`);
      return;
    }
    this.answered(number);
  }
}

/** ICMP or ICMPv6 echo requests. */
export class Ping extends ProbeTask {
  readonly identifier: number;

  constructor(
    stack: NetworkStack,
    clock: Clock,
    server: Uint8Array,
    identifier: number,
    probes: ProbeOptions,
  ) {
    super('ping', stack, clock, server, probes);
    this.identifier = identifier;
  }

  protected override send(number: number): void {
    this.stack.sendEcho(this.server, this.identifier, number, fileBytes('ping', number, PAYLOAD_BYTES));
  }

  echoReply(sequence: number): void {
    this.answered(sequence);
  }
}
