/** One cell of the matrix on a running rig. */
import { sleep, until } from '../qemu/lib/command.mjs';
import { GUEST } from '../qemu/lib/net.mjs';
import { wordPasses } from '../qemu/scenarios/sync-points.mjs';
import { nameOf } from './cells.mjs';

const OVER_MS_MAX = 30_000;
const SETTLE_MS = 150;
const BULK_BYTES = 12 << 20;
/** A download that began this long ago is in full flow. */
const FLOW_MS = 400;
/** Datagrams on their way at any time. */
const IN_FLIGHT = 4;

/** Connections that live from the first cell of a rig to its last. */
export async function begin(rig) {
  await rig.client.do('openConnection', { name: 'forever', host: GUEST.ipv4 });
  const { value } = await rig.client.do('increment', { name: 'forever' });
  rig.counter = value;
}

/** @returns {Promise<{ok: boolean, problems: string[], figures: object}>} */
export async function play(rig, cell) {
  const problems = [];
  const { client, proxy } = rig;
  const name = nameOf(cell);
  await rig.protect();
  const before = await proxy.metrics();
  await client.do('startSteady', { name, host: GUEST.ipv6, everyMs: 5 });
  const traffic = await start(rig, cell, name);
  await sleep(FLOW_MS);

  const differing =
    cell.moment === 'between'
      ? undefined
      : client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: 'word' }).catch(() => undefined);
  if (cell.moment === 'between') await sleep(Math.random() * 100);
  else await wordPasses(proxy.logFile, cell.moment);
  const killedAtMs = performance.now();
  await kill(rig, cell.victim, before.carrier);
  if (cell.victim === 'both') return expectSilence(rig, before, problems);

  const over = await proxy
    .until('over', OVER_MS_MAX, (m) => isOver(m, cell.victim, before))
    .catch((error) => problems.push(error.message.split('\n')[0]));
  const overMs = performance.now() - killedAtMs;
  await collect(problems, 'traffic', traffic.finish());
  await collect(
    problems,
    'the connection older than everything',
    client.do('increment', { name: 'forever', count: 3 }).then(({ value }) => {
      rig.counter += traffic.increments + 3;
      if (value !== rig.counter) throw new Error(`counter ${value}, expected ${rig.counter}`);
    }),
  );
  await sleep(SETTLE_MS);
  const steady = await client.do('stopSteady', { name });
  if (steady.error) problems.push(`a steady connection: ${steady.error}`);
  await differing;
  const survivor = rig[typeof over === 'object' ? over.carrier : before.carrier];
  const { status } = await survivor.monitor
    .execute('query-status')
    .catch((error) => ({ status: error.message }));
  if (status !== 'running') problems.push(`QEMU says the survivor is ${status}`);
  problems.push(...survivor.damage());
  return { ok: problems.length === 0, problems, figures: { gapMs: steady.gapMsMax, overMs } };
}

async function kill(rig, victim, carrier) {
  const other = carrier === 'primary' ? 'secondary' : 'primary';
  const die = async (vm) => {
    vm.kill();
    await vm.child.ended;
  };
  if (victim === 'primary') return die(rig[carrier]);
  if (victim === 'frozen') return rig[carrier].child.kill('SIGSTOP');
  if (victim === 'secondary') return die(rig[other]);
  if (victim === 'both') return void (await Promise.all([die(rig[carrier]), die(rig[other])]));
  if (victim === 'relay') {
    await rig[carrier].monitor.execute('yank', { instances: [{ type: 'migration' }] });
    return;
  }
  rig.proxy.child.kill('SIGKILL');
  await rig.proxy.child.ended;
  rig.proxy.start();
}

function isOver(m, victim, before) {
  if (victim === 'primary' || victim === 'frozen')
    return m.state === 'failed-over' && m.carrier !== before.carrier;
  if (victim === 'secondary') return m.state === 'failed-over' && m.carrier === before.carrier;
  return m.state === 'unprotected' && m.carrier === before.carrier;
}

/** Nobody is left: nothing leaves any more, and the proxy says so. */
async function expectSilence(rig, before, problems) {
  await sleep(1000);
  const { client } = rig;
  const first = await client.do('interfaceCounters', { name: 'eth0' });
  await sleep(1000);
  const second = await client.do('interfaceCounters', { name: 'eth0' });
  const answered = await client.do('ping', { host: GUEST.ipv4, count: 2 }).catch(() => ({ received: 0 }));
  if (answered.received > 0) problems.push('somebody answers');
  const released = second.framesReceived - first.framesReceived;
  if (released > 3) problems.push(`${released} frames came from a dead pair`);
  const { text, status } = await rig.proxy.readiness();
  if (status !== 503 || !/qmp/.test(text)) problems.push(`readyz says ${status}: ${text}`);
  return { ok: problems.length === 0, problems, figures: { epochBefore: before.epoch } };
}

/** Traffic that is under way when the cell's victim dies; `finish` rejects when anything was not right. */
async function start(rig, { traffic: kind, victim }, name) {
  const { client } = rig;
  const increments = 0;
  switch (kind) {
    case 'download':
    case 'ipv6': {
      const host = kind === 'ipv6' ? GUEST.ipv6 : GUEST.ipv4;
      await client.do('startDownload', { name, host, path: `/bytes/${BULK_BYTES}/9` });
      return { increments, finish: () => client.do('downloadResult', { name }) };
    }
    case 'upload': {
      const done = client.do('bulkEcho', { host: GUEST.ipv4, bytes: 4 << 20 });
      done.catch(() => {});
      return { increments, finish: () => done };
    }
    case 'short': {
      const done = client.do('shortConnections', { host: GUEST.ipv4, count: 80, parallel: 4 });
      done.catch(() => {});
      return { increments, finish: () => done };
    }
    case 'guest-opened': {
      const done = client.do('guestOpensConnection', {
        host: GUEST.ipv4,
        ownAddress: '10.77.0.1',
        lines: 400,
      });
      done.catch(() => {});
      return { increments, finish: () => done };
    }
    case 'udp': {
      const done = client.do('echoDatagrams', { host: GUEST.ipv4, count: 400, inFlightMax: IN_FLIGHT });
      done.catch(() => {});
      return {
        increments,
        finish: async () => {
          const { sent, answered, doubled, wrong } = await done;
          // nobody answers for a proxy that is dead, and datagrams are not repeated
          const lostMax = victim === 'proxy' ? IN_FLIGHT : 0;
          if (sent - answered > lostMax || doubled > 0 || wrong > 0) {
            throw new Error(`${sent} datagrams: ${sent - answered} lost, ${doubled} doubled, ${wrong} wrong`);
          }
        },
      };
    }
    case 'older':
    case 'younger': {
      await client.do('openConnection', { name, host: GUEST.ipv4 });
      if (kind === 'older') await rig.proxy.control(['checkpoint']);
      await client.do('increment', { name, count: 5 });
      return {
        increments: 10,
        finish: async () => {
          await client.do('increment', { name, count: 5 });
          await client.do('closeConnection', { name });
        },
      };
    }
    default:
      return { increments, finish: async () => {} };
  }
}

async function collect(problems, what, promise) {
  const late = until(what, 60_000, () => false, 1000);
  late.catch(() => {});
  await Promise.race([promise, late]).catch((error) =>
    problems.push(`${what}: ${error.message.split('\n')[0]}`),
  );
}
