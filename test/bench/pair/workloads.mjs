/** What the client does to a guest, and what it measures: milliseconds of each request. */
import { sleep } from '../../qemu/lib/command.mjs';
import { CLIENT, GUEST } from '../../qemu/lib/net.mjs';

const host = GUEST.ipv4;
const FORCED = 40;
/** Long enough for a client's retransmission timer to show itself. */
const AFTER_FORCED_MS = 400;
/** More than the least distance of two checkpoints. */
const REST_MS = 150;
const SETTLE_MS = 300;
const MIB = '/1m.bin';
const KIB64 = '/64k.bin';

const asks = (job, args) => (world) => world.client.do(job, { host, ...args });

const differing = (restMs) => asks('timedRequests', { request: 'rand', count: 20, restMs });

/** Name in JSON, name for people, and how it is played. */
export const WORKLOADS = [
  ['ping', 'ping', asks('timedPings', { count: 100 })],
  ['get-1m', 'GET 1 MiB', asks('timedDownloads', { path: MIB, count: 10 })],
  ['get-64k', 'GET 64 KiB', asks('timedDownloads', { path: KIB64, count: 20 })],
  ['requests', 'requests on one connection', asks('timedRequests', { request: 'inc', count: 500 })],
  ['short', 'connect, GET 64 KiB', asks('timedDownloads', { path: KIB64, count: 200 })],
  ['datagrams', 'UDP echo', asks('timedDatagrams', { count: 500 })],
  ['guest-opens', 'the guest connects', guestOpens],
  ['parallel', '4 GET 1 MiB at once', parallel],
  ['ipv6', 'GET 64 KiB, IPv6', asks('timedDownloads', { host: GUEST.ipv6, path: KIB64, count: 20 })],
  ['forced', 'silence around a forced checkpoint', forced],
  // last: a proxy may come to take them for a workload that always differs, and go on by the clock
  ['differing', 'an answer that differs, at rest', differing(REST_MS)],
  ['differing-on', 'answers that differ, one after the other', differing(0)],
];

/** Played before anything is measured: TCG translates a guest's code as it first runs, Node.js compiles what runs often. */
const WARM_UP = [
  asks('timedDownloads', { path: MIB, count: 40 }),
  asks('timedDownloads', { path: KIB64, count: 40 }),
  asks('timedRequests', { request: 'inc', count: 500 }),
  asks('timedDatagrams', { count: 500 }),
];

export const checkpointsOf = (world) => world.primary.monitor.countOf('RESUME');

/** @returns {Promise<object>} `ms` of each, `checkpoints` during it, perhaps bytes and seconds; or `error` */
export async function play(world, workload) {
  const before = checkpointsOf(world);
  try {
    const result = await workload(world);
    await sleep(SETTLE_MS);
    return result && { ...result, checkpoints: checkpointsOf(world) - before };
  } catch (error) {
    return { error: error.message.split('\n')[0] };
  }
}

/** One of these that does not come to its end is no reason not to measure. */
export async function warmUp(world) {
  for (const workload of WARM_UP) await play(world, workload);
}

/** Each to a port of its own; the guests' kernels choose theirs. */
async function guestOpens(world) {
  const ms = [];
  let withoutCheckpoint = 0;
  for (let index = 0; index < 5; index++) {
    const [before, started] = [checkpointsOf(world), performance.now()];
    await world.client.do('guestOpensConnection', { host, ownAddress: CLIENT.ipv4, lines: 1 });
    ms.push(performance.now() - started);
    await sleep(REST_MS);
    if (checkpointsOf(world) === before) withoutCheckpoint++;
  }
  return { ms, withoutCheckpoint };
}

async function parallel(world) {
  const started = performance.now();
  const { bytes } = await world.client.do('downloads', { host, path: MIB, count: 4, parallel: 4 });
  const ms = performance.now() - started;
  return { ms: [ms], bytes, seconds: ms / 1000 };
}

/** The longest silence of a connection with a request every 2 ms, beside the primary's pause. */
async function forced(world) {
  if (!world.forceCheckpoint) return undefined;
  const name = 'live';
  await world.client.do('startSteady', { name, host, everyMs: 2 });
  const ms = [];
  const pauseMs = [];
  for (let index = 0; index < FORCED; index++) {
    await world.client.do('steadyGap', { name });
    const seen = world.primary.monitor.events.length;
    await world.forceCheckpoint();
    await sleep(AFTER_FORCED_MS);
    ms.push(await world.client.do('steadyGap', { name }));
    pauseMs.push(longestPause(world.primary.monitor.events.slice(seen)));
  }
  const { error } = await world.client.do('stopSteady', { name });
  if (error) throw new Error(error);
  return { ms, pauseMs };
}

function longestPause(events) {
  let stoppedAtMs;
  let longest = 0;
  for (const { name, atMs } of events) {
    if (name === 'STOP') stoppedAtMs = atMs;
    if (name === 'RESUME') longest = Math.max(longest, atMs - (stoppedAtMs ?? atMs));
  }
  return longest;
}
