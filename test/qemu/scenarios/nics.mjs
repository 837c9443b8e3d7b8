/** Point 9: VMs with two network interfaces on two networks: one epoch, one failover for both. */
import { GUEST, SECOND } from '../lib/net.mjs';

const CHECKPOINTS = 50;
const CHECKPOINTS_MS_MAX = 60_000;
const FAILOVER_MS_MAX = 30_000;

export async function twoNics(rig, section) {
  const { client, proxy } = rig;
  const point = section.at('9 two NICs');
  const before = await proxy.metrics();
  for (const host of [GUEST.ipv4, SECOND.guest.ipv4]) {
    await client.do('openConnection', { name: host, host });
  }
  const load = Promise.all([
    ...[GUEST.ipv6, SECOND.guest.ipv6].map((host) =>
      client.do('downloads', { host, path: '/1m.bin', count: 3 }),
    ),
    ...[GUEST.ipv4, SECOND.guest.ipv4].map((host) =>
      client.do('echoDatagrams', { host, count: 400, inFlightMax: 8 }),
    ),
    client.do('increment', { name: GUEST.ipv4, count: 50 }),
  ]);
  await point.job('traffic on both', load, ([a, b, udp1, udp2, { value }]) => ({
    ok: a.complete + b.complete === 6 && isWhole(udp1) && isWhole(udp2) && value === 50,
    seen: `${a.complete} and ${b.complete} x 1 MiB, ${udp1.answered} and ${udp2.answered} datagrams, counter ${value}`,
  }));
  await point.job(
    `${CHECKPOINTS} checkpoints, one epoch for both`,
    proxy.until('checkpoints', CHECKPOINTS_MS_MAX, (m) => m.checkpoints >= before.checkpoints + CHECKPOINTS),
    (m) => ({ ok: m.sum('frames_maybe_lost_total') === 0, seen: m.text('checkpoints_total') }),
  );

  for (const host of [GUEST.ipv4, SECOND.guest.ipv4]) {
    await client.do('startSteady', { name: `steady ${host}`, host });
  }
  rig.primary.kill();
  await rig.primary.child.ended;
  await point.job(
    'the primary dies',
    proxy.until('failed-over', FAILOVER_MS_MAX, (m) => m.state === 'failed-over'),
    (m) => ({ ok: m.carrier === 'secondary', seen: m.text('failovers_total') }),
  );
  let value = 50;
  for (const [index, host] of [GUEST.ipv4, SECOND.guest.ipv4].entries()) {
    await point.job(
      `a connection on interface ${index + 1} goes on`,
      client.do('increment', { name: host, count: 10 }),
      (result) => ({ ok: result.value === value + 10, seen: `counter ${result.value}` }),
    );
    value += 10;
    await point.job('and a steady one', client.do('stopSteady', { name: `steady ${host}` }), (steady) => ({
      ok: !steady.error,
      seen: steady.error ?? `longest silence ${steady.gapMsMax.toFixed(0)} ms`,
    }));
  }
  const damage = rig.secondary.damage();
  point.expect('the survivor is well', damage.length === 0, damage.join('; ') || 'no panic');
}

const isWhole = ({ sent, answered, doubled, wrong }) => answered === sent && doubled === 0 && wrong === 0;
