/** Plans, cut down, that once broke an invariant. Each says whose fault it was. */
import { describe, expect, it } from 'vitest';
import type { Plan } from '../../../src/simulation/trial/plan.js';
import { runTrial } from '../../../src/simulation/trial/trial.js';

const PLANS: Readonly<Record<string, Plan>> = {
  // The oracle's: the primary leaves COLO in mid-checkpoint and is still compared with the same epoch's secondary.
  'the channel breaks while the state is transferred': {
    seed: 955134631,
    world: {
      wire: { delayMs: 0.5, jitterMs: 0 },
      primary: {
        tcp: { segmentJitter: 0, delayedAckMs: 40, sack: true, wrapSoon: 0 },
        services: { thinkMs: 0, thinkJitterMs: 0 },
        lagMs: 8,
        lagJitterMs: 0,
        clockRate: 0.9,
      },
      linkDelayMs: 1,
      channelDelayMs: 1.5,
    },
    tight: false,
    tasks: [
      { name: 'count', ipVersion: 4, atMs: 33, size: 52, nic: 1 },
      { name: 'rand', ipVersion: 4, atMs: 189, size: 1, nic: 0 },
    ],
    faults: [{ name: 'cut-channel', when: { phase: 'transferring', nth: 1, afterMs: 0.4 }, durationMs: 166 }],
  },
  // The oracle's: a bit of the VLAN id changed on the cable, so the VM never looked at that acknowledgement.
  'a frame changes its VLAN on the way': {
    seed: 955133037,
    world: {
      wire: { delayMs: 5, jitterMs: 0 },
      secondary: {
        tcp: { segmentJitter: 0, delayedAckMs: 40, sack: true, wrapSoon: 0.5 },
        services: { thinkMs: 0, thinkJitterMs: 0 },
        lagMs: 8,
        lagJitterMs: 2,
        clockRate: 0.9,
      },
      linkDelayMs: 1,
      channelDelayMs: 1.5,
      linkBytesMax: 32768,
      nics: 2,
      vlan: 7,
      leased: false,
    },
    tight: true,
    tasks: [
      { name: 'upload', ipVersion: 4, atMs: 322, size: 147478, nic: 1 },
      { name: 'time', ipVersion: 4, atMs: 1310, size: 1, nic: 2 },
      { name: 'short', ipVersion: 6, atMs: 1020, size: 13, nic: 1 },
      { name: 'think', ipVersion: 4, atMs: 783, size: 3, nic: 2 },
    ],
    faults: [
      { name: 'storm', when: { phase: 'suspended', nth: 3, afterMs: 2.5 }, durationMs: 118 },
      { name: 'corruption', when: { phase: 'committing', nth: 3, afterMs: 2.8 }, durationMs: 380 },
    ],
  },
  // The oracle's: an announcement refused by a full queue was taken for output that was not sent.
  'an announcement finds the client link full': {
    seed: 603968678,
    world: {
      secondary: {
        tcp: { segmentJitter: 0.2, delayedAckMs: 0, sack: true, wrapSoon: 0.5 },
        services: { thinkMs: 3, thinkJitterMs: 0 },
        lagMs: 0,
        lagJitterMs: 0,
        clockRate: 0.9,
      },
      linkBytesMax: 32768,
      nics: 1,
      vlan: 409607,
      leased: true,
    },
    tight: false,
    tasks: [
      { name: 'download', ipVersion: 4, atMs: 879, size: 209297, nic: 2 },
      { name: 'big-udp', ipVersion: 4, atMs: 908, size: 4, nic: 0 },
      { name: 'download', ipVersion: 4, atMs: 561, size: 70541, nic: 1 },
      { name: 'ping', ipVersion: 4, atMs: 686, size: 19, nic: 0 },
    ],
    faults: [],
    death: { step: 1028, victim: 'carrier' },
  },
  // The world's: what was left of a datagram whose fragments were doubled was taken for a piece of a later one.
  'fragments are doubled on the way': {
    seed: 955132550,
    world: {},
    tight: false,
    tasks: [
      { name: 'big-udp', ipVersion: 4, atMs: 1018, size: 16, nic: 1 },
      { name: 'big-udp', ipVersion: 4, atMs: 1180, size: 11, nic: 2 },
    ],
    faults: [{ name: 'duplication', when: { atMs: 1032.3 }, durationMs: 62 }],
  },
};

describe('a plan that was once violated', () => {
  it.each(Object.entries(PLANS))('%s', async (_what, plan) => {
    expect((await runTrial(plan)).violation).toBeNull();
  });
});
