/**
 * Preloaded into the proxy under test (`node --import`): stops the relay at one sync-point, so that a test can kill
 * something exactly there. A test writes `hold WORD before|after` to the socket at $COLO_TEST_WORDS_SOCKET: before or
 * after the proxy has done what belongs to the word, and in both cases before its receiver gets it. `held WORD PHASE`
 * comes back when it is there; `go`, or the end of the connection, lets it pass. The proxy itself knows nothing of this.
 */
import fs from 'node:fs';
import net from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { Coordinator } from '../../../dist/checkpoint/coordinator.js';

let order;
let pass;

const { wordSeen } = Coordinator.prototype;
Coordinator.prototype.wordSeen = async function heldWordSeen(direction, word) {
  const mine = order?.word === word ? order : undefined;
  if (mine) order = undefined;
  if (mine?.when === 'before') await held(mine, word, this.phase);
  await wordSeen.call(this, direction, word);
  if (mine?.when === 'after') await held(mine, word, this.phase);
};

function held({ socket }, word, phase) {
  return new Promise((resolve) => {
    pass = resolve;
    socket.write(`held ${word} ${phase}\n`);
  });
}

function serve(socket) {
  const release = () => {
    if (order?.socket === socket) order = undefined;
    pass?.();
    pass = undefined;
  };
  socket.setEncoding('latin1');
  socket.on('data', (text) => {
    for (const line of text.trim().split('\n')) {
      const [verb, word, when] = line.split(' ');
      if (verb === 'go') release();
      else order = { word, when, socket };
    }
  });
  socket.on('error', () => {});
  socket.on('close', release);
  socket.unref();
}

// The proxy's threads preload this, too; the relay is in the first. A proxy that root starts begins anew by execve(2),
// which leaves the socket's name behind.
if (isMainThread) {
  const path = process.env.COLO_TEST_WORDS_SOCKET;
  fs.rmSync(path, { force: true });
  net.createServer(serve).listen(path).unref();
}
