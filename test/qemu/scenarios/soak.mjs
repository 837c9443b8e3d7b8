/** Many checkpoints under TCP and UDP load: no datagram lost or doubled, no frame of one epoch seen in the next. */
import { sleep } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';
import { mixedLoad, tellLoad } from './mixed-load.mjs';

const CHECKPOINT_MS_MAX = 400;
const LAG_EVERY_MS = 500;
const HELD_FOR = ['a released frame was held for', 'release_latency_seconds', 'holdMs'];
const TIMES_OF_CHECKPOINTS = [
  HELD_FOR,
  ['from the closed gate to asking the primary', 'checkpoint_ask_seconds', 'askMs'],
  ['from there to its REQUEST', 'checkpoint_request_seconds', 'requestMs'],
];
/** What frames in the wrong epoch would look like: both VMs spoke, and not the same. */
const STRAY_REASONS = ['payload', 'length', 'flags', 'syn-options', 'retransmission'];

export async function soak(rig, section, sizes) {
  const point = section.at('5 soak');
  const { client } = rig;
  const before = await rig.steadyReading();
  const goal = before.metrics.checkpoints + sizes.soakCheckpoints;
  const msMax = CHECKPOINT_MS_MAX * sizes.soakCheckpoints;
  const end = performance.now() + msMax;
  const { sum, done } = mixedLoad(client, async () => {
    if (performance.now() > end) throw new Error(`${goal} checkpoints: not within ${msMax} ms`);
    return (await rig.proxy.metrics()).checkpoints >= goal;
  });
  await point.job('TCP and UDP all the while', done, () => tellLoad(sum));

  const after = await rig.steadyReading();
  const grown = (name, labels) => after.metrics.sum(name, labels) - before.metrics.sum(name, labels);
  const checkpoints = grown('checkpoints_total');
  point.expect(
    `at least ${sizes.soakCheckpoints} checkpoints`,
    checkpoints >= sizes.soakCheckpoints,
    `${checkpoints}`,
  );
  const stray = STRAY_REASONS.map((reason) => grown('divergences_total', { reason })).reduce((a, b) => a + b);
  point.expect(
    'no stray frame',
    stray === 0,
    `${stray}; all: ${after.metrics.text('divergences_total') || 'none'}`,
  );
  const maybeLost = grown('frames_maybe_lost_total');
  point.expect(
    'both VMs had taken everything at every stop',
    maybeLost === 0,
    `${maybeLost} frames not taken`,
  );
  const drops = grown('link_receive_drops_total') + grown('link_send_drops_total');
  point.expect('no link lost a frame', drops === 0, String(drops));
  const sent = grown('link_frames_sent_total', { side: 'client' });
  const arrived = after.client.framesReceived - before.client.framesReceived;
  point.expect("frames sent = the client's interface received", sent === arrived, `${sent} and ${arrived}`);
  const damage = rig.damage();
  point.expect('no guest panics', damage.length === 0, damage.join('; ') || 'both run on');
  figures(point, rig, checkpoints);
  expectTimes(point, before.metrics, after.metrics, TIMES_OF_CHECKPOINTS);
  expectLag(point, [after.metrics]);
}

/** The same load without a checkpoint unless the VMs differ: how far their output lies apart, again and again. */
export async function lag(rig, section, sizes) {
  const point = section.at('5 lag');
  const before = await rig.steadyReading();
  const readings = [];
  const end = performance.now() + sizes.lagSeconds * 1000;
  const { sum, done } = mixedLoad(rig.client, () => performance.now() > end);
  const reading = (async () => {
    while (performance.now() < end) {
      await sleep(LAG_EVERY_MS);
      readings.push(await rig.proxy.metrics());
    }
  })();
  await point.job('TCP and UDP all the while', Promise.all([done, reading]), () => tellLoad(sum));
  const after = await rig.steadyReading();
  expectTimes(point, before.metrics, after.metrics, [HELD_FOR]);
  const checkpoints = after.metrics.checkpoints - before.metrics.checkpoints;
  expectLag(point, readings, `; ${checkpoints} checkpoints`);
}

/** @param {import('../lib/metrics.mjs').Metrics[]} readings */
function expectLag(point, readings, remark = '') {
  const [lagMs, timerMs] = ['lag_seconds', 'hold_timer_seconds'].map((name) => {
    const values = readings.map((metrics) => metrics.sum(name) * 1000);
    return [0, 0.5, 1].map((share) => quantile(values, share));
  });
  const inWords = (values) => (readings.length > 1 ? `least/median/most ${values.join('/')}` : values[0]);
  point.expect(
    'lag between the VMs, and the hold timer that follows',
    lagMs[0] > 0 && timerMs[0] > 0,
    `p99 ${inWords(lagMs)} ms, timer ${inWords(timerMs)} ms${remark}`,
    { lagMsP99: lagMs.map(Number), holdTimerMs: timerMs.map(Number) },
  );
}

/** Histograms between two readings. */
function expectTimes(point, before, after, times) {
  for (const [what, name, key] of times) {
    const [p50, p99] = [0.5, 0.99].map((share) => after.quantileSince(before, name, share) * 1000);
    const text = `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`;
    point.expect(what, Number.isFinite(p99), text, { [`${key}P50`]: p50, [`${key}P99`]: p99 });
  }
}

/** A divergence now and then, with time between: what the proxy itself adds before REQUEST is on the wire. */
export async function requestLatency(rig, section, sizes) {
  const point = section.at('5 figures');
  for (let index = 0; index < sizes.soakDivergences; index++) {
    await rig.client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: `soak${index}` });
    await rig.proxy.until('a quiet pair', CHECKPOINT_MS_MAX * 10, (m) => m.state === 'protected');
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
  const records = checkpointRecords(rig).filter(
    ({ cause, protectedBefore }) => cause === 'divergence' && protectedBefore,
  );
  for (const [name, from, to] of [
    ['divergence seen to REQUEST on the wire', 'requestedAtMs', 'requestSeenAtMs'],
    ['of that until the primary is asked, both VMs having taken all', 'requestedAtMs', 'askedAtMs'],
    ['and until it says REQUEST', 'askedAtMs', 'requestSeenAtMs'],
  ]) {
    const took = records.map((record) => record[to] - record[from]);
    const [p50, p99] = [quantile(took, 0.5), quantile(took, 0.99)];
    point.expect(name, took.length > 0, `p50 ${p50} ms, p99 ${p99} ms of ${took.length}`, {
      msP50: Number(p50),
      msP99: Number(p99),
    });
  }
}

function figures(point, rig, checkpoints) {
  const records = checkpointRecords(rig).slice(-checkpoints);
  for (const [name, key] of [
    ["the primary's pause", 'pauseMs'],
    ['the gate was closed', 'gateClosedMs'],
  ]) {
    const values = records.map((record) => record[key]);
    const [p50, p99] = [quantile(values, 0.5), quantile(values, 0.99)];
    point.expect(name, records.length > 0, `p50 ${p50} ms, p99 ${p99} ms of ${records.length}`, {
      [`${key}P50`]: Number(p50),
      [`${key}P99`]: Number(p99),
    });
  }
}

/** From the proxy's own debug log; `protectedBefore`: not within the minimum distance of the one before. */
function checkpointRecords(rig) {
  const records = rig.proxy.child
    .logText()
    .split('\n')
    .filter((line) => line.includes('"checkpoint done"'))
    .map((line) => JSON.parse(line));
  return records.map((record, index) => ({
    ...record,
    protectedBefore: index > 0 && record.requestedAtMs - records[index - 1].loadedAtMs > 100,
  }));
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN).toFixed(1);
}
