import { buildTcp } from '../../../src/wire/build.js';
import { TcpFlag } from '../../../src/wire/frame-view.js';

export interface Ports {
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** A segment of a guest with that payload. */
export function tcpFrame(payload: Uint8Array, ports: Ports): Buffer {
  const addresses = { source: '10.0.0.2', destination: '10.0.0.1' };
  return buildTcp({ ...addresses, ...ports, seq: 1, ack: 1, flags: TcpFlag.ACK, payload });
}
