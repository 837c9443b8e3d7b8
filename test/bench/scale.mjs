// How cost and memory grow: packets over 1 to 1,000,000 flows, bytes per idle flow, commits of much held output,
// connections that come and go. In memory: what is measured is the comparator, not the kernel.
//
//   npm run bench:scale [-- --parts flows,idle,commit,churn --json FILE]
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Comparator } from '../../dist/compare/comparator.js';
import { DEFAULT_COMPARE_LIMITS } from '../../dist/compare/verdict.js';
import { FlowTable } from '../../dist/flow/flow-table.js';
import { buildTcp } from '../../dist/wire/build.js';
import { allocateFrameBytes } from '../../dist/wire/frame-memory.js';
import { FrameView, TcpFlag } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';
import { raise } from './lib/tools.mjs';

const { values: options } = parseArgs({
  options: {
    parts: { type: 'string', default: 'flows,idle,commit,churn' },
    json: { type: 'string' },
    one: { type: 'string' },
  },
});
const FLOW_COUNTS = [1, 1000, 100_000, 1_000_000];
const ROUNDS = 5;
const L4 = 34;

/** A comparator fed with frames of one template, whose flow and position are written into it. */
class Stage {
  released = 0;
  divergences = 0;
  #view = new FrameView();

  constructor(limits = {}) {
    const all = { ...DEFAULT_COMPARE_LIMITS, ...limits };
    this.flows = new FlowTable({ flowsMax: all.flowsMax, seed: 99 });
    this.comparator = new Comparator(this.flows, all, {
      release: () => {
        this.released += 1;
      },
      diverged: () => {
        this.divergences += 1;
      },
    });
  }

  feed(frame, isPrimary, nowMs) {
    parseFrame(frame, 0, frame.length, 0, this.#view);
    const flow = this.flows.findOrAdd(this.#view, false, nowMs);
    if (isPrimary) this.comparator.primary(this.#view, flow, nowMs);
    else this.comparator.secondary(this.#view, flow, nowMs);
  }
}

function template(payloadBytes, flags = TcpFlag.ACK) {
  const frame = buildTcp({
    source: '10.0.0.2',
    destination: '10.1.0.0',
    sourcePort: 80,
    destinationPort: 1,
    seq: 1,
    ack: 1000,
    flags,
    payload: Buffer.alloc(payloadBytes, 7),
  });
  const bytes = allocateFrameBytes(frame.length);
  frame.copy(bytes);
  return bytes;
}

/** Ports and the low bits of the client's address tell the flow. */
function address(frame, flow, seq) {
  frame.writeUInt16BE(1024 + (flow & 0x3fff), L4 + 2);
  frame.writeUInt16BE(flow >>> 14, 32);
  frame.writeUInt32BE(seq >>> 0, L4 + 4);
}

const cpuUs = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** CPU time per packet of the primary (two frames), the flows taken in turn: no flow is in a cache by chance. */
function flowsPart(count) {
  const stage = new Stage({ flowsMax: Math.max(64, count) });
  const frame = template(120);
  const positions = new Int32Array(count).fill(1);
  const total = Math.max(400_000, count);
  const pass = (packets) => {
    for (let index = 0; index < packets; index += 1) {
      const flow = index % count;
      address(frame, flow, positions[flow]);
      stage.feed(frame, true, 1);
      stage.feed(frame, false, 1);
      positions[flow] += 120;
    }
  };
  pass(total);
  const rounds = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = cpuUs();
    pass(total);
    rounds.push((cpuUs() - before) / total);
  }
  if (stage.divergences > 0 || stage.comparator.heldFrames > 0) throw new Error('the flows diverged');
  return { flows: count, us: median(rounds), min: Math.min(...rounds), max: Math.max(...rounds) };
}

function idlePart() {
  const count = 1_000_000;
  const bytes = () => process.memoryUsage().arrayBuffers;
  const limits = { heldFramesMax: 64, heldBytesMax: 1 << 20, releasedRecordBytesMax: 1 << 16 };
  const one = bytes();
  const small = new Stage({ ...limits, flowsMax: 64 });
  const fixed = bytes() - one;
  const before = bytes();
  const large = new Stage({ ...limits, flowsMax: count });
  const perFlow = (bytes() - before - fixed) / count;
  const frame = template(0);
  const rss = process.memoryUsage.rss();
  for (let flow = 0; flow < count; flow += 1) {
    address(frame, flow, 1);
    large.feed(frame, false, 1);
  }
  const touched = (process.memoryUsage.rss() - rss) / count;
  return {
    bytesPerFlow: perFlow,
    rssGrowthPerFlow: touched,
    flows: large.flows.count,
    small: small.flows.count,
  };
}

/** Milliseconds of one commit, with so many frames of the primary held. */
function commitPart() {
  const rows = [];
  for (const [frames, payload, flows] of [
    [1000, 120, 16],
    [10_000, 120, 16],
    [10_000, 1448, 1000],
    [65_000, 1448, 1000],
    [180_000, 1448, 1000],
    [4100, 65_000, 16],
  ]) {
    const stage = new Stage({
      heldFramesMax: 262_144,
      heldBytesMax: 400 * 2 ** 20,
      heldBytesPerFlowMax: 400 * 2 ** 20,
    });
    const frame = template(payload);
    const times = [];
    let heldMiB = 0;
    const positions = new Int32Array(flows).fill(1);
    for (let round = 0; round < ROUNDS; round += 1) {
      for (let index = 0; index < frames; index += 1) {
        const flow = index % flows;
        address(frame, flow, positions[flow]);
        positions[flow] += payload;
        stage.feed(frame, true, round);
      }
      if (stage.comparator.heldFrames !== frames) throw new Error(`${stage.comparator.heldFrames} held`);
      heldMiB = stage.comparator.heldBytes / 2 ** 20;
      const before = performance.now();
      stage.comparator.commit(round);
      times.push(performance.now() - before);
    }
    rows.push({ frames, heldMiB, ms: median(times), max: Math.max(...times) });
  }
  return rows;
}

/** Connections that open, carry a segment each way and close, 20,000 a second of simulated time. */
function churnPart() {
  const stage = new Stage();
  const seconds = 30;
  const perSecond = 20_000;
  const syn = template(0, TcpFlag.SYN | TcpFlag.ACK);
  const data = template(120);
  const fin = template(0, TcpFlag.FIN | TcpFlag.ACK);
  let open = 0;
  const perSecondUs = [];
  const heap = [];
  for (let second = 0; second < seconds; second += 1) {
    const before = cpuUs();
    for (let index = 0; index < perSecond; index += 1) {
      const nowMs = second * 1000 + index / 20;
      for (const [frame, seq] of [
        [syn, 0],
        [data, 1],
        [fin, 121],
      ]) {
        address(frame, open & 0x3ffffff, seq);
        stage.feed(frame, true, nowMs);
        stage.feed(frame, false, nowMs);
      }
      open += 1;
      if (index % 100 === 99) stage.comparator.tick(nowMs);
    }
    perSecondUs.push((cpuUs() - before) / perSecond);
    heap.push(process.memoryUsage.rss() / 2 ** 20);
  }
  const { refused, evicted, expired, count } = stage.flows;
  return {
    us: median(perSecondUs),
    coreShare: (median(perSecondUs) * perSecond) / 1e6,
    ...{ refused, evicted, expired, count, released: stage.released, of: open * 3 },
    ...{ divergences: stage.divergences, rssMiBAfter5s: heap[5], rssMiB: heap.at(-1) },
  };
}

/** Each figure in a process of its own: what one leaves in the heap and in the caches is not another's. */
function inOwnProcess(one) {
  const self = fileURLToPath(import.meta.url);
  const [program, ...words] = [process.execPath, self, '--one', one];
  const { stdout, status } = spawnSync(program, words, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${one} failed`);
  return JSON.parse(stdout);
}

const PARTS = {
  flows() {
    const rows = FLOW_COUNTS.map((count) => inOwnProcess(`flows:${count}`));
    for (const { flows, us, min, max } of rows) {
      console.log(
        `${String(flows).padStart(9)} flows  ${us.toFixed(2)} [${min.toFixed(2)}..${max.toFixed(2)}] us per packet`,
      );
    }
    console.log(`100,000 to 1,000 flows: ${(rows[2].us / rows[1].us).toFixed(2)} (goal 1.5)`);
    return rows;
  },
  idle() {
    const row = inOwnProcess('idle');
    console.log(
      `idle flow: ${row.bytesPerFlow.toFixed(0)} bytes reserved (goal 256), ${row.rssGrowthPerFlow.toFixed(0)} touched by one frame of each of ${row.flows}`,
    );
    return row;
  },
  commit() {
    const rows = inOwnProcess('commit');
    for (const { frames, heldMiB, ms, max } of rows) {
      console.log(
        `commit of ${String(frames).padStart(7)} frames, ${heldMiB.toFixed(0).padStart(4)} MiB: ${ms.toFixed(1)} ms, worst ${max.toFixed(1)}`,
      );
    }
    return rows;
  },
  churn() {
    const row = inOwnProcess('churn');
    console.log(
      `churn: ${row.us.toFixed(1)} us per connection, ${(row.coreShare * 100).toFixed(0)} % of a core at 20,000/s; flows ${row.count}, evicted ${row.evicted}, refused ${row.refused}, released ${row.released} of ${row.of}, divergences ${row.divergences}; RSS ${row.rssMiBAfter5s.toFixed(0)} MiB after 5 s, ${row.rssMiB.toFixed(0)} at the end`,
    );
    return row;
  },
};

if (options.one !== undefined) {
  raise(process.pid);
  const [part, count] = options.one.split(':');
  const measure = {
    flows: () => flowsPart(Number(count)),
    idle: idlePart,
    commit: commitPart,
    churn: churnPart,
  }[part];
  console.log(JSON.stringify(measure()));
} else {
  const results = {};
  for (const part of options.parts.split(',')) results[part] = PARTS[part]();
  if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
}
