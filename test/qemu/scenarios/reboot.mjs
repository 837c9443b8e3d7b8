/** Point 7: the guest reboots under COLO. Both VMs follow by a checkpoint, and nobody takes it for a death (T32). */
import { until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const BOOT_MS_MAX = 60_000;
const CHECKPOINT_MS_MAX = 20_000;

/** Once by the primary's reset button, once by the guest itself, which happens in both VMs. */
export async function reboot(rig, section) {
  await follow(rig, section.at('7 reset button'), () => rig.primary.monitor.execute('system_reset'));
  await follow(rig, section.at('7 guest reboots'), async () => {
    await rig.client.do('openConnection', { name: 'reboot', host: GUEST.ipv4 });
    rig.client.do('ask', { name: 'reboot', request: 'reboot', msMax: 1000 }).catch(() => {});
  });
}

async function follow(rig, point, act) {
  const { epoch } = await rig.proxy.metrics();
  const boots = () => rig.primary.serialText().match(/services: ready/g)?.length ?? 0;
  const before = boots();
  await act();
  await point.job(
    'a checkpoint follows',
    rig.proxy.until('a checkpoint', CHECKPOINT_MS_MAX, (m) => m.epoch > epoch && m.state === 'protected'),
    (m) => ({ ok: true, seen: m.text('checkpoints_total') }),
  );
  const booted = until('the guest to boot again', BOOT_MS_MAX, () => boots() === before + 1);
  await point.job('the guest boots again', booted, () => ({ ok: true, seen: `${boots()} boots` }));
  await point.job('and serves', rig.client.do('ping', { host: GUEST.ipv4, count: 5 }), ({ received }) => ({
    ok: received === 5,
    seen: `${received} of 5`,
  }));
  await rig.client.do('openConnection', { name: 'after', host: GUEST.ipv6 });
  await point.job(
    'and counts from the beginning',
    rig.client.do('increment', { name: 'after' }),
    ({ value }) => ({ ok: value === 1, seen: `counter ${value}` }),
  );
  const metrics = await rig.proxy.metrics();
  const { state } = metrics;
  const failovers = metrics.sum('failovers_total');
  const isProtected = state === 'protected' || state === 'checkpointing';
  point.expect('still protected', isProtected && failovers === 0, `${state}, ${failovers} failovers`);
}
