/** Traffic that is under way when a cell's victim dies. */
import { CLIENT, GUEST } from '../qemu/lib/net.mjs';

const BULK_BYTES = 12 << 20;
const UPLOAD_BYTES = 12 << 20;
/** Each in turn sends a datagram and waits for its answer. */
const DATAGRAM_SENDERS = 4;
const OPEN_ATTEMPTS_MAX = 5;

/**
 * @typedef {object} Traffic
 * @property {number} increments by how much it raises the guest's counter until it is finished
 * @property {() => boolean} isOver nothing of it is under way any more
 * @property {() => Promise<void>} finish rejects when anything was not right
 */

/** @returns {Promise<Traffic>} */
export async function start(rig, { traffic: kind, victim }, name) {
  const { client } = rig;
  const host = kind === 'ipv6' ? GUEST.ipv6 : GUEST.ipv4;
  switch (kind) {
    case 'download':
    case 'ipv6':
      await client.do('startDownload', { name, host, path: `/bytes/${BULK_BYTES}/9` });
      return running(client.do('downloadResult', { name }));
    case 'upload':
      return running(client.do('bulkEcho', { host, bytes: UPLOAD_BYTES }));
    case 'short':
      return running(client.do('shortConnections', { host, count: 400, parallel: 4 }));
    case 'guest-opened':
      return running(client.do('guestOpensConnection', { host, ownAddress: CLIENT.ipv4, lines: 1000 }));
    case 'udp':
      return datagrams(client, host, victim);
    case 'older':
    case 'younger':
      return connection(rig, host, name, kind);
    default:
      return { increments: 0, isOver: () => false, finish: async () => {} };
  }
}

function running(done, judge = () => {}) {
  let isOver = false;
  const judged = done.then(judge).finally(() => {
    isOver = true;
  });
  judged.catch(() => {}); // told by finish
  return { increments: 0, isOver: () => isOver, finish: () => judged };
}

/**
 * No datagram is lost or doubled when a VM or the channel is lost. With the proxy itself dies what it holds, and what
 * comes until it is back reaches nobody; nobody repeats a datagram. No sender can lose more than the one it waits for.
 */
function datagrams(client, host, victim) {
  const count = 1500;
  const lostMax = victim === 'proxy' ? DATAGRAM_SENDERS : 0;
  const answerMsMax = victim === 'proxy' ? 3000 : 15_000;
  const done = client.do('echoDatagrams', { host, count, inFlightMax: DATAGRAM_SENDERS, answerMsMax });
  return running(done, ({ sent, answered, doubled, wrong }) => {
    if (sent !== count || sent - answered > lostMax || doubled > 0 || wrong > 0) {
      throw new Error(`${sent} datagrams: ${sent - answered} lost, ${doubled} doubled, ${wrong} wrong`);
    }
  });
}

/** A connection with a checkpoint after its opening, or surely none. */
async function connection({ client, proxy }, host, name, kind) {
  let increments = 0;
  const use = async () => {
    await client.do('increment', { name, count: 5 });
    increments += 5;
  };
  for (let attempt = 1; ; attempt++) {
    const { epoch } = await proxy.metrics();
    await client.do('openConnection', { name, host });
    if (kind === 'older') await proxy.control(['checkpoint']);
    await use();
    const isYounger = (await proxy.metrics()).epoch === epoch;
    if (isYounger === (kind === 'younger')) break;
    if (attempt === OPEN_ATTEMPTS_MAX) throw new Error(`no connection ${kind} than the last checkpoint`);
    await client.do('closeConnection', { name });
  }
  return {
    get increments() {
      return increments;
    },
    isOver: () => false,
    finish: async () => {
      await use();
      await client.do('closeConnection', { name });
    },
  };
}
