/** Point 6: `kill -9` of either VM exactly at one word of the checkpoint protocol: every connection goes on. */
import { GUEST } from '../lib/net.mjs';

const FAILOVER_MS_MAX = 30_000;

/**
 * The pair is protected; afterwards the other VM carries the traffic alone.
 * @param {'primary' | 'secondary'} victim its role, whichever seat it has
 * @param {'before' | 'after'} when the proxy has done what belongs to the word; its receiver has not got it
 */
export async function killAt(rig, section, victim, word, when) {
  const point = section.at(`6 ${victim}, ${when} ${word}`);
  const { client } = rig;
  const name = `${victim}-${when}-${word}`;
  const seats = await rig.roles();
  const survivor = seats[victim === 'primary' ? 'secondary' : 'primary'];
  await client.do('openConnection', { name, host: GUEST.ipv4 });
  const { value } = await client.do('increment', { name, count: 5 });
  await client.do('startSteady', { name, host: GUEST.ipv6 });
  const failovers = (await rig.proxy.metrics()).sum('failovers_total');

  // The answer differs between the VMs: it waits for the checkpoint that the VM dies in.
  const stop = await rig.proxy.stopAt(word, when);
  const differing = client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: name });
  differing.catch(() => {}); // told below
  const phase = await stop.held;
  rig[seats[victim]].kill();
  await rig[seats[victim]].child.ended;
  stop.pass();

  await point.job(
    'the other carries the traffic',
    rig.proxy.until(
      'failed-over',
      FAILOVER_MS_MAX,
      (m) => m.state === 'failed-over' && m.carrier === survivor,
    ),
    (m) => ({
      ok: m.sum('failovers_total') === failovers + 1,
      seen: `killed in phase ${phase}; ${m.text('failovers_total')}`,
    }),
  );
  await point.job('the connection goes on', client.do('increment', { name, count: 5 }), (result) => ({
    ok: result.value === value + 5,
    seen: `counter ${result.value}, expected ${value + 5}`,
  }));
  await point.job('a steady connection', client.do('stopSteady', { name }), (steady) => ({
    ok: !steady.error,
    seen: steady.error ?? `longest silence ${steady.gapMsMax.toFixed(0)} ms`,
  }));
  await client.do('closeConnection', { name });
  await point.job('the datagram that differed is answered', differing, () => ({ ok: true, seen: 'once' }));
  const { monitor } = rig[survivor];
  const [{ status }, { mode }] = await Promise.all([
    monitor.execute('query-status'),
    monitor.execute('query-colo-status'),
  ]);
  point.expect(
    'the survivor runs alone',
    status === 'running' && mode === 'none',
    `${status}, COLO mode ${mode}`,
  );
  const damage = rig[survivor].damage();
  point.expect('and is well', damage.length === 0, damage.join('; ') || 'no panic');
}
