/** Point 7: the guest powers itself off under COLO. The pair ends cleanly: no death, and nobody is promoted (T32). */
import { until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const END_MS_MAX = 30_000;

/** Both VMs run with -no-shutdown: a QEMU whose guest is off stays, stopped, until it is told to quit. */
export async function powerOff(rig, section) {
  const point = section.at('7 power off');
  const { client, primary, secondary, proxy } = rig;
  await client.do('openConnection', { name: 'last', host: GUEST.ipv4 });
  client.do('ask', { name: 'last', request: 'poweroff', msMax: 1000 }).catch(() => {});
  await point.job(
    'protection ends',
    proxy.until('unprotected', END_MS_MAX, (m) => m.state === 'unprotected'),
    (m) => {
      const failovers = m.sum('failovers_total');
      return {
        ok: failovers === 0 && m.carrier === 'primary',
        seen: `${failovers} failovers, carrier ${m.carrier}`,
      };
    },
  );
  await point.job(
    'the secondary is told to quit',
    until('the secondary to end', END_MS_MAX, () => !secondary.child.isRunning),
    () => ({ ok: secondary.child.exitCode === 0, seen: `exit code ${secondary.child.exitCode}` }),
  );
  await point.job("the primary's guest stays off", primary.monitor.execute('query-status'), ({ status }) => ({
    ok: status === 'shutdown',
    seen: status,
  }));
  const told = /guest has shut down/.test(proxy.child.logText());
  point.expect('the proxy says what it was', told, told ? 'the guest has shut down' : proxy.logTail(3));
}
