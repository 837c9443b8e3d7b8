/** Point 3: `kill -9` of one VM in the middle of a download; every connection goes on. */
import { sleep, until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const FAILOVER_MS_MAX = 30_000;
const ATTEMPTS_MAX = 8;
/** Of the faster download, before the VM is killed; the slower one has at least begun. */
const KILL_AFTER_SHARE = 0.15;
const BEGUN_BYTES = 1 << 20;
/** Several checkpoints long. */
const ANY_MOMENT_MS_MAX = 200;

/**
 * @param {'primary' | 'secondary'} victim
 * @param {{pointName?: string, anyMoment?: boolean}} [options] `anyMoment`: at a random moment of a pair that takes one
 *   checkpoint after the other, so that the connections' age against the last one is unknown
 */
export async function death(rig, section, sizes, victim, options = {}) {
  const { pointName = `3 ${victim} dies`, anyMoment = false } = options;
  const point = section.at(pointName);
  const { client } = rig;

  await client.do('openConnection', { name: 'before', host: GUEST.ipv4 });
  await client.do('increment', { name: 'before', count: 10 });
  if (!anyMoment) await forceCheckpoint(rig);
  await client.do('startSteady', { name: 'steady', host: GUEST.ipv4 });
  const quiet = await rig.proxy.metrics();
  const { lastValue, stops, metrics, progress } = await inTheMiddleOfDownloads(rig, sizes, anyMoment);
  const gapMsBefore = await client.do('steadyGap', { name: 'steady' });
  const killedAtMs = performance.now();
  rig[victim].kill();
  await rig[victim].child.ended;

  if (!anyMoment) {
    expectYoungerThanCheckpoint(point, rig, stops);
    expectMostlyMatched(point, quiet, metrics);
  }
  const inTheMiddle = progress.every((bytes) => bytes < sizes.killDownloadBytes);
  const shares = progress.map((bytes) => `${Math.round((100 * bytes) / sizes.killDownloadBytes)} %`);
  point.expect('killed in the middle of both downloads', inTheMiddle, shares.join(', '));

  const outcome = `${victim}-lost`;
  const survivor = victim === 'primary' ? 'secondary' : 'primary';
  await point.job(
    'the proxy fails over',
    rig.proxy.until(
      'failed-over',
      FAILOVER_MS_MAX,
      (m) => m.state === 'failed-over' && m.carrier === survivor,
    ),
    (m) => {
      const grown = (labels) => m.sum('failovers_total', labels) - quiet.sum('failovers_total', labels);
      return {
        ok: grown({ kind: outcome }) === 1 && grown({}) === 1,
        seen: `${m.text('failovers_total')}, seen after ${(performance.now() - killedAtMs).toFixed(0)} ms`,
      };
    },
  );

  for (const name of ['before', 'after']) {
    const wanted = name === 'before' ? lastValue + 1 : lastValue + 2;
    await point.job(
      `the connection opened ${name} the last checkpoint goes on`,
      client.do('increment', { name }),
      ({ value }) => ({ ok: value === wanted, seen: `counter ${value}, expected ${wanted}` }),
    );
  }
  for (const name of ['v4', 'v6']) {
    await point.job(
      `the download over ${name} ends right`,
      client.do('downloadResult', { name }),
      ({ bytes, gapMs, ms }) => ({
        ok: bytes === sizes.killDownloadBytes,
        seen: `${bytes} bytes, right sha256, ${ms.toFixed(0)} ms, longest silence ${gapMs.toFixed(0)} ms`,
      }),
    );
  }
  await point.job('gap: a steady connection', client.do('stopSteady', { name: 'steady' }), (steady) => ({
    ok: !steady.error,
    seen:
      steady.error ??
      `longest silence ${steady.gapMsMax.toFixed(0)} ms, before the kill ${gapMsBefore.toFixed(0)} ms`,
  }));
  await newTraffic(point, client, lastValue + 2);

  const damage = rig[survivor].damage();
  point.expect('the survivor is well', damage.length === 0, damage.join('; ') || 'no panic');
  const { monitor } = rig[survivor];
  const [{ status }, { mode }] = await Promise.all([
    monitor.execute('query-status'),
    monitor.execute('query-colo-status'),
  ]);
  const runsAlone = status === 'running' && mode === 'none';
  point.expect('QEMU says the survivor runs alone', runsAlone, `${status}, COLO mode ${mode}`);
}

/** An answer that differs between the VMs makes the proxy take a checkpoint. */
async function forceCheckpoint(rig) {
  const { epoch } = await rig.proxy.metrics();
  await rig.client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: 'checkpoint' });
  await rig.proxy.until('a checkpoint', FAILOVER_MS_MAX, (m) => m.epoch > epoch && m.state === 'protected');
}

/**
 * Two downloads under way and a connection younger than the last checkpoint. The VMs share the CPUs with everything
 * else: when one download has ended meanwhile, all of it begins anew.
 */
async function inTheMiddleOfDownloads(rig, sizes, anyMoment) {
  const { client } = rig;
  const path = `/bytes/${sizes.killDownloadBytes}/9`;
  const received = () => Promise.all(['v4', 'v6'].map((name) => client.do('downloadProgress', { name })));
  let moment;
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    if (attempt > 0) {
      for (const name of ['v4', 'v6']) await client.do('downloadResult', { name });
      await client.do('closeConnection', { name: 'after' });
    }
    await client.do('startDownload', { name: 'v4', host: GUEST.ipv4, path });
    await client.do('startDownload', { name: 'v6', host: GUEST.ipv6, path });
    await until(
      'the downloads to be under way',
      FAILOVER_MS_MAX,
      async () => {
        const bytes = await received();
        return (
          Math.min(...bytes) > BEGUN_BYTES && Math.max(...bytes) > sizes.killDownloadBytes * KILL_AFTER_SHARE
        );
      },
      10,
    );
    const opened = await openAfterLastCheckpoint(rig, anyMoment ? 1 : ATTEMPTS_MAX);
    if (anyMoment) await sleep(Math.random() * ANY_MOMENT_MS_MAX);
    moment = { ...opened, progress: await received() };
    if (moment.progress.every((bytes) => bytes < sizes.killDownloadBytes)) break;
  }
  return moment;
}

/** Opens a connection and makes sure that no checkpoint has contained it: tries again when one came in between. */
async function openAfterLastCheckpoint(rig, attempts) {
  let opened;
  for (let attempt = 0; attempt < attempts; attempt++) {
    if (attempt > 0) await rig.client.do('closeConnection', { name: 'after' });
    const stops = rig.primary.monitor.countOf('STOP');
    await rig.client.do('openConnection', { name: 'after', host: GUEST.ipv4 });
    await rig.client.do('increment', { name: 'before' });
    const { value: lastValue } = await rig.client.do('increment', { name: 'after' });
    const metrics = await rig.proxy.metrics();
    opened = { lastValue, stops, metrics };
    if (rig.primary.monitor.countOf('STOP') === stops && metrics.state === 'protected') break;
  }
  return opened;
}

/** The survivor serves new clients too. */
async function newTraffic(point, client, lastValue) {
  await point.job(
    'new connections are served',
    client.do('shortConnections', { host: GUEST.ipv6, count: 10 }),
    ({ complete }) => ({ ok: complete === 10, seen: `${complete} of 10` }),
  );
  await client.do('openConnection', { name: 'new', host: GUEST.ipv6 }).catch(() => {});
  await point.job('the counter goes on', client.do('increment', { name: 'new', count: 20 }), ({ value }) => ({
    ok: value === lastValue + 20,
    seen: `counter ${value}, expected ${lastValue + 20}`,
  }));
  await point.job('ping', client.do('ping', { host: GUEST.ipv4, count: 5 }), ({ received }) => ({
    ok: received === 5,
    seen: `${received} of 5`,
  }));
}

/** QEMU stops the primary for every checkpoint: no STOP since the connection was opened means that none contains it. */
function expectYoungerThanCheckpoint(point, rig, stops) {
  const checkpoints = rig.primary.monitor.countOf('STOP') - stops;
  point.expect(
    'one connection is younger than the last checkpoint',
    checkpoints === 0,
    `${checkpoints} checkpoints between its opening and the kill`,
  );
}

function expectMostlyMatched(point, before, after) {
  const released = (reason) =>
    after.sum('frames_released_total', { reason }) - before.sum('frames_released_total', { reason });
  const [matched, committed] = ['matched', 'committed'].map(released);
  point.expect(
    'until then most frames left because the VMs agreed',
    matched > committed,
    `matched ${matched}, committed ${committed}`,
  );
}
