import { SyncPointRecord } from '../../../src/checkpoint/sync-point-record.js';
import { DIVERGENCE_REASONS, RELEASE_REASONS } from '../../../src/compare/verdict.js';
import { newLinkCounters } from '../../../src/link/link.js';
import { DROP_REASONS, type PairStatus } from '../../../src/pair/status.js';
import { Histogram } from '../../../src/system/histogram.js';

/** A pair in full work: every number differs from every other, so that a mix-up shows. */
export function sampleStatus(changes: Partial<PairStatus> = {}): PairStatus {
  const pause = new Histogram([1, 10, 100]);
  for (const ms of [0.5, 7, 8, 500]) pause.observe(ms);
  const releaseLatency = new Histogram([1, 10]);
  releaseLatency.observe(2);
  return {
    name: 'web',
    state: 'protected',
    carrier: 'primary',
    generation: 5,
    signs: [],
    copy: null,
    translatedConnections: 6,
    phase: 'idle',
    epoch: 12,
    parts: [{ name: 'client link', ready: true, detail: 'up' }],
    links: (['client', 'primary', 'secondary'] as const).map((side, index) => ({
      nic: 0,
      side,
      url: `packet:e${index}`,
      state: side === 'secondary' ? 'waiting' : 'up',
      abilities: { vnetHeader: true, gso: true, frameBytesMax: 1522 },
      counters: { ...newLinkCounters(), framesReceived: 100 + index, bytesSent: 200 + index, reopens: index },
    })),
    heldFrames: 3,
    heldBytes: 3000,
    lagMs: 12,
    holdMs: 48,
    gateClosed: true,
    gateFrames: 4,
    gateBytes: 4000,
    flows: 5,
    framesReleased: numbered(RELEASE_REASONS, 10),
    bytesReleased: numbered(RELEASE_REASONS, 1000),
    waivers: [{ rule: 'link-control', why: 'the primary speaks for both', frames: 7, bytes: 420 }],
    drops: numbered(DROP_REASONS, 20),
    divergences: numbered(DIVERGENCE_REASONS, 40),
    checkpoints: { protect: 1, divergence: 2, 'one-sided': 3, limit: 4, period: 5, operator: 6, vm: 7 },
    checkpointPlan: { mode: 'periodic', periodMs: 40, adapted: true },
    checkpointsPutOff: 3,
    framesMaybeLost: 2,
    signedUntranslated: 4,
    fragmentsUntranslated: 7,
    dialect: 'upstream',
    syncPoints: new SyncPointRecord().seenByWord,
    checkpointsFailed: 8,
    failovers: { 'primary-lost': 1, 'secondary-lost': 0 },
    ask: pause,
    request: pause,
    pause,
    releaseLatency,
    lastCheckpoint: {
      epoch: 12,
      cause: 'divergence',
      requestedAtMs: 1,
      begunAtMs: 1,
      askedAtMs: 2,
      requestSeenAtMs: 2,
      loadedAtMs: 9,
      pauseMs: 7,
      gateClosedMs: 8,
      stateBytes: 123_456,
    },
    lastDivergence: {
      reason: 'payload',
      flow: 'tcp 10.0.0.2:80 > 10.0.0.1:40000',
      offset: 17,
      primaryBytes: Uint8Array.of(1, 255),
      secondaryBytes: Uint8Array.of(2),
      atMs: 5,
    },
    evidence: {
      seen: 9,
      explained: 6,
      leftOut: 3,
      writtenBytes: 4096,
      framesLeftOut: 5,
      writeFailures: 2,
      recording: { writtenBytes: 8192, framesLeftOut: 7, writeFailures: 4 },
    },
    guestAddresses: ['10.0.0.2'],
    ...changes,
  } as PairStatus;
}

function numbered<Key extends string>(keys: readonly Key[], from: number): Record<Key, number> {
  return Object.fromEntries(keys.map((key, index) => [key, from + index])) as Record<Key, number>;
}
