/**
 * `npm run test:differential`: the same streams through our comparator and QEMU's own colo-compare. Where the two
 * verdicts differ must be known: scenarios.mjs holds the expected table, each entry with the trap that QEMU falls into.
 * Skipped, loudly, without qemu-system-x86. `--list` only prints what was seen.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Comparator } from '../../dist/compare/comparator.js';
import { DEFAULT_COMPARE_LIMITS } from '../../dist/compare/verdict.js';
import { FlowTable } from '../../dist/flow/flow-table.js';
import { FrameView } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';
import { ColoCompareProcess, qemuVersion } from './colo-compare-process.mjs';
import { SCENARIOS } from './scenarios.mjs';

/** Between two frames, so that those of both sockets are taken in this order; and after the last. Below QEMU's 3 s. */
const STEP_MS = 60;
const REST_MS = 500;
const ONE_SIDED = new Set(['primary-only', 'secondary-only', 'unknown']);

function verdict(primaries, released, asked) {
  const left = [...primaries.keys()];
  const parts = released.map((bytes) => {
    let at = left.findIndex((index) => primaries[index].equals(bytes));
    const isExact = at >= 0;
    // one that was lowered has the length of an original; what was owed comes later without data
    if (!isExact) at = left.findIndex((index) => primaries[index].length === bytes.length);
    if (at < 0) return 'extra';
    return `${left.splice(at, 1)[0]}${isExact ? '' : '~'}`;
  });
  return [...parts, ...(asked ? ['checkpoint'] : [])].join(' ') || 'nothing';
}

async function ofQemu({ frames }) {
  const peer = new ColoCompareProcess();
  try {
    await peer.start();
    for (const [side, frame] of frames) {
      peer.send(side, frame);
      await sleep(STEP_MS);
    }
    await sleep(REST_MS);
    return verdict(primariesOf(frames), peer.released, peer.checkpointsAsked > 0);
  } finally {
    peer.stop();
  }
}

function ofOurs({ frames }) {
  const released = [];
  let asked = false;
  const flows = new FlowTable({ flowsMax: 64, seed: 1 });
  const comparator = new Comparator(
    flows,
    { ...DEFAULT_COMPARE_LIMITS, flowsMax: 64 },
    {
      release: (bytes, offset, length) => released.push(Buffer.from(bytes.subarray(offset, offset + length))),
      diverged: ({ reason }) => {
        asked ||= !ONE_SIDED.has(reason);
      },
    },
  );
  const view = new FrameView();
  let nowMs = 0;
  for (const [side, frame] of frames) {
    const bytes = Buffer.from(frame);
    parseFrame(bytes, 0, bytes.length, 0, view);
    comparator[side](view, flows.findOrAdd(view, false, nowMs), nowMs);
    nowMs += 5;
    comparator.tick(nowMs);
  }
  for (let restMs = 0; restMs < REST_MS; restMs += 5) comparator.tick(nowMs + restMs);
  return verdict(primariesOf(frames), released, asked);
}

function primariesOf(frames) {
  return frames.filter(([side]) => side === 'primary').map(([, frame]) => frame);
}

const version = qemuVersion();
if (version === undefined) {
  console.error('SKIPPED: test:differential needs qemu-system-x86_64, which is not installed');
  process.exit(0);
}
console.log(version);
const isListing = process.argv.includes('--list');
let wrong = 0;
let known = 0;
for (const scenario of SCENARIOS) {
  const ours = ofOurs(scenario);
  const qemu = await ofQemu(scenario);
  const expected = scenario.differs ?? { ours, qemu: ours };
  const isExpected = expected.ours === ours && expected.qemu === qemu;
  const mark = isExpected ? (scenario.differs === undefined ? 'same    ' : 'differs ') : 'WRONG   ';
  const trap = scenario.differs === undefined ? '' : ` (${scenario.differs.trap})`;
  console.log(`${mark}${scenario.name}: ours ${ours}; QEMU ${qemu}${trap}`);
  if (isExpected && scenario.differs !== undefined) known++;
  if (isExpected) continue;
  wrong++;
  if (!isListing) console.log(`        expected ours ${expected.ours}; QEMU ${expected.qemu}`);
}
console.log(`scenarios ${SCENARIOS.length}, known differences ${known}, wrong ${wrong}`);
process.exit(wrong > 0 && !isListing ? 1 : 0);
