// What the flight recorder costs: CPU time per packet of the primary (three frames recorded: both sides' and the
// released one) with and without it, and how many frames it leaves out when nothing else waits. A B A B, medians.
// Then what evidence costs while the VMs agree: the clients' latest frames are kept.
//   node test/bench/recorder.mjs [--packets N], after the build.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Comparator } from '../../dist/compare/comparator.js';
import { NO_RULES } from '../../dist/compare/rules.js';
import { DEFAULT_COMPARE_LIMITS } from '../../dist/compare/verdict.js';
import { CaptureRing } from '../../dist/evidence/capture-ring.js';
import { ClientFrames } from '../../dist/evidence/client-frames.js';
import { eventFrame, RECORDING_INTERFACES, RecordedComparator } from '../../dist/evidence/recorder.js';
import { FlowTable } from '../../dist/flow/flow-table.js';
import { realClock } from '../../dist/system/clock.js';
import { buildUdp } from '../../dist/wire/build.js';
import { FrameView } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';

const { values } = parseArgs({ options: { packets: { type: 'string', default: '100000' } } });
const PACKETS = Number(values.packets);
const ROUNDS = 5;
/** Packets between two turns of the event loop, as a busy link delivers them. */
const BATCH = 64;
const RING_BYTES = 256 * 1024 * 1024;
const sink = { release() {}, diverged() {} };

async function round(payloadBytes, isRecorded) {
  const directory = mkdtempSync(join(tmpdir(), 'colo-recorder-'));
  const flows = new FlowTable({ flowsMax: 1024, seed: 1 });
  const limits = DEFAULT_COMPARE_LIMITS;
  const ring = new CaptureRing({
    directory,
    interfaces: RECORDING_INTERFACES,
    opening: () => eventFrame({ event: 'start', format: 1, nic: 0, limits, rules: [], wallBaseMs: 0 }, 0),
    prefix: 'record-nic0',
    application: 'bench',
    limits: { bytesMax: RING_BYTES, ageMsMax: 3_600_000 },
    clock: realClock,
    failed: (error) => console.error(error.message),
  });
  const comparator = isRecorded
    ? new RecordedComparator(flows, limits, sink, NO_RULES, ring, 0)
    : new Comparator(flows, limits, sink);
  const frame = frameOf(payloadBytes);
  const view = new FrameView();
  const began = process.cpuUsage();
  const beganMs = performance.now();
  for (let packet = 0; packet < PACKETS; packet++) {
    const nowMs = packet / 100;
    parseFrame(frame, 0, frame.length, 0, view);
    comparator.primary(view, flows.findOrAdd(view, false, nowMs), nowMs);
    parseFrame(frame, 0, frame.length, 0, view);
    comparator.secondary(view, flows.findOrAdd(view, false, nowMs), nowMs);
    if (packet % BATCH === BATCH - 1) await turn();
  }
  const ms = performance.now() - beganMs;
  await ring.close();
  const { user, system } = process.cpuUsage(began);
  rmSync(directory, { recursive: true });
  const share = ring.leftOutFrames / (3 * PACKETS);
  return { microseconds: (user + system) / PACKETS, leftOut: share, perSecond: (PACKETS / ms) * 1000 };
}

function frameOf(payloadBytes) {
  return buildUdp({
    source: '10.0.0.2',
    destination: '10.0.0.1',
    sourcePort: 53,
    destinationPort: 4000,
    payload: Buffer.alloc(payloadBytes, 7),
  });
}

/** Nanoseconds of CPU a client frame. */
function keeping(payloadBytes) {
  const frame = frameOf(payloadBytes);
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  const kept = new ClientFrames();
  const began = process.cpuUsage();
  for (let packet = 0; packet < PACKETS; packet++) kept.keep(view, packet);
  const { user, system } = process.cpuUsage(began);
  return ((user + system) / PACKETS) * 1000;
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

await round(64, true); // warm
for (const payloadBytes of [64, 1400]) {
  const [without, recorded] = [[], []];
  for (let count = 0; count < ROUNDS; count++) {
    without.push(await round(payloadBytes, false));
    recorded.push(await round(payloadBytes, true));
  }
  const cost = (rounds) => median(rounds.map((one) => one.microseconds)).toFixed(1);
  const leftOut = (100 * median(recorded.map((one) => one.leftOut))).toFixed(1);
  const perSecond = Math.round(median(recorded.map((one) => one.perSecond)) / 1000);
  console.log(
    `${payloadBytes} bytes: ${cost(without)} us of CPU a packet, recorded ${cost(recorded)} us (${perSecond},000 packets/s; ${leftOut} % of the frames left out)`,
  );
}
keeping(64); // warm
for (const payloadBytes of [18, 64, 1400]) {
  const cost = median(Array.from({ length: ROUNDS }, () => keeping(payloadBytes)));
  console.log(`${payloadBytes} bytes: ${Math.round(cost)} ns of CPU to keep a client's frame for evidence`);
}
