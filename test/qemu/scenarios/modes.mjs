/** Point 8: output that waits for checkpoints, by choice (`periodic`) or because the VMs never agree (`adaptive`). */
import { sleep } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const CHECKPOINTS = 100;
const CHECKPOINTS_MS_MAX = 60_000;
const ADAPTED_MS_MAX = 60_000;
const AGREES_AGAIN_MS_MAX = 90_000;

export async function periodic(rig, section) {
  const point = section.at('8 periodic');
  const { client, proxy } = rig;
  const before = await proxy.metrics();
  const isPeriodic = before.current('checkpoint_mode', 'mode') === 'periodic';
  point.expect('the mode is what was configured', isPeriodic, before.text('checkpoint_mode'));
  await client.do('openConnection', { name: 'periodic', host: GUEST.ipv4 });
  const load = Promise.all([
    client.do('downloads', { host: GUEST.ipv6, path: '/1m.bin', count: 3 }),
    client.do('increment', { name: 'periodic', count: 100 }),
    client.do('echoDatagrams', { host: GUEST.ipv4, count: 400, inFlightMax: 8 }),
    ...differingRequests(client, 20),
  ]);
  await point.job('traffic, differing answers among it', load, ([{ complete }, { value }, udp]) => ({
    ok: complete === 3 && value === 100 && udp.answered === udp.sent && udp.doubled === 0,
    seen: `${complete} x 1 MiB, counter ${value}, ${udp.answered} of ${udp.sent} datagrams, ${udp.doubled} doubled`,
  }));
  await point.job(
    `${CHECKPOINTS} checkpoints`,
    proxy.until('checkpoints', CHECKPOINTS_MS_MAX, (m) => m.checkpoints >= before.checkpoints + CHECKPOINTS),
    (m) => {
      const grown = (name, labels) => m.sum(name, labels) - before.sum(name, labels);
      const asked = grown('checkpoints_total', { cause: 'divergence' });
      const matched = grown('frames_released_total', { reason: 'matched' });
      return {
        ok: asked === 0 && matched === 0,
        seen: `${m.text('checkpoints_total')}; left: ${m.text('frames_released_total')}`,
      };
    },
  );

  await proxy.control(['checkpoint', '--mode', 'compare']);
  await point.job(
    'comparing again while it runs',
    proxy.until('comparing', CHECKPOINTS_MS_MAX, (m) => m.current('checkpoint_mode', 'mode') === 'compare'),
    () => ({ ok: true, seen: 'by colo-proxy checkpoint --mode compare' }),
  );
  await client.do('increment', { name: 'periodic', count: 50 });
  const after = await proxy.metrics();
  const matched =
    after.sum('frames_released_total', { reason: 'matched' }) -
    before.sum('frames_released_total', { reason: 'matched' });
  point.expect('frames leave because the VMs agree', matched > 0, `${matched} matched`);
  const damage = rig.damage();
  point.expect('no guest panics', damage.length === 0, damage.join('; ') || 'both run on');
}

/** A workload that always diverges, then one that never does. */
export async function adaptive(rig, section) {
  const point = section.at('8 adaptive');
  const { client, proxy } = rig;
  const before = await proxy.metrics();
  let isDiffering = true;
  let answers = 0;
  const differ = async (index) => {
    while (isDiffering) {
      await client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: `adaptive-${index}` });
      answers++;
    }
  };
  const differing = Promise.all([differ(1), differ(2)]);
  differing.catch(() => {}); // told below
  const startedMs = performance.now();
  const adapted = await point.job(
    'output that always differs: periodic by itself',
    proxy.until(
      'periodic',
      ADAPTED_MS_MAX,
      (m) => m.sum('checkpoint_mode_adapted') === 1 && m.current('checkpoint_mode', 'mode') === 'periodic',
    ),
    (m) => ({
      ok: true,
      seen: `after ${(performance.now() - startedMs).toFixed(0)} ms, ${answers} answers, every ${m.sum('checkpoint_period_seconds') * 1000} ms`,
    }),
  );
  const compared = answers / (performance.now() - startedMs);
  const [answersThen, thenMs] = [answers, performance.now()];
  await sleep(3000);
  const rate = (answers - answersThen) / (performance.now() - thenMs);
  point.expect(
    'and more answers a second than before',
    rate > compared,
    `${(compared * 1000).toFixed(1)} a second while comparing, then ${(rate * 1000).toFixed(1)}`,
  );
  isDiffering = false;
  await point.job('every request was answered', differing, () => ({ ok: true, seen: `${answers} answers` }));
  await client.do('openConnection', { name: 'agreeing', host: GUEST.ipv4 });
  await point.job(
    'outputs agree again: comparing again',
    proxy.until(
      'comparing',
      AGREES_AGAIN_MS_MAX,
      (m) => m.current('checkpoint_mode', 'mode') === 'compare' && m.sum('checkpoint_mode_adapted') === 0,
    ),
    (m) => ({ ok: true, seen: m.text('checkpoints_total') }),
  );
  await client.do('increment', { name: 'agreeing', count: 100 });
  const after = await proxy.metrics();
  const matched = (m) => m.sum('frames_released_total', { reason: 'matched' });
  point.expect(
    'frames leave because the VMs agree',
    matched(after) > matched(adapted ?? before),
    `${matched(after)} matched`,
  );
  const decisions = proxy.child.logText().match(/"why":"[^"]*"/g) ?? [];
  point.expect('each decision is in the log', decisions.length >= 2, [...new Set(decisions)].join(', '));
  const damage = rig.damage();
  point.expect('no guest panics', damage.length === 0, damage.join('; ') || 'both run on');
}

function differingRequests(client, count) {
  return Array.from({ length: count }, (_, index) =>
    client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: `periodic-${index}` }),
  );
}
