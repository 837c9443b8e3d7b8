import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLink } from '../../../src/link/factory.js';
import type { LinkOptions } from '../../../src/link/options.js';
import type { StreamLink } from '../../../src/link/stream-link.js';
import { Collector, sendFrame, until } from './collect.js';

let directory: string;
let path: string;
const closers: (() => unknown)[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'colo-stream-'));
  path = join(directory, 'x.sock');
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  rmSync(directory, { recursive: true });
});

function link(url: string, options: Partial<LinkOptions> = {}): StreamLink {
  const made = createLink(url, { reconnectMsMin: 5, reconnectMsMax: 40, ...options }) as StreamLink;
  closers.push(() => made.close());
  return made;
}

async function openLink(url: string, options: Partial<LinkOptions> = {}) {
  const made = link(url, options);
  const at = new Collector();
  await made.open(at);
  return { link: made, at };
}

/** A bare server whose accepted sockets are paused, and read by the test. */
async function listen(): Promise<{ server: Server; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {});
    sockets.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { server, sockets };
}

function client(): Socket {
  const socket = connect(path);
  socket.on('error', () => {});
  closers.push(() => socket.destroy());
  return socket;
}

const word = (length: number): Buffer => Buffer.from([length >>> 24, length >>> 16, length >>> 8, length]);
const framed = (text: string): Buffer => Buffer.concat([word(text.length), Buffer.from(text)]);

describe('stream link', () => {
  it('hands nothing more to the kernel once it may not send, however late the peer reads', async () => {
    const { sockets } = await listen();
    const { link: made, at } = await openLink(`stream:unix:${path}`);
    await until(() => sockets.length === 1, 'the peer');
    const bytes = Buffer.alloc(1400, 'x');
    for (let count = 0; count < 2000; count++) made.send(bytes, 0, bytes.length, 0);
    made.flush();
    const handed = made.counters.framesSent;
    expect(handed).toBeLessThan(1999); // the rest waits for a peer that does not read
    at.maySend = () => false;
    let arrived = 0;
    sockets[0]!.on('data', (chunk: Buffer) => {
      arrived += chunk.length;
    });
    sockets[0]!.resume();
    await until(() => made.untaken() === 0, 'the peer has all it may have');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(arrived % (1400 + 4)).toBe(0); // no frame is cut
    expect(arrived / (1400 + 4)).toBeLessThanOrEqual(handed + 1);
    expect(made.counters.sendDrops).toBe(2000 - made.counters.framesSent);
  });

  it.each([
    ['unix', () => `unix:${path}`],
    ['tcp', () => `tcp:127.0.0.1:${20_000 + (process.pid % 20_000)}`],
  ])('carries frames both ways between a server and a client over %s', async (_family, address) => {
    const server = await openLink(`stream:${address()},server`);
    const peer = await openLink(`stream:${address()}`);
    await until(() => server.link.state === 'up' && peer.link.state === 'up', 'both up');
    const sent = Array.from({ length: 500 }, (_, index) => `frame ${index} `.padEnd(20 + index, 'x'));
    for (const text of sent) expect(sendFrame(peer.link, text)).toBe(true);
    peer.link.flush();
    sendFrame(server.link, 'back');
    server.link.flush();
    await until(() => server.at.frames.length === 500 && peer.at.frames.length === 1, 'all arrive');
    expect(server.at.texts).toEqual(sent);
    expect(peer.at.texts).toEqual(['back']);
    expect(peer.link.counters).toMatchObject({ framesSent: 500, framesReceived: 1, sendDrops: 0 });
    await until(() => peer.link.untaken() === 0, 'all taken'); // over TCP once acknowledged
  });

  it('loses nothing that the peer sends in the instant of accepting', async () => {
    const server = createServer((socket) => socket.write(Buffer.concat([framed('hello'), framed('again')])));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    closers.push(() => server.close());
    const { at } = await openLink(`stream:unix:${path}`);
    await until(() => at.frames.length === 2, 'greeting');
    expect(at.texts).toEqual(['hello', 'again']);
  });

  it('waits for a server that is not there yet and connects again when it comes back', async () => {
    const { link, at } = await openLink(`stream:unix:${path}`);
    expect(link.state).toBe('waiting');
    expect(at.reasons[0]).toMatchObject({ code: 'COLO_ERR_LINK_OPEN' });
    expect(sendFrame(link, 'nobody')).toBe(false);
    const first = await listen();
    await until(() => link.state === 'up', 'first connection');
    first.sockets[0]!.destroy();
    await until(() => first.sockets.length === 2 && link.state === 'up', 'second connection');
    expect(at.reasons.some((reason) => reason.code === 'COLO_ERR_LINK_LOST')).toBe(true);
    expect(link.counters.reopens).toBe(1);
    first.sockets[1]!.write(framed('after'));
    await until(() => at.frames.length === 1, 'frame after reconnection');
  });

  it.each([0, 69_633, 0xffffffff])(
    'drops a connection that says length %d and makes it anew',
    async (length) => {
      const { sockets } = await listen();
      const { link, at } = await openLink(`stream:unix:${path}`);
      await until(() => sockets.length === 1, 'connection');
      sockets[0]!.write(Buffer.concat([framed('good'), word(length), Buffer.alloc(100, 0xff)]));
      await until(() => sockets.length === 2, 'reconnection');
      expect(at.texts).toEqual(['good']);
      expect(at.reasons.map((reason) => reason.code)).toEqual(['COLO_ERR_LINK_FRAMING']);
      sockets[1]!.write(framed('better'));
      await until(() => at.frames.length === 2, 'service goes on');
      expect(link.state).toBe('up');
    },
  );

  it('serves one peer at a time and refuses a second, until the first is gone', async () => {
    const { link, at } = await openLink(`stream:unix:${path},server`);
    expect(at.states).toEqual(['waiting']);
    const first = client();
    await until(() => link.state === 'up', 'first peer');
    const second = client();
    await new Promise((resolve) => second.once('close', resolve));
    expect(link.peersRefused).toBe(1);
    first.write(framed('still served'));
    await until(() => at.frames.length === 1, 'first still served');
    first.end();
    const third = client();
    third.write(framed('third'));
    await until(() => at.frames.length === 2, 'third peer served');
    expect(link.peersRefused).toBe(1);
    expect(link.counters.reopens).toBe(1);
  });

  it('says how many frames a slow reader has not read, bounds what waits, and loses no frame it took', async () => {
    const { sockets } = await listen();
    const { link } = await openLink(`stream:unix:${path}`, {
      sendQueueBytesMax: 300_000,
      frameBytesMax: 2000,
    });
    await until(() => sockets.length === 1 && link.state === 'up', 'connection');
    const frame = 'y'.repeat(1500);
    let taken = 0;
    for (let index = 0; index < 1000; index++) {
      if (sendFrame(link, frame)) taken++;
      link.flush();
    }
    expect(taken).toBeLessThan(1000);
    expect(link.counters.sendDrops).toBe(1000 - taken);
    expect(link.untaken()).toBe(taken);
    let bytes = 0;
    sockets[0]!.on('data', (data) => {
      bytes += data.length;
    });
    sockets[0]!.resume();
    await until(() => bytes === taken * 1504, 'all read');
    expect(link.untaken()).toBe(0);
    expect(link.counters.framesSent).toBe(taken);
  });

  it('hands the kernel more at once when it is given a larger send buffer', async () => {
    const { sockets } = await listen();
    const handed = [];
    for (const options of [{}, { sendBufferBytes: 1024 * 1024 }]) {
      const { link } = await openLink(`stream:unix:${path}`, options);
      await until(() => sockets.length === handed.length + 1 && link.state === 'up', 'connection');
      for (let index = 0; index < 4000; index++) sendFrame(link, 'z'.repeat(1500));
      link.flush();
      handed.push(link.counters.framesSent);
    }
    expect(handed[0]).toBeGreaterThan(10);
    expect(handed[1]).toBeGreaterThan(1.5 * handed[0]!);
  });

  it('keeps every byte in its place when a slow reader takes short and long frames in pieces', async () => {
    const { sockets } = await listen();
    const { link } = await openLink(`stream:unix:${path}`, { frameBytesMax: 60_000 });
    await until(() => sockets.length === 1 && link.state === 'up', 'connection');
    const frames = Array.from({ length: 300 }, (_, index) => {
      const length = index % 3 === 0 ? 60 + index : 8_000 + ((index * 7919) % 50_000);
      return `${index}:`.padEnd(length, String.fromCharCode(97 + (index % 26)));
    });
    const got: Buffer[] = [];
    sockets[0]!.on('data', (data: Buffer) => got.push(data));
    sockets[0]!.pause();
    for (const [index, frame] of frames.entries()) {
      sendFrame(link, frame);
      if (index % 7 === 6) link.flush();
      if (index % 40 !== 39) continue;
      sockets[0]!.resume();
      await new Promise((resolve) => setTimeout(resolve, 1));
      sockets[0]!.pause();
    }
    link.flush();
    sockets[0]!.resume();
    const expected = Buffer.concat(frames.map(framed));
    await until(() => got.reduce((sum, data) => sum + data.length, 0) >= expected.length, 'all read');
    expect(Buffer.concat(got).equals(expected)).toBe(true);
    expect(link.counters.sendDrops).toBe(0);
  });

  it('discards what is queued, but completes the frame that is on its way', async () => {
    const { sockets } = await listen();
    const { link } = await openLink(`stream:unix:${path}`, { frameBytesMax: 60_000 });
    await until(() => sockets.length === 1 && link.state === 'up', 'connection');
    const frames = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(50_000, '.'));
    for (const frame of frames) sendFrame(link, frame);
    link.flush();
    const inKernel = link.counters.framesSent;
    const discarded = link.discardQueued();
    expect(discarded).toBeGreaterThan(0);
    const kept = frames.length - discarded;
    expect(kept).toBeGreaterThanOrEqual(inKernel);
    sendFrame(link, 'new');
    link.flush();
    const expected = Buffer.concat([...frames.slice(0, kept), 'new'].map(framed));
    const got: Buffer[] = [];
    sockets[0]!.on('data', (data: Buffer) => got.push(data));
    sockets[0]!.resume();
    await until(() => got.reduce((sum, data) => sum + data.length, 0) >= expected.length, 'rest read');
    expect(Buffer.concat(got).equals(expected)).toBe(true);
    expect(link.untaken()).toBe(0);
  });

  it('drains, in one call, everything the peer had sent', async () => {
    const { sockets } = await listen();
    const { link, at } = await openLink(`stream:unix:${path}`);
    await until(() => sockets.length === 1 && link.state === 'up', 'connection');
    // As much as the socket holds without anybody reading.
    const frame = framed('z'.repeat(1000));
    sockets[0]!.write(Buffer.concat(Array(100).fill(frame)));
    expect(link.drain()).toBe(100);
    expect(at.frames.length).toBe(100);
    expect(link.drain()).toBe(0);
  });

  it('survives a handler that closes the link, and delivers nothing afterwards', async () => {
    const { sockets } = await listen();
    const made = link(`stream:unix:${path}`, { batchFramesMax: 1 });
    let received = 0;
    await made.open({
      receive() {
        received++;
        void made.close();
      },
      stateChanged() {},
    });
    await until(() => sockets.length === 1, 'connection');
    sockets[0]!.write(Buffer.concat([framed('1'), framed('2'), framed('3')]));
    await until(() => received > 0, 'first frame');
    expect(received).toBe(1);
    expect(made.state).toBe('closed');
    expect(sendFrame(made, 'x')).toBe(false);
  });

  it('replaces a stale socket file, refuses a living one, and unlinks its own at the end', async () => {
    // A socket file without a listener: bound by a process that was killed.
    const { execFileSync } = await import('node:child_process');
    execFileSync('python3', [
      '-c',
      `import socket; s=socket.socket(socket.AF_UNIX); s.bind(${JSON.stringify(path)})`,
    ]);
    expect(statSync(path).isSocket()).toBe(true);
    const { link: served } = await openLink(`stream:unix:${path},server`, { socketMode: 0o660 });
    expect(statSync(path).mode & 0o777).toBe(0o660);
    const second = await openLink(`stream:unix:${path},server`);
    expect(second.link.state).toBe('waiting');
    expect(second.at.reasons[0]!.message).toMatch(/already listens/);
    await served.close();
    await until(() => existsSync(path), 'the second takes over');
    await second.link.close();
    expect(existsSync(path)).toBe(false);
  });

  it('never removes a file that is no socket', async () => {
    writeFileSync(path, 'precious');
    const at = new Collector();
    await expect(link(`stream:unix:${path},server`).open(at)).rejects.toMatchObject({
      code: 'COLO_ERR_LINK_OPEN',
      message: expect.stringContaining('not a socket'),
    });
    expect(statSync(path).isFile()).toBe(true);
  });
});
