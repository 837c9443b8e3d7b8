/** What the agent can do when asked: each job takes and gives plain data. Hosts are literal addresses. */
import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { askDifferingDatagram, echoDatagrams } from './datagrams.mjs';
import { Download } from './download.mjs';
import { GapMeter } from './gap-meter.mjs';
import { LineConnection } from './line-connection.mjs';
import { pattern } from './pattern.mjs';
import { timedJobs } from './timed.mjs';

const ECHO_PORT = 7;
const DOWNLOAD_MS_MAX = 60_000;

/** Things that live from one job to the next, by the caller's name for them. */
const connections = new Map();
const downloads = new Map();
const steadies = new Map();
const heard = [];
const forwards = new Map();

export const jobs = {
  ...timedJobs,

  /** `count` downloads, `parallel` at a time. */
  async downloads({ host, path, count, parallel = 2, msMax = DOWNLOAD_MS_MAX }) {
    const results = [];
    let started = 0;
    const worker = async () => {
      while (started++ < count) results.push(await new Download({ host, path, msMax }).done);
    };
    await Promise.all(Array.from({ length: parallel }, worker));
    const ms = results.reduce((sum, result) => sum + result.ms, 0);
    return {
      complete: results.length,
      bytes: results.reduce((sum, result) => sum + result.bytes, 0),
      msMean: ms / results.length,
      gapMsMax: Math.max(...results.map((result) => result.gapMs)),
    };
  },

  startDownload({ name, host, path, msMax = DOWNLOAD_MS_MAX }) {
    downloads.set(name, new Download({ host, path, msMax }));
  },

  downloadProgress({ name }) {
    return downloads.get(name).received;
  },

  downloadResult({ name }) {
    return downloads.get(name).done;
  },

  async openConnection({ name, host, msMax }) {
    connections.set(name, await LineConnection.open(host, undefined, msMax));
  },

  /** `count` increments one after the other; each must be one more than the one before. */
  async increment({ name, count = 1, msMax }) {
    const connection = connections.get(name);
    const gap = new GapMeter();
    let value = await connection.increment(msMax);
    gap.mark();
    for (let i = 1; i < count; i++) {
      const next = await connection.increment(msMax);
      gap.mark();
      if (next !== value + 1) throw new Error(`counter went from ${value} to ${next}`);
      value = next;
    }
    return { value, gapMsMax: gap.msMax };
  },

  async ask({ name, request, msMax }) {
    return connections.get(name).ask(request, msMax);
  },

  closeConnection({ name }) {
    connections.get(name).close();
    connections.delete(name);
  },

  /** One echo request every `everyMs` on one connection until stopped: its largest silence is the service's gap. */
  async startSteady({ name, host, everyMs = 10, msMax = 60_000 }) {
    const connection = await LineConnection.open(host, ECHO_PORT);
    const steady = { answered: 0, gap: new GapMeter(), stopped: false, error: undefined };
    const loop = async () => {
      while (!steady.stopped) {
        const text = `steady ${steady.answered}`;
        const answer = await connection.ask(text, msMax);
        if (answer !== text) throw new Error(`"${answer}" came for "${text}"`);
        steady.gap.mark();
        steady.answered++;
        await new Promise((resolve) => setTimeout(resolve, everyMs));
      }
    };
    steady.ended = loop()
      .catch((error) => {
        steady.error = error.message;
      })
      .then(() => connection.close());
    steadies.set(name, steady);
  },

  /** The largest silence so far; from now on it is measured anew. */
  steadyGap({ name }) {
    const steady = steadies.get(name);
    const { msMax } = steady.gap;
    steady.gap = new GapMeter();
    return msMax;
  },

  async stopSteady({ name }) {
    const steady = steadies.get(name);
    steady.stopped = true;
    await steady.ended;
    const { gap, answered, error } = steady;
    return { answered, gapMsMax: gap.msMax, gapEndedAtMs: gap.endedAtMs, error };
  },

  /** Connections that each carry one echo and end. */
  async shortConnections({ host, count, parallel = 2, msMax }) {
    let started = 0;
    let complete = 0;
    const worker = async () => {
      while (started < count) {
        const text = `short ${started++}`;
        const connection = await LineConnection.open(host, ECHO_PORT, msMax);
        const answer = await connection.ask(text, msMax);
        connection.close();
        if (answer !== text) throw new Error(`"${answer}" came for "${text}"`);
        complete++;
      }
    };
    await Promise.all(Array.from({ length: parallel }, worker));
    return { complete };
  },

  /** Sends that many bytes to the echo service and expects the same back: an upload and a download at once. */
  bulkEcho({ host, bytes, msMax = 60_000 }) {
    const { content } = pattern(5, bytes);
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host, port: ECHO_PORT });
      let received = 0;
      const timer = setTimeout(
        () => socket.destroy(new Error(`${received} of ${bytes} bytes came back`)),
        msMax,
      );
      socket.on('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
      socket.on('data', (chunk) => {
        if (!chunk.equals(content.subarray(received, received + chunk.length))) {
          socket.destroy(new Error(`wrong bytes after ${received}`));
          return;
        }
        received += chunk.length;
        if (received < bytes) return;
        clearTimeout(timer);
        socket.destroy();
        resolve({ bytes: received });
      });
      socket.write(content);
    });
  },

  /** Notes every datagram "NAME NUMBER" that comes to that port. */
  startListening({ port }) {
    const socket = dgram.createSocket('udp4');
    socket.on('message', (data) => {
      const [who, number] = data.toString('latin1').split(' ');
      heard.push([who, Number(number), performance.now()]);
    });
    return new Promise((resolve) => socket.bind(port, () => resolve()));
  },

  heard: () => heard,

  echoDatagrams,
  askDifferingDatagram,

  /** @returns {Promise<{sent: number, received: number}>} */
  ping({ host, count }) {
    return new Promise((resolve, reject) => {
      const args = ['-n', '-q', '-c', String(count), '-i', '0.1', '-W', '10', host];
      execFile('ping', args, (_error, output, errors) => {
        const match = /(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?/.exec(output);
        if (!match) return reject(new Error(`ping: ${errors || output}`));
        resolve({ sent: Number(match[1]), received: Number(match[2]), doubled: Number(match[3] ?? 0) });
      });
    });
  },

  /** The guest opens a connection to us; `lines` lines go to and fro. `localPort` 0: the guest's kernel chooses. */
  async guestOpensConnection({ host, ownAddress, localPort = 0, lines = 20, msMax = 60_000 }) {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, ownAddress, resolve));
    const accepted = new Promise((resolve) => server.once('connection', resolve));
    const control = await LineConnection.open(host, undefined, msMax);
    const answer = control.ask(`dial ${ownAddress} ${server.address().port} ${localPort}`, msMax);
    const socket = await Promise.race([accepted, answer.then((text) => Promise.reject(new Error(text)))]);
    const fromPort = socket.remotePort;
    try {
      await talkWithGuest(socket, lines, msMax);
    } finally {
      socket.end();
      server.close();
    }
    const outcome = await answer;
    control.close();
    if (outcome !== `dialed=${lines}`) throw new Error(`the guest says ${outcome} after ${lines} lines`);
    return { lines, fromPort };
  },

  /** The guest opens a connection to us that stays: each request is answered by `echo REQUEST`. */
  async openFromGuest({ name, host, ownAddress, msMax = 30_000 }) {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, ownAddress, resolve));
    const accepted = new Promise((resolve) => server.once('connection', resolve));
    const control = await LineConnection.open(host, undefined, msMax);
    const ended = control.ask(`dial ${ownAddress} ${server.address().port} 0`, 2 ** 31 - 1);
    const failed = ended.then((text) => Promise.reject(new Error(`the guest says ${text}`)));
    failed.catch(() => {}); // it ends with the laboratory
    const socket = await Promise.race([accepted, failed]);
    server.close();
    await greeting(socket, msMax);
    connections.set(name, new LineConnection(socket));
  },

  /** What the kernel counted on an interface of this namespace (proc(5), /proc/net/dev). */
  interfaceCounters({ name }) {
    const line = fs
      .readFileSync('/proc/net/dev', 'utf8')
      .split('\n')
      .find((text) => text.trim().startsWith(`${name}:`));
    const fields = line.split(':')[1].trim().split(/\s+/).map(Number);
    return { framesReceived: fields[1], framesSent: fields[9] };
  },

  /** What connects to `port` of the loopback is joined to `toPort`, until it is cut. */
  forward({ port, toPort }) {
    const sockets = new Set();
    const server = net.createServer((near) => {
      const far = net.connect(toPort, '127.0.0.1');
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ]) {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
    forwards.set(port, { server, sockets });
    return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve()));
  },

  cutForward({ port }) {
    const { server, sockets } = forwards.get(port);
    server.close();
    for (const socket of sockets) socket.destroy();
  },

  /** GET as text, for the proxy's admin endpoints. */
  get({ url }) {
    return new Promise((resolve, reject) => {
      const request = http.get(url, { agent: false, timeout: 5000 }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode, text }));
      });
      request.on('timeout', () => request.destroy(new Error(`${url}: no answer`)));
      request.on('error', reject);
    });
  },
};

async function greeting(socket, msMax) {
  const text = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no greeting from the guest')), msMax);
    socket.once('data', (data) => {
      clearTimeout(timer);
      resolve(data.toString('latin1'));
    });
    socket.once('error', reject);
  });
  if (text !== 'hello from the guest\n') throw new Error(`unexpected greeting ${text}`);
}

async function talkWithGuest(socket, lines, msMax) {
  await greeting(socket, msMax);
  const connection = new LineConnection(socket);
  for (let i = 0; i < lines; i++) {
    const answer = await connection.ask(`line ${i}`, msMax);
    if (answer !== `echo line ${i}`) throw new Error(`"${answer}" came for line ${i}`);
  }
}
