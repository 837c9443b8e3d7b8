/** SIGUSR2: another process takes the pair over between two checkpoints; COLO and every connection go on. */
import { until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const RESTART_MS_MAX = 30_000;
const OVER_MS_MAX = 30_000;

export async function hotRestart(rig, section, { rounds }) {
  const point = section.at('hot restart');
  const { client, proxy } = rig;
  await client.do('openConnection', { name: 'old', host: GUEST.ipv4 });
  let counter = (await client.do('increment', { name: 'old', count: 10 })).value;
  const coloExits = () =>
    rig.primary.monitor.countOf('COLO_EXIT') + rig.secondary.monitor.countOf('COLO_EXIT');

  for (let round = 1; round <= rounds; round++) {
    const { epoch } = await proxy.metrics();
    await client.do('startSteady', { name: `steady${round}`, host: GUEST.ipv6, everyMs: 5 });
    const [download, control] = [`download${round}`, `control${round}`];
    await (await startTraffic(client, control)).datagrams;
    await client.do('downloadResult', { name: control });
    const before = await client.do('steadyGap', { name: `steady${round}` });
    const { datagrams } = await startTraffic(client, download);
    const successor = await proxy.hotRestart(RESTART_MS_MAX);
    const m = await proxy.until(
      'protected by the successor',
      RESTART_MS_MAX,
      (metrics) => metrics.state === 'protected' && metrics.epoch > epoch,
    );
    point.expect(
      'another process protects the pair',
      coloExits() === 0 && m.sum('failovers_total') === 0,
      `process ${successor}, epoch ${epoch} to ${m.epoch}, ${coloExits()} COLO_EXIT`,
    );
    await point.job('a download goes on', client.do('downloadResult', { name: download }), ({ bytes }) => ({
      ok: bytes === 8 << 20,
      seen: `${bytes} bytes, right sha256`,
    }));
    await point.job('datagrams', datagrams, ({ sent, answered, doubled, wrong }) => ({
      ok: sent === answered && doubled === 0 && wrong === 0,
      seen: `${answered} of ${sent}, ${doubled} doubled`,
    }));
    counter += 5;
    await point.job(
      'the old connection goes on',
      client.do('increment', { name: 'old', count: 5 }),
      ({ value }) => ({ ok: value === counter, seen: `counter ${value} of ${counter}` }),
    );
    await point.job(
      'a steady connection',
      client.do('stopSteady', { name: `steady${round}` }),
      ({ error, gapMsMax }) => ({
        ok: !error,
        seen:
          error ??
          `longest silence ${gapMsMax.toFixed(0)} ms, with the same traffic before ${before.toFixed(0)} ms`,
      }),
    );
    const [, holdMs] =
      /"holdMs":([\d.]+)/.exec(
        proxy.child
          .logText()
          .split('\n')
          .findLast((line) => line.includes('holdMs')) ?? '',
      ) ?? [];
    point.expect('both VMs waited for the successor only a moment', Number(holdMs) < 100, `${holdMs} ms`);
  }

  rig.primary.kill();
  await proxy.until(
    'failed-over',
    OVER_MS_MAX,
    (m) => m.state === 'failed-over' && m.carrier === 'secondary',
  );
  counter += 5;
  await point.job(
    'and the successor fails over',
    client.do('increment', { name: 'old', count: 5 }),
    ({ value }) => ({ ok: value === counter, seen: `counter ${value} of ${counter}` }),
  );
  await until('the survivor runs', OVER_MS_MAX, async () => {
    const { status } = await rig.secondary.monitor.execute('query-status');
    return status === 'running';
  });
  const successor = await proxy.hotRestart(RESTART_MS_MAX);
  counter += 5;
  await point.job(
    'a survivor alone is handed over, too',
    client.do('increment', { name: 'old', count: 5 }),
    ({ value }) => ({ ok: value === counter, seen: `counter ${value} of ${counter}, process ${successor}` }),
  );
  await rig.protect();
  point.expect('and protected again', true, 'protected');
}

async function startTraffic(client, download) {
  await client.do('startDownload', { name: download, host: GUEST.ipv4, path: `/bytes/${8 << 20}/9` });
  const datagrams = client.do('echoDatagrams', { host: GUEST.ipv4, count: 300, inFlightMax: 4 });
  datagrams.catch(() => {});
  return { datagrams };
}
