import dgram from 'node:dgram';

const ECHO_PORT = 7;
const DIFFERING_PORT = 9;
/** With so many unanswered the outcome is clear and the rest is not sent. */
const LOST_MAX = 10;

function open(host) {
  return dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
}

/**
 * Sends numbered datagrams, `inFlightMax` at a time, each once, and waits for each one's echo.
 * @returns {Promise<{sent: number, answered: number, doubled: number, wrong: number}>}
 */
export async function echoDatagrams({ host, count, inFlightMax = 4, answerMsMax = 15_000 }) {
  const socket = open(host);
  const waiting = new Map();
  const result = { sent: 0, answered: 0, doubled: 0, wrong: 0 };
  socket.on('message', (data) => {
    const text = data.toString('latin1');
    const settle = waiting.get(text);
    if (settle) {
      waiting.delete(text);
      result.answered++;
      settle();
    } else if (/^datagram \d+ /.test(text)) result.doubled++;
    else result.wrong++;
  });
  const sendOne = () => {
    const number = result.sent++;
    const text = `datagram ${number} `.padEnd(20 + ((number * 37) % 1200), 'x');
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, answerMsMax);
      waiting.set(text, () => {
        clearTimeout(timer);
        resolve();
      });
      socket.send(text, ECHO_PORT, host);
    });
  };
  const worker = async () => {
    while (result.sent < count && waiting.size < LOST_MAX) await sendOne();
  };
  await Promise.all(Array.from({ length: inFlightMax }, worker));
  socket.close();
  return result;
}

/** One request whose answer differs between the VMs; gives the answer's random part. */
export function askDifferingDatagram({ host, tag, answerMsMax = 30_000 }) {
  const socket = open(host);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.close();
      reject(new Error(`no datagram within ${answerMsMax} ms`));
    }, answerMsMax);
    socket.on('message', (data) => {
      clearTimeout(timer);
      socket.close();
      const match = /^(\S+) ([0-9a-f]{48})\n$/.exec(data.toString('latin1'));
      if (match?.[1] === tag) resolve(match[2]);
      else reject(new Error(`unexpected datagram ${data}`));
    });
    socket.send(tag, DIFFERING_PORT, host);
  });
}
