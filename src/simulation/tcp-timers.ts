import { seqAdd } from '../wire/sequence.js';
import { close } from './tcp-input.js';
import { armResend, output, resendHole, sendProbe, sendSyn, sendSynAck } from './tcp-output.js';
import type { TcpConnection, TcpHost } from './tcp-state.js';
import { NEVER } from './tcp-state.js';

/** Does whatever has come due: resending (RFC 6298 section 5), delayed ACK, window probe, end of TIME-WAIT. */
export function tcpTimers(host: TcpHost, connection: TcpConnection): void {
  const nowMs = host.nowMs();
  if (connection.closeAtMs <= nowMs) {
    close(host, connection, 'finished');
    return;
  }
  if (connection.ackAtMs <= nowMs) {
    connection.ackAtMs = NEVER;
    connection.ackNow = true;
  }
  if (connection.resendAtMs <= nowMs) timeout(host, connection);
  if (connection.phase !== 'closed') output(host, connection);
}

function timeout(host: TcpHost, connection: TcpConnection): void {
  connection.timeouts++;
  if (connection.timeouts > host.options.timeoutsMax) {
    close(host, connection, 'timed-out');
    return;
  }
  connection.rtoMs = Math.min(host.options.rtoMsMax, connection.rtoMs * 2);
  connection.timedAtMs = -1;
  if (connection.phase === 'syn-sent') {
    // The same SYN again; its time stays that of the first, as the echo check wants it.
    const { synTimestamp } = connection;
    sendSyn(host, connection);
    connection.synTimestamp = synTimestamp;
    return;
  }
  if (connection.phase === 'syn-received') {
    sendSynAck(host, connection);
    return;
  }
  armResend(host, connection);
  if (connection.sndWindow === 0 && connection.out.bytes > 0) {
    sendProbe(host, connection);
    return;
  }
  connection.sacked = []; // RFC 2018 section 8: the receiver may have thrown it away
  connection.ssthresh = Math.max((connection.sndMax - connection.sndUna) >>> 1, 2 * connection.mss);
  connection.cwnd = connection.mss;
  connection.recovering = false;
  connection.recover = connection.sndMax;
  connection.dupAcks = 0;
  if (resendHole(host, connection, connection.sndUna)) {
    connection.sndNxt = connection.resendNxt;
  } else {
    connection.sndNxt = seqAdd(connection.sndUna, 0);
  }
}
