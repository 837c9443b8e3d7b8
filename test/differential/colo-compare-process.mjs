/** QEMU's own colo-compare, alone: a QEMU without a machine whose comparator is fed over unix sockets. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const QEMU = 'qemu-system-x86_64';
const START_MS_MAX = 10_000;
/** Frames sent before QEMU has accepted `outdev` are lost. */
const ACCEPT_MS = 300;
const FRAME_BYTES_MAX = 70_000;
const CHARDEVS = ['primary', 'secondary', 'out', 'notify'];

export function qemuVersion() {
  const { stdout, status } = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n')[0] : undefined;
}

export class ColoCompareProcess {
  released = [];
  checkpointsAsked = 0;
  #directory = mkdtempSync(join(tmpdir(), 'colo-differential-'));
  #sockets = {};
  #child;

  async start() {
    const path = (name) => join(this.#directory, name);
    const chardevs = CHARDEVS.flatMap((name) => [
      '-chardev',
      `socket,id=${name},path=${path(name)},server=on,wait=off`,
    ]);
    const inputs = 'primary_in=primary,secondary_in=secondary,outdev=out,notify_dev=notify';
    const compare = `colo-compare,id=compare,${inputs},iothread=io`;
    const base = ['-machine', 'none', '-nographic', '-nodefaults', '-S'];
    const objects = ['-object', 'iothread,id=io', '-object', compare];
    this.#child = spawn(QEMU, [...base, ...chardevs, ...objects], { stdio: 'ignore' });
    for (const name of CHARDEVS) this.#sockets[name] = await this.#connect(path(name));
    readFrames(this.#sockets.out, (frame) => this.released.push(frame));
    readFrames(this.#sockets.notify, (word) => {
      if (word.toString().startsWith('DO_CHECKPOINT')) this.checkpointsAsked++;
    });
    await sleep(ACCEPT_MS);
  }

  /** @param {'primary' | 'secondary'} side */
  send(side, frame) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(frame.length);
    this.#sockets[side].write(Buffer.concat([length, frame]));
  }

  /** Once it did not end on SIGTERM. */
  stop() {
    for (const socket of Object.values(this.#sockets)) socket.destroy();
    this.#child?.kill('SIGKILL');
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #connect(path) {
    for (let leftMs = START_MS_MAX; leftMs > 0; leftMs -= 20) {
      const socket = await new Promise((resolve) => {
        const one = connect(path, () => resolve(one));
        one.once('error', () => resolve(undefined));
      });
      if (socket !== undefined) {
        socket.on('error', () => {});
        return socket;
      }
      await sleep(20);
    }
    throw new Error(`${QEMU} did not open ${path} within ${START_MS_MAX} ms`);
  }
}

function readFrames(socket, take) {
  let pending = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 4) {
      const length = pending.readUInt32BE(0);
      if (length > FRAME_BYTES_MAX) throw new Error(`a frame of ${length} bytes`);
      if (pending.length < 4 + length) return;
      take(pending.subarray(4, 4 + length));
      pending = pending.subarray(4 + length);
    }
  });
}
