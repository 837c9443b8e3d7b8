import { join } from 'node:path';
import type { Transport } from '../system/channel.js';
import type { Clock } from '../system/clock.js';
import { parseIpAddress, parseMac } from '../wire/addresses.js';
import { Client } from './client/client.js';
import type { HostAddresses } from './neighbour-table.js';
import { SeededRandom } from './random.js';
import type { ServiceKnobs } from './services/service.js';
import type { TcpOptions } from './tcp-state.js';
import type { NetworkDevice } from './vm/netdev.js';
import { StreamNetdev } from './vm/netdev.js';
import { ScriptedVm } from './vm/scripted-vm.js';

function addresses(number: number): HostAddresses {
  return {
    mac: parseMac(`52:54:00:c0:10:0${number}`)!,
    ipv4: parseIpAddress(`10.77.0.${number}`)!,
    ipv6: parseIpAddress(`fd77::${number}`)!,
    vlan: 0,
  };
}

export const CLIENT_HOST = addresses(1);
export const GUEST_HOST = addresses(2);

/** The same host on another network, with the tags of a VLAN. */
export function onNetwork(host: HostAddresses, network: number, vlan: number): HostAddresses {
  const moved = {
    mac: Uint8Array.from(host.mac),
    ipv4: Uint8Array.from(host.ipv4),
    ipv6: Uint8Array.from(host.ipv6),
  };
  moved.mac[4]! += network;
  moved.ipv4[1]! += network;
  moved.ipv6[1]! += network;
  return { ...moved, vlan };
}

/** The sockets of a stage, all in one directory: what a proxy's configuration must name. */
export function stageSockets(directory: string) {
  const at = (file: string): string => join(directory, file);
  return {
    clientNet: at('client.net'),
    primaryNet: at('primary.net'),
    secondaryNet: at('secondary.net'),
    primaryQmp: at('primary.qmp'),
    secondaryQmp: at('secondary.qmp'),
  };
}

export interface StageOptions {
  readonly directory: string;
  readonly seed: number;
  readonly clock: Clock;
  readonly transport: Transport;
  /** How the guests behave; each copy with entropy of its own. */
  readonly tcp?: Partial<TcpOptions>;
  readonly services?: Partial<ServiceKnobs>;
  readonly lagJitterMs?: number;
}

/** Two scripted VMs and a client, each behind a unix socket: everything around a proxy but the proxy. */
export class Stage {
  readonly client: Client;
  readonly #options: StageOptions;
  readonly #random: SeededRandom;
  readonly #clientNet: NetworkDevice;
  #primary: ScriptedVm;
  #secondary: ScriptedVm;

  constructor(options: StageOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    const { clock, transport, directory } = options;
    const net = new StreamNetdev(transport, { unix: stageSockets(directory).clientNet });
    this.#clientNet = net;
    this.client = new Client({
      addresses: CLIENT_HOST,
      clock,
      random: this.#random.fork('client'),
      transmit: (frame) => net.send(frame),
      tcp: { delayedAckMs: 40 },
    });
    this.#primary = this.#vm('primary');
    this.#secondary = this.#vm('secondary');
  }

  get primary(): ScriptedVm {
    return this.#primary;
  }

  get secondary(): ScriptedVm {
    return this.#secondary;
  }

  /** The client's network and the primary; the secondary comes with `openSecondary`. */
  async open(): Promise<void> {
    const { stack } = this.client;
    await this.#clientNet.open((bytes, offset, length) => stack.receive(bytes, offset, length));
    await this.#primary.open();
  }

  /** Starts a secondary that waits for a state; a new one when there was one before. */
  async openSecondary(): Promise<void> {
    if (!this.#secondary.alive) this.#secondary = this.#vm('secondary');
    await this.#secondary.open();
  }

  close(): void {
    this.client.close();
    this.#clientNet.close();
    this.#primary.kill();
    this.#secondary.kill();
  }

  #vm(role: 'primary' | 'secondary'): ScriptedVm {
    const { directory, clock, transport, tcp, services, lagJitterMs } = this.#options;
    const sockets = stageSockets(directory);
    return new ScriptedVm({
      clock,
      transport,
      netdev: new StreamNetdev(transport, {
        unix: role === 'primary' ? sockets.primaryNet : sockets.secondaryNet,
      }),
      qmp: { unix: role === 'primary' ? sockets.primaryQmp : sockets.secondaryQmp },
      ...(role === 'secondary' ? { incoming: 'defer' as const } : {}),
      guest: {
        addresses: GUEST_HOST,
        random: this.#random.fork(role),
        ...(tcp === undefined ? {} : { tcp }),
        ...(services === undefined ? {} : { services }),
        ...(lagJitterMs === undefined ? {} : { lagJitterMs }),
      },
    });
  }
}
