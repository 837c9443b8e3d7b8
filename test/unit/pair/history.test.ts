import { expect, it } from 'vitest';
import type { CheckpointRecord } from '../../../src/checkpoint/ports.js';
import { PairHistory } from '../../../src/pair/history.js';

const RECORD: CheckpointRecord = {
  epoch: 1,
  cause: 'divergence',
  requestedAtMs: 900,
  begunAtMs: 1000,
  askedAtMs: 1003,
  requestSeenAtMs: 1010,
  loadedAtMs: 1020,
  pauseMs: 8,
  gateClosedMs: 21,
  stateBytes: 1,
};

it('splits the time to a REQUEST into our own share and the primary’s, without the least distance', () => {
  const history = new PairHistory();
  history.checkpointDone(RECORD);
  expect([history.ask.sumMs, history.request.sumMs, history.pause.sumMs]).toEqual([3, 7, 8]);
});

it('counts no share for a checkpoint that QEMU began by itself', () => {
  const history = new PairHistory();
  history.checkpointDone({ ...RECORD, cause: 'vm', askedAtMs: 0 });
  expect([history.ask.count, history.request.count, history.pause.count]).toEqual([0, 0, 1]);
});
