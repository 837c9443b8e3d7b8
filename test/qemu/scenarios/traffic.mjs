/** Point 1: ordinary traffic of every kind while checkpoints happen all the time. */
import { until } from '../lib/command.mjs';
import { CLIENT, GUEST } from '../lib/net.mjs';

const CHECKPOINTS_MS_MAX = 120_000;
const mib = (bytes) => (bytes / (1 << 20)).toFixed(1);

/** The primary's traffic passes before there is a secondary. */
export async function unprotectedTraffic(rig, section) {
  const point = section.at('unprotected');
  const download = rig.client.do('downloads', { host: GUEST.ipv4, path: '/1m.bin', count: 1 });
  await point.job('1 MiB passes', download, ({ complete, msMean }) => ({
    ok: complete === 1,
    seen: `${msMean.toFixed(0)} ms`,
  }));
  const { status, text } = await rig.proxy.readiness();
  point.expect(
    'readyz names what is missing',
    status === 503 && /secondary/.test(text),
    `${status} ${text.trim()}`,
  );
}

export async function traffic(rig, section, sizes) {
  const point = section.at('1 traffic');
  const { client } = rig;
  const before = await rig.steadyReading();
  const jobs = [
    ...[GUEST.ipv4, GUEST.ipv6].map((host) => downloads(point, client, host, sizes.downloads)),
    counter(point, client, sizes.requests),
    point.job(
      `${sizes.shortConnections} short connections`,
      client.do('shortConnections', { host: GUEST.ipv4, count: sizes.shortConnections }),
      ({ complete }) => ({ ok: complete === sizes.shortConnections, seen: `${complete} complete` }),
    ),
    ...[GUEST.ipv4, GUEST.ipv6].map((host) => datagrams(point, client, host, sizes.datagrams)),
    ...[GUEST.ipv4, GUEST.ipv6].map((host) => ping(point, client, host, sizes.pings)),
    guestOpens(point, client),
  ];
  await Promise.all(jobs);
  await fillUntil(rig, point, before.metrics.checkpoints + sizes.checkpoints);
  const after = await rig.steadyReading();

  const checkpoints = after.metrics.checkpoints - before.metrics.checkpoints;
  point.expect(
    `at least ${sizes.checkpoints} checkpoints`,
    checkpoints >= sizes.checkpoints,
    String(checkpoints),
    {
      checkpoints,
    },
  );
  const damage = rig.damage();
  point.expect('no guest panics', damage.length === 0, damage.join('; ') || 'both run on');
  compareWithQemu(rig, section.at('4 metrics'), before, after);
}

function downloads(point, client, host, count) {
  const promise = client.do('downloads', { host, path: '/1m.bin', count });
  return point.job(`${count} x 1 MiB from ${host}`, promise, ({ complete, bytes, msMean, gapMsMax }) => ({
    ok: complete === count && bytes === count << 20,
    seen: `${mib(bytes)} MiB with the right sha256, ${msMean.toFixed(0)} ms each, longest silence ${gapMsMax.toFixed(0)} ms`,
  }));
}

async function counter(point, client, count) {
  await client.do('openConnection', { name: 'counter', host: GUEST.ipv4 });
  const promise = client.do('increment', { name: 'counter', count });
  await point.job(`${count} requests, counter +1 each`, promise, ({ value, gapMsMax }) => ({
    ok: value === count,
    seen: `counter ${value}, longest silence ${gapMsMax.toFixed(0)} ms`,
  }));
}

function datagrams(point, client, host, count) {
  return point.job(
    `${count} UDP echoes from ${host}`,
    client.do('echoDatagrams', { host, count }),
    ({ answered, doubled, wrong }) => ({
      ok: answered === count && doubled === 0 && wrong === 0,
      seen: `${answered} answered, ${doubled} doubled, ${wrong} wrong`,
    }),
  );
}

function ping(point, client, host, count) {
  return point.job(`ping ${host}`, client.do('ping', { host, count }), ({ sent, received, doubled }) => ({
    ok: sent === count && received === count && doubled === 0,
    seen: `${received} of ${sent}, ${doubled} doubled`,
  }));
}

/** One at a time: from a fixed port of the guest, and from one that each guest's kernel chooses by itself. */
async function guestOpens(point, client) {
  const families = [
    { host: GUEST.ipv4, ownAddress: CLIENT.ipv4, localPort: 4000 },
    { host: GUEST.ipv6, ownAddress: CLIENT.ipv6, localPort: 4000 },
    { host: GUEST.ipv4, ownAddress: CLIENT.ipv4, localPort: 0 },
  ];
  for (const args of families) {
    const from = args.localPort ? `port ${args.localPort}` : 'any port';
    await point.job(
      `the guest connects to ${args.ownAddress} from ${from}`,
      client.do('guestOpensConnection', args),
      ({ lines, fromPort }) => ({ ok: lines === 20, seen: `${lines} lines to and fro, port ${fromPort}` }),
    );
  }
}

/** Keeps requests and datagrams flowing until so many checkpoints were loaded: checkpoints must lose none. */
async function fillUntil(rig, point, checkpoints) {
  const { client } = rig;
  const sum = { sent: 0, answered: 0, doubled: 0 };
  await client.do('openConnection', { name: 'filler', host: GUEST.ipv6 });
  const fill = async () => {
    await client.do('increment', { name: 'filler', count: 10 });
    const host = sum.sent % 200 === 0 ? GUEST.ipv4 : GUEST.ipv6;
    const { sent, answered, doubled } = await client.do('echoDatagrams', {
      host,
      count: 100,
      inFlightMax: 8,
    });
    sum.sent += sent;
    sum.answered += answered;
    sum.doubled += doubled;
    return (await rig.proxy.metrics()).checkpoints >= checkpoints || sum.answered < sum.sent;
  };
  const filled = until(`${checkpoints} checkpoints`, CHECKPOINTS_MS_MAX, fill, 1).then(() => sum);
  await point.job('requests and UDP echoes until then', filled, ({ sent, answered, doubled }) => ({
    ok: answered === sent && doubled === 0,
    seen: `${answered} of ${sent} datagrams answered, ${doubled} doubled`,
  }));
}

/** What the proxy counts must be what QEMU itself reported. */
function compareWithQemu(rig, point, before, after) {
  const counted = after.metrics.checkpoints - before.metrics.checkpoints;
  const seen = after.resumes - before.resumes;
  point.expect('checkpoints = RESUME events of the primary', counted === seen, `${counted} and ${seen}`);

  const pauses = (m) => m.sum('checkpoint_pause_seconds_count');
  const paused = pauses(after.metrics) - pauses(before.metrics);
  point.expect('every checkpoint has a pause', paused === counted, `${paused} of ${counted}`);

  const seconds = (m) => m.sum('checkpoint_pause_seconds_sum');
  const proxyMs = ((seconds(after.metrics) - seconds(before.metrics)) * 1000) / counted;
  const qemuMs = meanPauseMs(rig.primary.monitor.events, before.resumes, after.resumes);
  const agrees = Math.abs(proxyMs - qemuMs) < Math.max(5, qemuMs / 2);
  const text = `${proxyMs.toFixed(1)} ms by the proxy, ${qemuMs.toFixed(1)} ms by QEMU`;
  point.expect('mean pause', agrees, text, { proxyMs, qemuMs });

  const grown = (read) => read(after) - read(before);
  const sent = grown(({ metrics }) => metrics.sum('link_frames_sent_total', { side: 'client' }));
  const released = grown(({ metrics }) => metrics.sum('frames_released_total'));
  const reasons = after.metrics.text('frames_released_total');
  point.expect(
    'frames sent to clients = frames released',
    sent === released,
    `${sent} and ${released}: ${reasons}`,
  );
  const arrived = grown(({ client }) => client.framesReceived);
  point.expect("frames sent = the client's interface received", sent === arrived, `${sent} and ${arrived}`);
  const received = grown(({ metrics }) => metrics.sum('link_frames_received_total', { side: 'client' }));
  const left = grown(({ client }) => client.framesSent);
  point.expect("frames received = the client's interface sent", received === left, `${received} and ${left}`);
  const drops = (m) => m.sum('link_receive_drops_total') + m.sum('link_send_drops_total');
  const lost = drops(after.metrics) - drops(before.metrics);
  point.expect('no link lost a frame', lost === 0, String(lost));
}

/** STOP to RESUME by QEMU's own time stamps, of the pauses numbered `from` up to `to`. */
function meanPauseMs(events, from, to) {
  const times = (name) => events.filter((event) => event.name === name).map(({ atMs }) => atMs);
  const stops = times('STOP');
  const resumes = times('RESUME');
  let total = 0;
  for (let i = from; i < to; i++) total += resumes[i] - stops[i];
  return total / (to - from);
}
