/** `kill -9` of either VM as one word of the checkpoint protocol passes: every connection goes on. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { GUEST } from '../lib/net.mjs';

export const WORDS = [
  'checkpoint-request',
  'checkpoint-reply',
  'vmstate-send',
  'vmstate-received',
  'vmstate-loaded',
];
const FAILOVER_MS_MAX = 30_000;
const WORD_MS_MAX = 20_000;

/** The pair is protected; afterwards the other VM carries the traffic alone. */
export async function killAt(rig, section, victim, word) {
  const point = section.at(`6 ${victim} at ${word}`);
  const { client } = rig;
  const name = `${victim}-${word}`;
  await client.do('openConnection', { name, host: GUEST.ipv4 });
  const { value } = await client.do('increment', { name, count: 5 });
  await client.do('startSteady', { name, host: GUEST.ipv6 });
  const quiet = await rig.proxy.metrics();
  const failovers = quiet.sum('failovers_total');

  // The answer differs between the VMs: it waits for the checkpoint that the VM dies in.
  const differing = client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: name }).catch(() => undefined);
  await wordPasses(rig.proxy.logFile, word);
  rig[victim].kill();
  await rig[victim].child.ended;

  const survivor = victim === 'primary' ? 'secondary' : 'primary';
  await point.job(
    'the other carries the traffic',
    rig.proxy.until(
      'failed-over',
      FAILOVER_MS_MAX,
      (m) => m.state === 'failed-over' && m.carrier === survivor,
    ),
    (m) => ({
      ok: m.sum('failovers_total') === failovers + 1,
      seen: `${m.text('failovers_total')}; the proxy was in phase ${phaseAtDeath(rig)}`,
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
  await differing;
  const [{ status }, { mode }] = await Promise.all([
    rig[survivor].monitor.execute('query-status'),
    rig[survivor].monitor.execute('query-colo-status'),
  ]);
  point.expect(
    'the survivor runs alone',
    status === 'running' && mode === 'none',
    `${status}, COLO mode ${mode}`,
  );
  const damage = rig[survivor].damage();
  point.expect('and is well', damage.length === 0, damage.join('; ') || 'no panic');
}

/** Looks at what the proxy writes from now on, as often as can be. */
export async function wordPasses(logFile, word) {
  const file = openSync(logFile, 'r');
  let at = statSync(logFile).size;
  let text = '';
  const chunk = Buffer.alloc(65_536);
  const endAtMs = performance.now() + WORD_MS_MAX;
  try {
    while (performance.now() < endAtMs) {
      const count = readSync(file, chunk, 0, chunk.length, at);
      at += count;
      text = text.slice(-1000) + chunk.toString('latin1', 0, count);
      if (text.includes(`"word":"${word}"`)) return;
      if (count === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    closeSync(file);
  }
  throw new Error(`${word} did not pass within ${WORD_MS_MAX} ms`);
}

function phaseAtDeath(rig) {
  const phases = [...rig.proxy.child.logText().matchAll(/"phase":"([a-z]+)"[^\n]*(?:died|not completed)/g)];
  return phases.at(-1)?.[1] ?? 'idle';
}
