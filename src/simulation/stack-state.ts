import type { Pieces } from './fragments.js';
import type { TcpConnection } from './tcp-state.js';

/** What a neighbour's address resolves to, or what waits for it. Keys are addresses in hex. */
export interface Neighbour {
  readonly address: Uint8Array;
  mac: Uint8Array | null;
  confirmedAtMs: number;
  /** Frames without a destination yet. */
  waiting: Uint8Array[];
  requests: number;
  requestAtMs: number;
}

/** Everything a machine's network stack and services know, as plain structured-clonable data. */
export interface StackState {
  timeMs: number;
  /** Added to the time for TCP timestamps; drawn at boot and copied like the rest of the memory. */
  timestampOffset: number;
  connectionId: number;
  ephemeralPort: number;
  readonly connections: Map<number, TcpConnection>;
  /** Connection by `remote address:port:local port`. */
  readonly byAddress: Map<string, number>;
  readonly neighbours: Map<string, Neighbour>;
  /** Datagrams that wait for the rest of their pieces, and the number of the next one that is cut. */
  readonly fragments: Map<string, Pieces>;
  fragmentId: number;
  /** Frames taken from the device and not looked at yet (a lagging guest). */
  inbox: { frame: Uint8Array; dueAtMs: number }[];
  /** The services' own data. */
  services: Record<string, unknown>;
}

export function newStackState(timestampOffset: number): StackState {
  return {
    timeMs: 0,
    timestampOffset,
    connectionId: 1,
    ephemeralPort: 32_768,
    connections: new Map(),
    byAddress: new Map(),
    neighbours: new Map(),
    fragments: new Map(),
    fragmentId: 0,
    inbox: [],
    services: {},
  };
}

export function addressKey(address: Uint8Array): string {
  return Buffer.from(address.buffer, address.byteOffset, address.length).toString('hex');
}

export function connectionKey(remote: Uint8Array, remotePort: number, localPort: number): string {
  return `${addressKey(remote)}:${remotePort}:${localPort}`;
}
