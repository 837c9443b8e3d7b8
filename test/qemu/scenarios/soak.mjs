/** Many checkpoints under TCP and UDP load: no datagram lost or doubled, no frame of one epoch seen in the next. */
import { until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const CHECKPOINT_MS_MAX = 400;
/** What frames in the wrong epoch would look like: both VMs spoke, and not the same. */
const STRAY_REASONS = ['payload', 'length', 'flags', 'syn-options', 'retransmission'];

export async function soak(rig, section, sizes) {
  const point = section.at('5 soak');
  const { client } = rig;
  const before = await rig.steadyReading();
  const goal = before.metrics.checkpoints + sizes.soakCheckpoints;
  const sum = { sent: 0, answered: 0, doubled: 0, wrong: 0, downloads: 0 };
  const isDone = async () => (await rig.proxy.metrics()).checkpoints >= goal || sum.answered < sum.sent;
  const msMax = CHECKPOINT_MS_MAX * sizes.soakCheckpoints;

  const datagrams = (host) =>
    until(`${goal} checkpoints`, msMax, async () => {
      const result = await client.do('echoDatagrams', { host, count: 200, inFlightMax: 8 });
      for (const key of ['sent', 'answered', 'doubled', 'wrong']) sum[key] += result[key];
      return isDone();
    });
  const downloads = () =>
    until(`${goal} checkpoints`, msMax, async () => {
      const { complete } = await client.do('downloads', { host: GUEST.ipv4, path: '/1m.bin', count: 4 });
      sum.downloads += complete;
      return isDone();
    });
  await client.do('openConnection', { name: 'soak', host: GUEST.ipv6 });
  const requests = () =>
    until(`${goal} checkpoints`, msMax, async () => {
      await client.do('increment', { name: 'soak', count: 20 });
      return isDone();
    });
  const load = Promise.all([datagrams(GUEST.ipv4), datagrams(GUEST.ipv6), downloads(), requests()]);
  await point.job('TCP and UDP all the while', load, () => ({
    ok: sum.answered === sum.sent && sum.doubled === 0 && sum.wrong === 0,
    seen: `${sum.sent} datagrams: ${sum.sent - sum.answered} lost, ${sum.doubled} doubled; ${sum.downloads} x 1 MiB right`,
  }));

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
  expectHoldTime(point, before.metrics, after.metrics);
  const [lagMs, timerMs] = ['lag_seconds', 'hold_timer_seconds'].map(
    (name) => after.metrics.sum(name) * 1000,
  );
  point.expect(
    'lag between the VMs, and the hold timer that follows',
    lagMs > 0 && timerMs > 0,
    `p99 ${lagMs.toFixed(1)} ms, timer ${timerMs.toFixed(0)} ms`,
    { lagMsP99: lagMs, holdTimerMs: timerMs },
  );
}

function expectHoldTime(point, before, after) {
  const [p50, p99] = [0.5, 0.99].map((share) =>
    after.quantileSince(before, 'release_latency_seconds', share),
  );
  const text = `p50 ${(p50 * 1000).toFixed(1)} ms, p99 ${(p99 * 1000).toFixed(1)} ms`;
  point.expect('a released frame was held for', Number.isFinite(p99), text, {
    holdMsP50: p50 * 1000,
    holdMsP99: p99 * 1000,
  });
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
