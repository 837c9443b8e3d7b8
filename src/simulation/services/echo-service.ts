import type { Service } from './service.js';
import { bytesOf } from './service.js';

/** Sends back what it gets, on TCP and UDP (RFC 862). */
export const echoService: Service = {
  name: 'echo',
  readable(stack, connection) {
    // Only as much as can be queued: a peer that never reads stops being read.
    if (stack.writableBytes(connection) > 0) stack.write(connection, stack.read(connection));
  },
  writable(stack, connection) {
    if (connection.unread.bytes > 0) stack.write(connection, stack.read(connection));
  },
  idle: (connection) => connection.unread.bytes === 0,
  datagram(stack, { remote, remotePort, localPort, payload }) {
    stack.sendDatagram(remote, remotePort, localPort, payload);
  },
};

/** The guest's end of a connection the guest opened: it says who it is, then echoes. */
export const callerService: Service = {
  name: 'caller',
  connected(stack, connection) {
    const { calls } = connection.app as { calls: number };
    stack.write(connection, bytesOf(`hello from the guest, call ${calls}\n`));
  },
  readable: (stack, connection) => echoService.readable(stack, connection),
  writable: (stack, connection) => echoService.writable!(stack, connection),
  idle: (connection) => echoService.idle(connection),
};
