/** How long single requests take: jobs that each give the milliseconds of every one, in order. */
import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import { Download } from './download.mjs';
import { LineConnection } from './line-connection.mjs';

const ECHO_PORT = 7;
/** What has not begun by then is not begun. */
const JOB_MS_MAX = 45_000;

async function timed(count, one) {
  const started = performance.now();
  const ms = [];
  while (ms.length < count && performance.now() - started < JOB_MS_MAX) {
    const before = performance.now();
    await one(ms.length);
    ms.push(performance.now() - before);
  }
  return { ms, seconds: (performance.now() - started) / 1000 };
}

export const timedJobs = {
  /** Round trips as ping(8) prints them. */
  timedPings({ host, count }) {
    return new Promise((resolve, reject) => {
      const args = ['-n', '-c', String(count), '-i', '0.02', '-W', '5', host];
      execFile('ping', args, (_error, output, errors) => {
        const ms = [...output.matchAll(/time=([\d.]+) ms/g)].map(([, text]) => Number(text));
        if (ms.length === count) resolve({ ms });
        else reject(new Error(`ping: ${ms.length} of ${count} came back ${errors}`));
      });
    });
  },

  /** Downloads one after the other, each on a connection of its own; their bytes are compared. */
  async timedDownloads({ host, path, count, msMax = 30_000 }) {
    let bytes = 0;
    const result = await timed(count, async () => {
      bytes += (await new Download({ host, path, msMax }).done).bytes;
    });
    return { ...result, bytes };
  },

  /** The same question again and again on one connection. */
  async timedRequests({ host, request, count, restMs = 0 }) {
    const connection = await LineConnection.open(host);
    const ms = [];
    for (let index = 0; index < count; index++) {
      const { ms: one } = await timed(1, () => connection.ask(request));
      ms.push(...one);
      if (restMs > 0) await new Promise((resolve) => setTimeout(resolve, restMs));
    }
    connection.close();
    return { ms };
  },

  /** Datagrams of 64 bytes, one at a time. */
  async timedDatagrams({ host, count }) {
    const socket = dgram.createSocket('udp4');
    const echo = (index) =>
      new Promise((resolve, reject) => {
        const text = `timed ${index} `.padEnd(64, 'x');
        const timer = setTimeout(() => reject(new Error(`datagram ${index} did not come back`)), 5000);
        socket.on('message', function heard(data) {
          if (data.toString('latin1') !== text) return;
          clearTimeout(timer);
          socket.off('message', heard);
          resolve();
        });
        socket.send(text, ECHO_PORT, host);
      });
    try {
      return await timed(count, echo);
    } finally {
      socket.close();
    }
  },
};
