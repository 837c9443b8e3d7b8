/** TCP and UDP over IPv4 and IPv6 at once: datagrams, downloads of 1 MiB, requests on one connection. */
import { GUEST } from '../lib/net.mjs';

/**
 * @param {import('../lib/agent.mjs').Agent} client
 * @param {() => boolean | Promise<boolean>} isOver asked after each piece of the load
 * @returns {{sum: object, done: Promise<unknown>}} `sum` grows while it goes on
 */
export function mixedLoad(client, isOver) {
  const sum = { sent: 0, answered: 0, doubled: 0, wrong: 0, downloads: 0 };
  const repeat = async (piece) => {
    do await piece();
    while (!((await isOver()) || sum.answered < sum.sent));
  };
  const datagrams = (host) => async () => {
    const result = await client.do('echoDatagrams', { host, count: 200, inFlightMax: 8 });
    for (const key of ['sent', 'answered', 'doubled', 'wrong']) sum[key] += result[key];
  };
  const downloads = async () => {
    const { complete } = await client.do('downloads', { host: GUEST.ipv4, path: '/1m.bin', count: 4 });
    sum.downloads += complete;
  };
  const requests = async () => {
    await client.do('openConnection', { name: 'mixed', host: GUEST.ipv6 });
    await repeat(() => client.do('increment', { name: 'mixed', count: 20 }));
  };
  const done = Promise.all([
    repeat(datagrams(GUEST.ipv4)),
    repeat(datagrams(GUEST.ipv6)),
    repeat(downloads),
    requests(),
  ]);
  return { sum, done };
}

export const tellLoad = ({ sent, answered, doubled, wrong, downloads }) => ({
  ok: answered === sent && doubled === 0 && wrong === 0,
  seen: `${sent} datagrams: ${sent - answered} lost, ${doubled} doubled; ${downloads} x 1 MiB right`,
});
