/** Point 7: the guest reboots under COLO. Both VMs follow by a checkpoint, and nobody takes it for a death (T32). */
import { until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const BOOT_MS_MAX = 60_000;
const CHECKPOINT_MS_MAX = 20_000;

export async function reboot(rig, section) {
  const point = section.at('7 reboot');
  const { epoch } = await rig.proxy.metrics();
  await rig.primary.monitor.execute('system_reset');
  await point.job(
    'a checkpoint follows',
    rig.proxy.until('a checkpoint', CHECKPOINT_MS_MAX, (m) => m.epoch > epoch && m.state === 'protected'),
    (m) => ({ ok: true, seen: m.text('checkpoints_total') }),
  );
  const boots = () => rig.primary.serialText().match(/services: ready/g)?.length ?? 0;
  const booted = until('the guest to boot again', BOOT_MS_MAX, () => boots() === 2);
  await point.job('the guest boots again', booted, () => ({ ok: true, seen: `${boots()} boots` }));
  await point.job('and serves', rig.client.do('ping', { host: GUEST.ipv4, count: 5 }), ({ received }) => ({
    ok: received === 5,
    seen: `${received} of 5`,
  }));
  const metrics = await rig.proxy.metrics();
  const { state } = metrics;
  const failovers = metrics.sum('failovers_total');
  const isProtected = state === 'protected' || state === 'checkpointing';
  point.expect('still protected', isProtected && failovers === 0, `${state}, ${failovers} failovers`);
}
