import type { Clock, Timer } from '../system/clock.js';
import { buildGratuitousArp, buildRarp, buildUnsolicitedNa } from '../wire/build.js';

/** One address to announce: `ip` is 4 or 16 bytes, `vlan` as FrameView.vlan has it. */
export interface AnnouncedAddress {
  readonly mac: Buffer;
  readonly ip: Buffer;
  readonly vlan: number;
}

/**
 * Every frame that tells the network where these addresses live now (trap T19): for each IPv4 address a gratuitous
 * ARP in request and in reply form, for each IPv6 address an unsolicited neighbour advertisement, and for each MAC
 * and VLAN one RARP frame, from which switches learn the port.
 */
export function announcementFrames(addresses: readonly AnnouncedAddress[]): Buffer[] {
  const frames: Buffer[] = [];
  const learntPorts = new Set<string>();
  for (const { mac, ip, vlan } of addresses) {
    const port = `${mac.toString('hex')}/${vlan}`;
    if (!learntPorts.has(port)) {
      learntPorts.add(port);
      frames.push(buildRarp(mac, vlan));
    }
    if (ip.length === 4) {
      frames.push(buildGratuitousArp(mac, ip, 'request', vlan), buildGratuitousArp(mac, ip, 'reply', vlan));
    } else {
      frames.push(buildUnsolicitedNa(mac, ip, vlan));
    }
  }
  return frames;
}

export interface AnnounceOptions {
  readonly clock: Clock;
  /** How often the whole set is sent. */
  readonly count: number;
  readonly everyMs: number;
}

/** Sends the announcements now and, because any of them may be lost, again until `count` is reached. */
export class Announcer {
  readonly #options: AnnounceOptions;
  readonly #send: (frame: Buffer) => void;
  #timer: Timer | null = null;

  constructor(options: AnnounceOptions, send: (frame: Buffer) => void) {
    this.#options = options;
    this.#send = send;
  }

  start(addresses: readonly AnnouncedAddress[]): void {
    this.stop();
    const frames = announcementFrames(addresses);
    let left = this.#options.count;
    const round = (): void => {
      for (const frame of frames) this.#send(frame);
      left--;
      this.#timer = left > 0 ? this.#options.clock.after(this.#options.everyMs, round) : null;
    };
    if (left > 0) round();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
