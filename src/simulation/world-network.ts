import { type MemoryLink, memoryLinkPair } from '../link/memory-link.js';
import type { ManualClock } from '../system/manual-clock.js';
import { Client } from './client/client.js';
import { LossyWire, type WireFaults } from './lossy-wire.js';
import type { HostAddresses } from './neighbour-table.js';
import type { SeededRandom } from './random.js';
import type { TcpOptions } from './tcp-state.js';
import { LinkNetdev } from './vm/netdev.js';

export interface NetworkOptions {
  readonly nic: number;
  readonly client: HostAddresses;
  readonly clock: ManualClock;
  readonly random: SeededRandom;
  readonly faults: WireFaults;
  readonly clientTcp: Partial<TcpOptions>;
  /** Of each link of the proxy. */
  readonly linkDelayMs: number;
  readonly linkBytesMax: number;
}

/** The near end is the proxy's, the far end a VM's, or the cable's towards the client. */
type Ends = readonly [near: MemoryLink, far: MemoryLink];

/** The network behind one interface of the guest: a client, a cable that can be bad, and the proxy's three links. */
export class WorldNetwork {
  readonly client: Client;
  /** Towards the proxy and back; `faults` may be changed at any time. */
  readonly wires: { readonly toProxy: LossyWire; readonly toClient: LossyWire };
  readonly links: Readonly<Record<'client' | 'primary' | 'secondary', Ends>>;
  /** Sees every frame that leaves the proxy towards the client, before the wire damages it. */
  onReleased: (bytes: Buffer, offset: number, length: number) => void = () => {};
  /** Sees every frame that comes to the proxy from the client, after the wire has damaged it. */
  onCame: (frame: Buffer) => void = () => {};

  constructor(options: NetworkOptions) {
    const { nic, clock, random, faults } = options;
    const link = (side: string): Ends =>
      memoryLinkPair({
        name: nic === 0 ? side : `${side}${nic}`,
        clock,
        delayMs: options.linkDelayMs,
        queueBytesMax: options.linkBytesMax,
      });
    this.links = { client: link('client'), primary: link('primary'), secondary: link('secondary') };
    const near = new LinkNetdev(this.links.client[1], clock);
    const wires = random.fork('wires');
    this.wires = {
      toProxy: new LossyWire(clock, wires, faults, (frame) => {
        this.onCame(frame);
        near.send(frame);
      }),
      toClient: new LossyWire(clock, wires, faults, (frame) =>
        this.client.stack.receive(frame, 0, frame.length),
      ),
    };
    this.client = new Client({
      addresses: options.client,
      clock,
      random: random.fork('client'),
      transmit: (frame) => this.wires.toProxy.send(frame),
      tcp: options.clientTcp,
    });
    void near.open((bytes, offset, length) => {
      this.onReleased(bytes, offset, length);
      this.wires.toClient.send(bytes.subarray(offset, offset + length));
    });
  }

  setFaults(faults: WireFaults): void {
    this.wires.toClient.faults = faults;
    this.wires.toProxy.faults = faults;
  }
}
