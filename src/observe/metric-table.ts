/** Every metric of a pair and where its numbers come from. Names, units and labels are part of the interface. */
import { CHECKPOINT_MODES } from '../checkpoint/ports.js';
import { SIGNS } from '../failover/detector.js';
import { copyShare } from '../pair/initial-copy.js';
import type { LinkStatus, PairStatus, WaiverStatus } from '../pair/status.js';
import type { Histogram } from '../system/histogram.js';

/** One number with its labels. Label values come from short fixed lists, never from traffic. */
export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface NumberMetric {
  readonly kind: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  read(status: PairStatus): Iterable<Sample>;
}

export interface HistogramMetric {
  readonly kind: 'histogram';
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly [];
  read(status: PairStatus): Histogram;
}

const STATES = ['unprotected', 'starting', 'protected', 'checkpointing', 'failed-over', 'resyncing'] as const;
const CARRIERS = ['primary', 'secondary', 'none'] as const;

export const METRICS: readonly (NumberMetric | HistogramMetric)[] = [
  oneHot('protection_state', 'Protection state: 1 for the one that holds.', 'state', STATES, (s) => s.state),
  oneHot('carrier', 'Whose output reaches the clients: 1 for that VM.', 'vm', CARRIERS, (s) => s.carrier),
  gauge('epoch', 'Number of the current epoch: rises by one with each loaded checkpoint.', (s) => s.epoch),
  {
    kind: 'gauge',
    name: 'colo_proxy_part_ready',
    help: 'Whether a part that the service needs is ready.',
    labelNames: ['part'],
    read: (status) =>
      status.parts.map((part) => ({ labels: { part: part.name }, value: Number(part.ready) })),
  },

  perSide('gauge', 'link_up', 'Whether frames can flow on the link.', (link) => Number(link.state === 'up')),
  perSide(
    'counter',
    'link_frames_received_total',
    'Frames received on the link.',
    (l) => l.counters.framesReceived,
  ),
  perSide(
    'counter',
    'link_received_bytes_total',
    'Bytes of the frames received.',
    (l) => l.counters.bytesReceived,
  ),
  perSide('counter', 'link_frames_sent_total', 'Frames sent on the link.', (l) => l.counters.framesSent),
  perSide('counter', 'link_sent_bytes_total', 'Bytes of the frames sent.', (l) => l.counters.bytesSent),
  perSide(
    'counter',
    'link_send_drops_total',
    'Frames the link could not send: queue full, link down, too long.',
    (l) => l.counters.sendDrops,
  ),
  perSide(
    'counter',
    'link_receive_drops_total',
    'Frames the kernel lost before they were read.',
    (l) => l.counters.receiveDrops,
  ),
  perSide(
    'counter',
    'link_reopens_total',
    'Times the link was opened again after a loss.',
    (l) => l.counters.reopens,
  ),

  gauge('held_frames', 'Frames of the primary held back now.', (s) => s.heldFrames),
  gauge('held_bytes', 'Bytes held back now.', (s) => s.heldBytes),
  gauge(
    'lag_seconds',
    "How far the two VMs' equal output lies apart now: the 99 % quantile.",
    (s) => s.lagMs / 1000,
  ),
  gauge(
    'hold_timer_seconds',
    'How long one-sided output waits now before it asks for a checkpoint.',
    (s) => s.holdMs / 1000,
  ),
  gauge('gate_closed', 'Whether client frames wait for a checkpoint.', (s) => Number(s.gateClosed)),
  gauge('gate_frames', 'Client frames waiting at the gate now.', (s) => s.gateFrames),
  gauge('gate_bytes', 'Bytes waiting at the gate now.', (s) => s.gateBytes),
  gauge('flows', 'Flows known now.', (s) => s.flows),
  gauge(
    'translated_connections',
    'Connections translated for their clients since a failover.',
    (s) => s.translatedConnections,
  ),
  gauge(
    'copy_share',
    'How much of the initial copy (first the disks, then the memory) is done, 0 to 1; 0 while none is under way.',
    ({ copy }) => (copy === null ? 0 : copyShare(copy)),
  ),
  perSign('primary_sign', 'Signs that the VM that carries the traffic may be lost: 1 while it is seen.'),
  gauge('arbiter_generation', "The arbiter's generation; 0 before the first claim.", (s) => s.generation),

  perKey('frames_released_total', 'Frames let go to the clients.', 'reason', (s) => s.framesReleased),
  perKey('released_bytes_total', 'Bytes let go to the clients.', 'reason', (s) => s.bytesReleased),
  perWaiver('waived_frames_total', 'Frames of the guest that left uncompared, by rule.', (w) => w.frames),
  perWaiver('waived_bytes_total', 'Bytes of the guest that left uncompared, by rule.', (w) => w.bytes),
  perKey('frames_dropped_total', 'Frames thrown away on purpose.', 'reason', (s) => s.drops),
  perKey('divergences_total', 'Times the VMs differed.', 'reason', (s) => s.divergences),
  perKey('checkpoints_total', 'Checkpoints that were loaded.', 'cause', (s) => s.checkpoints),
  {
    kind: 'counter',
    name: 'colo_proxy_checkpoints_failed_total',
    help: 'Checkpoints that were begun and given up.',
    labelNames: [],
    read: (status) => [{ value: status.checkpointsFailed }],
  },
  count(
    'checkpoints_put_off_total',
    'Checkpoints put off because a VM had not taken its frames.',
    (s) => s.checkpointsPutOff,
  ),
  count(
    'frames_maybe_lost_total',
    'Client frames a VM had not taken when it was stopped.',
    (s) => s.framesMaybeLost,
  ),
  count(
    'signed_untranslated_segments_total',
    'Segments signed with TCP MD5 or AO that passed untranslated: their connection is not protected.',
    (s) => s.signedUntranslated,
  ),
  count(
    'fragments_untranslated_total',
    'First fragments without the whole TCP header that passed untranslated: the client ignores them.',
    (s) => s.fragmentsUntranslated,
  ),
  oneHot(
    'checkpoint_mode',
    'How output is handled: 1 for the mode that holds.',
    'mode',
    CHECKPOINT_MODES,
    (s) => s.checkpointPlan.mode,
  ),
  gauge('checkpoint_mode_adapted', 'Whether the mode came by itself: the outputs never agree.', (s) =>
    Number(s.checkpointPlan.adapted),
  ),
  gauge(
    'checkpoint_period_seconds',
    'Interval in mode periodic, longest one in mode compare; 0: none.',
    (s) => s.checkpointPlan.periodMs / 1000,
  ),
  {
    kind: 'counter',
    name: 'colo_proxy_sync_points_total',
    help: 'Words of the checkpoint protocol that passed on the migration channel.',
    labelNames: ['word'],
    read: (status) =>
      Object.entries(status.syncPoints).map(([word, seen]) => ({ labels: { word }, value: seen.count })),
  },
  perKey('failovers_total', 'VMs lost while the other went on.', 'kind', (s) => s.failovers),
  count('evidence_divergences_total', 'Divergences explained and kept.', (s) => s.evidence.explained),
  count(
    'evidence_left_out_total',
    'Divergences that were only counted, because there were too many at once.',
    (s) => s.evidence.leftOut,
  ),
  count('evidence_written_bytes_total', 'Bytes of evidence written.', (s) => s.evidence.writtenBytes),
  count(
    'evidence_write_failures_total',
    'Times evidence could not be written.',
    (s) => s.evidence.writeFailures,
  ),
  count(
    'evidence_frames_left_out_total',
    'Frames of divergences that were not written: the disk was too slow or failed.',
    (s) => s.evidence.framesLeftOut,
  ),
  count(
    'recording_written_bytes_total',
    'Bytes the flight recorder wrote.',
    (s) => s.evidence.recording?.writtenBytes ?? 0,
  ),
  count(
    'recording_frames_left_out_total',
    'Frames missing in the recording: the disk was too slow or failed.',
    (s) => s.evidence.recording?.framesLeftOut ?? 0,
  ),
  count(
    'recording_write_failures_total',
    'Times the recording could not be written.',
    (s) => s.evidence.recording?.writeFailures ?? 0,
  ),
  gauge(
    'last_checkpoint_state_bytes',
    'Bytes of state the last checkpoint carried; 0 before the first.',
    (s) => s.lastCheckpoint?.stateBytes ?? 0,
  ),

  {
    kind: 'histogram',
    name: 'colo_proxy_checkpoint_ask_seconds',
    help: 'From the closing of the gate to asking the primary: both VMs take what was fed to them.',
    labelNames: [],
    read: (status) => status.ask,
  },
  {
    kind: 'histogram',
    name: 'colo_proxy_checkpoint_request_seconds',
    help: 'From asking the primary to its checkpoint-request.',
    labelNames: [],
    read: (status) => status.request,
  },
  {
    kind: 'histogram',
    name: 'colo_proxy_checkpoint_pause_seconds',
    help: "How long the primary's guest was stopped by a checkpoint.",
    labelNames: [],
    read: (status) => status.pause,
  },
  {
    kind: 'histogram',
    name: 'colo_proxy_release_latency_seconds',
    help: 'How long released frames were held.',
    labelNames: [],
    read: (status) => status.releaseLatency,
  },
];

function gauge(name: string, help: string, read: (status: PairStatus) => number): NumberMetric {
  return {
    kind: 'gauge',
    name: `colo_proxy_${name}`,
    help,
    labelNames: [],
    read: (status) => [{ value: read(status) }],
  };
}

function perSign(name: string, help: string): NumberMetric {
  return {
    kind: 'gauge',
    name: `colo_proxy_${name}`,
    help,
    labelNames: ['sign'],
    read: ({ signs }) => SIGNS.map((sign) => ({ labels: { sign }, value: Number(signs.includes(sign)) })),
  };
}

function count(name: string, help: string, read: (status: PairStatus) => number): NumberMetric {
  return { ...gauge(name, help, read), kind: 'counter' };
}

function oneHot(
  name: string,
  help: string,
  label: string,
  values: readonly string[],
  read: (status: PairStatus) => string,
): NumberMetric {
  return {
    kind: 'gauge',
    name: `colo_proxy_${name}`,
    help,
    labelNames: [label],
    read(status) {
      const current = read(status);
      return values.map((value) => ({ labels: { [label]: value }, value: Number(value === current) }));
    },
  };
}

function perSide(
  kind: 'counter' | 'gauge',
  name: string,
  help: string,
  read: (link: LinkStatus) => number,
): NumberMetric {
  return {
    kind,
    name: `colo_proxy_${name}`,
    help,
    labelNames: ['side', 'nic'],
    read: (status) =>
      status.links.map((link) => ({ labels: { side: link.side, nic: `${link.nic}` }, value: read(link) })),
  };
}

function perWaiver(name: string, help: string, read: (waiver: WaiverStatus) => number): NumberMetric {
  return {
    kind: 'counter',
    name: `colo_proxy_${name}`,
    help,
    labelNames: ['rule'],
    read: (status) =>
      status.waivers.map((waiver) => ({ labels: { rule: waiver.rule }, value: read(waiver) })),
  };
}

function perKey(
  name: string,
  help: string,
  label: string,
  read: (status: PairStatus) => Readonly<Record<string, number>>,
): NumberMetric {
  return {
    kind: 'counter',
    name: `colo_proxy_${name}`,
    help,
    labelNames: [label],
    read: (status) =>
      Object.entries(read(status)).map(([key, value]) => ({ labels: { [label]: key }, value })),
  };
}
