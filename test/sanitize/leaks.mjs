/** Every call of the addon that makes something, many times: what is closed or forgotten must be free at the end. */
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  acknowledgeAtOnce,
  adoptStream,
  firstDifference,
  openNetlink,
  openPacketSocket,
  openTap,
  sum16,
} from '../../native/index.js';

const ROUNDS = 200;

const maps = readFileSync('/proc/self/maps', 'utf8');
if (!maps.includes('libasan') || !maps.includes(process.env.COLO_TEST_ADDONS)) {
  throw new Error('this is not the sanitized addon');
}

const bytes = Buffer.alloc(4096, 7);
const refused = (action) => {
  try {
    return action();
  } catch (error) {
    if (error.code === undefined && !(error instanceof TypeError) && !(error instanceof RangeError))
      throw error;
    return undefined;
  }
};

for (let round = 0; round < ROUNDS; round++) {
  firstDifference(bytes, round, bytes, round, 1000);
  sum16(bytes, round, 1001, 0);
  refused(() => sum16(bytes, 4000, 4000, 0));
  refused(() => openTap({ name: 'no/such/name' }));
  refused(() => openPacketSocket({ interface: 'nosuchinterface' }));
  refused(() => openNetlink({ protocol: 'route', groups: 0 })?.close());
  refused(() => openNetlink({}));
}

const path = join(tmpdir(), `colo-leaks-${process.pid}`);
const server = createServer((socket) => socket.end('some bytes'));
await new Promise((resolve) => server.listen(path, resolve));
for (let round = 0; round < ROUNDS; round++) {
  await new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.pause();
      const stream = adoptStream(socket._handle.fd);
      refused(() => acknowledgeAtOnce(stream.fd));
      stream.start(() => {
        stream.read(bytes, 0, bytes.length);
        if (round % 4 !== 0) stream.close();
        else stream.stop(); // forgotten, and closed when it is collected
        socket.destroy();
        resolve();
      });
    });
  });
}
server.close();
