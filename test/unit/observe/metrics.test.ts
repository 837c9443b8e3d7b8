import { describe, expect, it } from 'vitest';
import { METRICS } from '../../../src/observe/metric-table.js';
import { PairMetrics } from '../../../src/observe/metrics.js';
import { sampleStatus } from './sample-status.js';

async function scrape(status = sampleStatus()): Promise<string[]> {
  return (await new PairMetrics(() => status, { version: '1.2.3' }).scrape()).split('\n');
}

describe('metrics', () => {
  it('copy the numbers of the status', async () => {
    const lines = await scrape();
    for (const expected of [
      'colo_proxy_protection_state{state="protected"} 1',
      'colo_proxy_protection_state{state="unprotected"} 0',
      'colo_proxy_carrier{vm="primary"} 1',
      'colo_proxy_epoch 12',
      'colo_proxy_part_ready{part="client link"} 1',
      'colo_proxy_link_up{side="secondary",nic="0"} 0',
      'colo_proxy_link_frames_received_total{side="primary",nic="0"} 101',
      'colo_proxy_link_sent_bytes_total{side="client",nic="0"} 200',
      'colo_proxy_link_reopens_total{side="secondary",nic="0"} 2',
      'colo_proxy_held_bytes 3000',
      'colo_proxy_gate_closed 1',
      'colo_proxy_frames_released_total{reason="matched"} 10',
      'colo_proxy_released_bytes_total{reason="survivor"} 1006',
      'colo_proxy_frames_dropped_total{reason="gate-full"} 20',
      'colo_proxy_divergences_total{reason="payload"} 40',
      'colo_proxy_checkpoints_total{cause="vm"} 7',
      'colo_proxy_checkpoints_failed_total 8',
      'colo_proxy_failovers_total{kind="primary-lost"} 1',
      'colo_proxy_last_checkpoint_state_bytes 123456',
      `colo_proxy_build_info{version="1.2.3",node="${process.version}"} 1`,
    ]) {
      expect(lines).toContain(expected);
    }
  });

  it('histograms have cumulative buckets in seconds', async () => {
    expect((await scrape()).filter((line) => line.includes('checkpoint_pause'))).toEqual([
      "# HELP colo_proxy_checkpoint_pause_seconds How long the primary's guest was stopped by a checkpoint.",
      '# TYPE colo_proxy_checkpoint_pause_seconds histogram',
      'colo_proxy_checkpoint_pause_seconds_bucket{le="0.001"} 1',
      'colo_proxy_checkpoint_pause_seconds_bucket{le="0.01"} 3',
      'colo_proxy_checkpoint_pause_seconds_bucket{le="0.1"} 3',
      'colo_proxy_checkpoint_pause_seconds_bucket{le="+Inf"} 4',
      'colo_proxy_checkpoint_pause_seconds_sum 0.5155',
      'colo_proxy_checkpoint_pause_seconds_count 4',
    ]);
  });

  it('a scrape never adds to what an earlier one showed', async () => {
    const metrics = new PairMetrics(() => sampleStatus(), { version: '1' });
    const first = (await metrics.scrape()).split('\n').filter((line) => line.startsWith('colo_proxy_'));
    const second = (await metrics.scrape()).split('\n').filter((line) => line.startsWith('colo_proxy_'));
    expect(second).toEqual(first);
  });

  it('names follow the conventions', () => {
    for (const metric of METRICS) {
      expect(metric.name).toMatch(/^colo_proxy_[a-z_]+$/);
      expect(metric.name.endsWith('_total'), metric.name).toBe(metric.kind === 'counter');
      expect(metric.help, metric.name).toMatch(/^[A-Z].*\.$/);
      expect(metric.name).not.toMatch(/_(ms|milliseconds|kib|mib)(_|$)/);
    }
    expect(new Set(METRICS.map((metric) => metric.name)).size).toBe(METRICS.length);
  });

  it('no label shows an address, whatever the traffic was', async () => {
    expect((await scrape()).join('\n')).not.toContain('10.0.0.');
  });
});
