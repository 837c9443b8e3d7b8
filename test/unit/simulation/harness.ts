import { Client } from '../../../src/simulation/client/client.js';
import type { GuestOptions } from '../../../src/simulation/guest.js';
import { Guest } from '../../../src/simulation/guest.js';
import type { WireFaults } from '../../../src/simulation/lossy-wire.js';
import { CLEAN_WIRE, LossyWire } from '../../../src/simulation/lossy-wire.js';
import type { HostAddresses } from '../../../src/simulation/neighbour-table.js';
import { SeededRandom } from '../../../src/simulation/random.js';
import type { TcpOptions } from '../../../src/simulation/tcp-state.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { parseIpAddress, parseMac } from '../../../src/wire/addresses.js';

export function host(number: number, vlan = 0): HostAddresses {
  return {
    mac: parseMac(`52:54:00:00:00:0${number}`)!,
    ipv4: parseIpAddress(`10.0.0.${number}`)!,
    ipv6: parseIpAddress(`fd00::${number}`)!,
    vlan,
  };
}

export const GUEST_HOST = host(2);

export interface LabOptions {
  seed?: number;
  faults?: Partial<WireFaults>;
  guest?: Partial<GuestOptions>;
  clientTcp?: Partial<TcpOptions>;
  vlan?: number;
}

/** One client and one guest on a cable, on a manual clock. */
export class Lab {
  readonly clock = new ManualClock();
  readonly random: SeededRandom;
  readonly client: Client;
  guest: Guest;
  readonly toGuest: LossyWire;
  readonly toClient: LossyWire;
  readonly guestOptions: GuestOptions;

  constructor(options: LabOptions = {}) {
    this.random = new SeededRandom(options.seed ?? 1);
    const faults = { ...CLEAN_WIRE, ...options.faults };
    const { clock, random } = this;
    this.toGuest = new LossyWire(clock, random.fork('to guest'), faults, (frame) =>
      this.guest.stack.receive(frame, 0, frame.length),
    );
    this.toClient = new LossyWire(clock, random.fork('to client'), faults, (frame) =>
      this.client.stack.receive(frame, 0, frame.length),
    );
    this.client = new Client({
      addresses: host(1, options.vlan),
      clock,
      random: random.fork('client'),
      transmit: (frame) => this.toGuest.send(frame),
      tcp: options.clientTcp ?? {},
    });
    this.guestOptions = {
      addresses: host(2, options.vlan),
      clock,
      random: random.fork('guest'),
      transmit: (frame) => this.toClient.send(frame),
      ...options.guest,
    };
    this.guest = new Guest(this.guestOptions);
    this.guest.stack.start();
  }

  /** Runs until `done` or for at most `limitMs`; false when the limit came first. */
  until(done: () => boolean, limitMs = 600_000): boolean {
    const endMs = this.clock.now() + limitMs;
    while (!done()) if (!this.clock.step(endMs)) return false;
    return true;
  }
}
