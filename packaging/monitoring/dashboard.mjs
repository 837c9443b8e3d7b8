// Writes grafana-dashboard.json anew: node packaging/monitoring/dashboard.mjs
import { writeFileSync } from 'node:fs';

const SOURCE = { type: 'prometheus', uid: '${source}' };
const RATE = '[$__rate_interval]';
const of = (metric) => `colo_proxy_${metric}{instance=~"$instance"}`;
const perSecond = (metric, by) => `sum by (${by}) (rate(${of(metric)}${RATE}))`;
const quantile = (q, metric) => `histogram_quantile(${q}, sum by (le) (rate(${of(`${metric}_bucket`)}${RATE})))`;

const PANELS = [
  ['stat', 'Protection', 'none', [[`${of('protection_state')} == 1`, '{{state}}']]],
  ['stat', 'Carrier', 'none', [[`${of('carrier')} == 1`, '{{vm}}']]],
  ['stat', 'Failovers', 'none', [[`sum(${of('failovers_total')})`, 'failovers']]],
  ['stat', 'Epoch', 'none', [[of('epoch'), 'epoch']]],
  ['timeseries', 'Throughput to clients', 'Bps', [[perSecond('released_bytes_total', 'reason'), '{{reason}}']]],
  ['timeseries', 'Links', 'Bps', [[perSecond('link_received_bytes_total', 'side'), 'from {{side}}'], [perSecond('link_sent_bytes_total', 'side'), 'to {{side}}']]],
  ['timeseries', 'Checkpoints by cause', 'cps', [[perSecond('checkpoints_total', 'cause'), '{{cause}}']]],
  ['timeseries', 'Divergences by reason', 'cps', [[perSecond('divergences_total', 'reason'), '{{reason}}']]],
  ['timeseries', 'Pause of the guest', 's', [[quantile(0.5, 'checkpoint_pause_seconds'), 'median'], [quantile(0.99, 'checkpoint_pause_seconds'), '99 %']]],
  ['timeseries', 'How long frames were held', 's', [[quantile(0.5, 'release_latency_seconds'), 'median'], [quantile(0.99, 'release_latency_seconds'), '99 %']]],
  ['timeseries', 'Held back', 'bytes', [[of('held_bytes'), 'held'], [of('gate_bytes'), 'at the gate']]],
  ['timeseries', 'Frames dropped', 'cps', [[perSecond('frames_dropped_total', 'reason'), '{{reason}}']]],
  ['timeseries', 'Flows', 'none', [[of('flows'), 'flows']]],
  ['timeseries', 'Evidence', 'Bps', [
    [perSecond('evidence_written_bytes_total', 'instance'), 'evidence'],
    [perSecond('recording_written_bytes_total', 'instance'), 'recording'],
  ]],
];

function panel([type, title, unit, targets], index) {
  const isStat = type === 'stat';
  const gridPos = isStat
    ? { h: 4, w: 6, x: index * 6, y: 0 }
    : { h: 8, w: 12, x: (index % 2) * 12, y: 4 + Math.floor((index - 4) / 2) * 8 };
  return {
    id: index + 1,
    type,
    title,
    datasource: SOURCE,
    gridPos,
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options: isStat ? { textMode: unit === 'none' && index < 2 ? 'name' : 'value', reduceOptions: { calcs: ['lastNotNull'] } } : {},
    targets: targets.map(([expr, legendFormat], at) => ({ refId: 'ABCD'[at], datasource: SOURCE, expr, legendFormat })),
  };
}

const dashboard = {
  uid: 'colo-proxy',
  title: 'colo-proxy',
  tags: ['colo', 'qemu'],
  schemaVersion: 39,
  editable: true,
  refresh: '10s',
  time: { from: 'now-1h', to: 'now' },
  templating: {
    list: [
      { name: 'source', label: 'Prometheus', type: 'datasource', query: 'prometheus' },
      { name: 'instance', type: 'query', datasource: SOURCE, query: 'label_values(colo_proxy_build_info, instance)', refresh: 2, multi: true, includeAll: true },
    ],
  },
  panels: PANELS.map(panel),
};

writeFileSync(new URL('grafana-dashboard.json', import.meta.url), `${JSON.stringify(dashboard, null, 2)}\n`);
