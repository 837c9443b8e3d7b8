/**
 * Output commit: could this VM go on from what the clients have seen? Asked of the VM's own memory, not of the proxy.
 */
import { LineTask } from '../client/line-tasks.js';
import { GuestPort } from '../guest.js';
import type { NetworkStack } from '../network-stack.js';
import type { LineApp } from '../services/line-service.js';
import { connectionKey } from '../stack-state.js';
import type { TcpConnection } from '../tcp-state.js';
import type { Fail } from './violation.js';

/** Every connection of one client, against the stack of the VM that must be able to go on. */
export function checkCoverage(client: NetworkStack, guest: NetworkStack, who: string, fail: Fail): void {
  for (const connection of client.state.connections.values()) {
    const { phase } = connection;
    if (phase === 'syn-sent' || phase === 'time-wait' || phase === 'closed') continue;
    const key = connectionKey(connection.local, connection.localPort, connection.remotePort);
    const id = guest.state.byAddress.get(key);
    const server = id === undefined ? undefined : guest.state.connections.get(id);
    if (server !== undefined) checkConnection(connection, server, who, fail);
    else if (!connection.peerClosed && connection.finSeq < 0) {
      // The guest forgets a connection when its own FIN is acknowledged.
      fail('output-commit', `${who} does not know the connection from port ${connection.localPort}`);
    }
  }
}

function checkConnection(client: TcpConnection, server: TcpConnection, who: string, fail: Fail): void {
  const name = `${who}, connection from port ${client.localPort}:`;
  const early = client.early.at(-1);
  const seenTo = early === undefined ? client.rcvNxt : early.seq + early.bytes.length;
  const seen = (seenTo - client.irs) | 0;
  const sent = (server.sndMax - server.iss) | 0;
  if (seen > sent) fail('output-commit', `${name} the client has seen ${seen} positions, it sent ${sent}`);
  const acked = (client.sndUna - server.rcvNxt) | 0;
  if (client.sndUna !== client.iss && acked > 0) {
    fail('output-commit', `${name} ${acked} positions were acknowledged that it has not received`);
  }
  for (const { from, to } of client.sacked) {
    if (((to - client.sndUna) | 0) > 0 && !holds(server, from, to)) {
      fail('output-commit', `${name} SACK showed ${from} to ${to}, which it does not hold`);
    }
  }
  if (client.remotePort === GuestPort.LINE && client.app instanceof LineTask) {
    if (client.app.connection === client) checkSaid(client.app, server.app as LineApp | null, name, fail);
  }
}

/** Answers may differ between the VMs; what a client was told must be what the survivor believes it said. */
function checkSaid(task: LineTask, app: LineApp | null, name: string, fail: Fail): void {
  if (app === null || task.heardLast === '') return;
  const ahead = app.saidBytes - task.progress.bytes;
  if (ahead < 0) return; // seen as positions already
  const said = ahead === 0 ? app.saidLast : app.saidLast.slice(0, -ahead);
  const common = Math.min(said.length, task.heardLast.length);
  if (common > 0 && said.slice(-common) !== task.heardLast.slice(-common)) {
    const [one, other] = [JSON.stringify(said), JSON.stringify(task.heardLast)];
    fail('output-commit', `${name} it said ${one}, the client heard ${other}`);
  }
}

/** Does the host hold all of this range of what was sent to it? */
function holds(server: TcpConnection, from: number, to: number): boolean {
  if (((to - server.rcvNxt) | 0) <= 0) return true;
  let at = ((from - server.rcvNxt) | 0) < 0 ? server.rcvNxt : from;
  for (const { seq, bytes } of server.early) {
    if (((seq - at) | 0) <= 0 && ((seq + bytes.length - at) | 0) > 0) at = (seq + bytes.length) >>> 0;
  }
  return ((at - to) | 0) >= 0;
}
