import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { coloComparePartsOf } from '../../../src/cli/colo-compare.js';
import { ColoCompare } from '../../../src/dataplane/colo-compare.js';
import { silentLog } from '../../../src/system/log.js';
import { buildTcp } from '../../../src/wire/build.js';
import { TcpFlag } from '../../../src/wire/frame-view.js';

const NAMES = ['primary-in', 'secondary-in', 'outdev', 'notify-dev'] as const;
type Name = (typeof NAMES)[number];

let folder: string;
let compare: ColoCompare;
let sockets: Socket[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'colo-compare-'));
  sockets = [];
  const at = (name: Name): string => `unix:${join(folder, name)},server`;
  const options = {
    primaryIn: at('primary-in'),
    secondaryIn: at('secondary-in'),
    outdev: at('outdev'),
    notifyDev: at('notify-dev'),
    compareTimeout: '3000',
    expiredScanCycle: '3000',
    maxQueueSize: '1024',
  };
  compare = new ColoCompare(coloComparePartsOf(options, silentLog));
  await compare.open();
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await compare.close();
  rmSync(folder, { recursive: true });
});

async function peer(name: Name): Promise<Socket> {
  const socket = connect(join(folder, name));
  sockets.push(socket);
  socket.on('error', () => {});
  await until(() => compare.links[name]!.state === 'up');
  return socket;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

function lengthWord(length: number): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(length);
  return word;
}

function segment(seq: number, payloadBytes = 100): Buffer {
  const frame = buildTcp({
    ...{ source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 80, destinationPort: 4000 },
    ...{ seq, ack: 1, flags: TcpFlag.ACK, payload: Buffer.alloc(payloadBytes, seq) },
  });
  return Buffer.concat([lengthWord(frame.length), frame]);
}

describe('hostile peers of colo-compare', () => {
  it.each([
    ['4 GiB', lengthWord(0xffff_ffff)],
    ['garbage', Buffer.alloc(4096, 0xa5)],
  ])('a length word of %s ends that connection alone; the next peer is served', async (_what, bytes) => {
    const outdev = await peer('outdev');
    let received = 0;
    outdev.on('data', (piece) => {
      received += piece.length;
    });
    const secondary = await peer('secondary-in');
    const bad = await peer('primary-in');
    const hungUp = new Promise((resolve) => bad.once('close', resolve));
    bad.write(bytes);
    await hungUp;
    expect(compare.links['secondary-in'].state).toBe('up');
    const good = await peer('primary-in');
    good.write(Buffer.concat([lengthWord(0), segment(1000)]));
    secondary.write(segment(1000));
    await until(() => received === segment(1000).length);
    expect(compare.framesReleased).toBe(1);
  });

  it('sockets that come and go, in the middle of a frame too, leave nothing behind', async () => {
    for (let round = 0; round < 40; round += 1) {
      const socket = await peer(NAMES[round % NAMES.length]!);
      socket.write(segment(1).subarray(0, 1 + (round % 100)));
      socket.destroy();
      await until(() => compare.links[NAMES[round % NAMES.length]!]!.state === 'waiting');
    }
    for (const name of NAMES) expect(compare.links[name]!.state).toBe('waiting');
    expect(compare.comparator.heldFrames).toBe(0);
  });

  it('an outdev that stops reading costs a bounded queue; what goes beyond it is counted', async () => {
    const outdev = await peer('outdev');
    outdev.pause();
    const [primary, secondary] = [await peer('primary-in'), await peer('secondary-in')];
    const perRound = 2000;
    let rounds = 0;
    for (; compare.undelivered === 0 && rounds < 100; rounds += 1) {
      const frames = Buffer.concat(
        Array.from({ length: perRound }, (_, index) => segment(1 + 1448 * (rounds * perRound + index), 1448)),
      );
      primary.write(frames);
      secondary.write(frames);
      await until(() => compare.framesReleased === (rounds + 1) * perRound);
    }
    expect(compare.undelivered).toBeGreaterThan(0);
    expect(compare.links.outdev.untaken()).toBeLessThan(rounds * perRound);
    const { arrayBuffers } = process.memoryUsage();
    for (let more = 0; more < 5; more += 1, rounds += 1) {
      const frames = Buffer.concat(
        Array.from({ length: perRound }, (_, index) => segment(1 + 1448 * (rounds * perRound + index), 1448)),
      );
      primary.write(frames);
      secondary.write(frames);
      await until(() => compare.framesReleased === (rounds + 1) * perRound);
    }
    expect(process.memoryUsage().arrayBuffers - arrayBuffers).toBeLessThan(32 * 1024 * 1024);
  }, 30_000);
});
