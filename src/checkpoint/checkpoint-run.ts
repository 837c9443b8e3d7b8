import type { CheckpointRequest } from './checkpoint-request.js';
import type { Quiescence } from './quiesce.js';

/** One checkpoint in the making. */
export interface Run {
  readonly request: CheckpointRequest;
  readonly gateClosedAtMs: number;
  quiescence: Promise<Quiescence>;
  /** REQUEST was seen: QEMU is on its way, with or without our asking. */
  requestSeen: boolean;
  askedAtMs: number;
  requestSeenAtMs: number;
  stoppedAtMs: number;
  primaryBytesAtStop: number;
  stateBytes: number;
}
