/** The simulation's TCP against Linux's: whatever two copies of one small stack agree on may still be wrong. */
import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { expect, it } from 'vitest';
import { createLink } from '../../src/link/factory.js';
import { memoryLinkPair } from '../../src/link/memory-link.js';
import { DEFAULT_LINK_OPTIONS } from '../../src/link/options.js';
import { fileBytes } from '../../src/simulation/content.js';
import { Guest } from '../../src/simulation/guest.js';
import { CLEAN_WIRE, LossyWire, type WireFaults } from '../../src/simulation/lossy-wire.js';
import { SeededRandom } from '../../src/simulation/random.js';
import { realClock } from '../../src/system/clock.js';
import { parseIpAddress, parseMac } from '../../src/wire/addresses.js';
import { describeInNamespaces } from './harness.js';
import { closeAfterEach, closeLater, useOwnNamespace } from './link-helpers.js';

const ADDRESSES = {
  mac: parseMac('52:54:00:00:88:02')!,
  ipv4: parseIpAddress('10.88.0.2')!,
  ipv6: parseIpAddress('fd88::2')!,
  vlan: 0,
};
const MIB = 1024 * 1024;

describeInNamespaces('a scripted guest and Linux', () => {
  const host = useOwnNamespace('simulation');
  closeAfterEach();

  /** A guest behind a tap of the host, with a wire between that may lose and reorder. */
  async function attach(faults: Partial<WireFaults>, tcp = {}): Promise<{ move(): void }> {
    const seed = 88;
    const random = new SeededRandom(seed);
    const wireFaults = { ...CLEAN_WIRE, ...faults };
    // Frames of the tap carry partial checksums and may be super-frames: a plain link completes and cuts them.
    const abilities = { vnetHeader: false, gso: false, frameBytesMax: 1522 };
    const [plain, guestEnd] = memoryLinkPair({ abilities });
    const tap = createLink('tap:sim0', DEFAULT_LINK_OPTIONS);
    closeLater(() => tap.close());
    await tap.open({
      receive: (batch) => {
        for (let index = 0; index < batch.count; index++) {
          plain.send(batch.slab, batch.offsets[index]!, batch.lengths[index]!, batch.vnetHeaderBytes);
        }
        plain.flush();
      },
      stateChanged() {},
    });
    host.ip('addr add 10.88.0.1/24 dev sim0');
    host.ip('-6 addr add fd88::1/64 dev sim0 nodad');
    const toGuest = new LossyWire(realClock, random.fork('to guest'), wireFaults, (frame) =>
      guest.stack.receive(frame, 0, frame.length),
    );
    const toHost = new LossyWire(realClock, random.fork('to host'), wireFaults, (frame) => {
      tap.send(frame, 0, frame.length, 0);
      tap.flush();
    });
    const make = (label: string): Guest =>
      new Guest({
        addresses: ADDRESSES,
        clock: realClock,
        random: random.fork(label),
        transmit: (frame) => toHost.send(frame),
        tcp: { segmentJitter: 0.1, ...tcp },
      });
    let guest = make('first');
    await guestEnd.open({
      receive: (batch) => {
        for (let index = 0; index < batch.count; index++) {
          const at = batch.offsets[index]!;
          toGuest.send(batch.slab.subarray(at, at + batch.lengths[index]!));
        }
      },
      stateChanged() {},
    });
    await plain.open({ receive() {}, stateChanged() {} });
    guest.stack.start();
    closeLater(() => guest.stack.stop());
    return {
      /** A checkpoint and a failover in one: the guest goes on as another machine. */
      move() {
        guest.stack.stop();
        const snapshot = guest.snapshot();
        guest = make('next');
        guest.restore(snapshot);
        guest.stack.start();
      },
    };
  }

  /** SHA-256 of what a real client got, and of what it had to get. */
  async function download(server: string, file: string, bytes: number): Promise<[string, string]> {
    const hash = createHash('sha256');
    const child = host.spawn('curl', ['-sS', '--max-time', '40', `http://${server}/${file}`]);
    child.stdout!.on('data', (chunk: Buffer) => hash.update(chunk));
    await new Promise((resolve) => child.once('close', resolve));
    return [
      hash.digest('hex'),
      createHash('sha256')
        .update(fileBytes(file, 0, bytes))
        .digest('hex'),
    ];
  }

  it.each([
    ['a clean wire', {}, {}],
    ['a wire that loses and reorders', { loss: 0.01, jitterMs: 2, duplication: 0.01 }, {}],
    ['a wire that loses, without SACK and timestamps', { loss: 0.01 }, { sack: false, timestamps: false }],
  ])('downloads over %s', async (_name, faults, tcp) => {
    await attach(faults, tcp);
    for (const server of ['10.88.0.2', '[fd88::2]']) {
      const [got, expected] = await download(server, `linux-${MIB}.bin`, MIB);
      expect(got).toBe(expected);
    }
  });

  it('a download survives moves of the guest', async () => {
    const { move } = await attach({ delayMs: 2 });
    let moves = 0;
    const timer = setInterval(() => {
      move();
      moves++;
    }, 20);
    closeLater(() => clearInterval(timer));
    const [got, expected] = await download('10.88.0.2', `moved-${2 * MIB}.bin`, 2 * MIB);
    clearInterval(timer);
    expect(got).toBe(expected);
    expect(moves).toBeGreaterThan(2);
  });

  it('counts, answers pings, and opens connections to Linux', async () => {
    await attach({});
    const ping = host.spawn('ping', ['-c', '3', '-i', '0.05', '-W', '5', 'fd88::2']);
    expect(await new Promise((resolve) => ping.once('close', resolve))).toBe(0);

    const heard = new Promise<string>((resolve) => {
      const server = createServer((socket) => {
        let text = '';
        socket.on('data', (chunk) => {
          text += chunk.toString();
          if (text.includes('call 1\n') && !text.includes('echo me')) socket.write('echo me\n');
          if (text.endsWith('echo me\n')) resolve(text);
        });
        closeLater(() => socket.destroy());
      });
      server.listen(5999, '10.88.0.1');
      closeLater(() => server.close());
    });
    const socket = connect(8000, '10.88.0.2');
    closeLater(() => socket.destroy());
    let answers = '';
    socket.on('data', (chunk) => {
      answers += chunk.toString();
    });
    socket.write('call 5999\n');
    expect(await heard).toBe('hello from the guest, call 1\necho me\n');
    const closed = new Promise((resolve) => socket.once('end', resolve));
    socket.end('inc\ninc\n');
    await closed;
    expect(answers).toBe('calling 5999\ncounter=2\ncounter=3\n');
  });
});
