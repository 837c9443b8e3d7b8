// CPU time of parsing, flow lookup and comparing, in memory, per packet of the primary (so for two frames):
// node test/bench/compare.mjs, after the build.
import { Comparator } from '../../dist/compare/comparator.js';
import { DEFAULT_COMPARE_LIMITS } from '../../dist/compare/verdict.js';
import { FlowTable } from '../../dist/flow/flow-table.js';
import { buildTcp, buildUdp } from '../../dist/wire/build.js';
import { allocateFrameBytes } from '../../dist/wire/frame-memory.js';
import { FrameView, TcpFlag } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';

const FLOWS = 16;
const ROUNDS = 20;
const PER_FLOW = 64;

const addresses = { source: '10.0.0.2', destination: '10.0.0.1' };

function tcpFrames(isn, port, payloads, cut) {
  const frames = [];
  const stream = Buffer.concat(payloads);
  let at = 0;
  for (let index = 0; at < stream.length; index += 1) {
    const bytes = cut === undefined ? payloads[index].length : Math.min(cut, stream.length - at);
    frames.push(
      buildTcp({
        ...addresses,
        sourcePort: 80,
        destinationPort: port,
        seq: (isn + 1 + at) >>> 0,
        ack: 1000,
        flags: TcpFlag.ACK,
        options: { timestamp: { value: index, echo: 1 } },
        payload: stream.subarray(at, at + bytes),
      }),
    );
    at += bytes;
  }
  return frames;
}

const syn = (isn, port) =>
  buildTcp({
    ...addresses,
    sourcePort: 80,
    destinationPort: port,
    seq: isn,
    ack: 1000,
    flags: TcpFlag.SYN | TcpFlag.ACK,
  });

/** One slab as a link would fill it: frames of both sides, and who sent which. */
function slabOf(list) {
  const entries = [];
  let offset = 0;
  for (const { frame, primary } of list) {
    entries.push({ offset, length: frame.length, primary });
    offset += frame.length;
  }
  const slab = allocateFrameBytes(offset);
  Buffer.concat(list.map((entry) => entry.frame)).copy(slab);
  return { slab, entries };
}

function run(name, makeFlow, order) {
  const best = { us: Number.POSITIVE_INFINITY };
  const rounds = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const list = [];
    const openings = [];
    for (let flow = 0; flow < FLOWS; flow += 1) {
      const { p, s, opening } = makeFlow(round, flow);
      openings.push(...opening);
      const primary = p.map((frame) => ({ frame, primary: true }));
      const secondary = s.map((frame) => ({ frame, primary: false }));
      list.push(...(order === 'primary first' ? [...primary, ...secondary] : [...secondary, ...primary]));
    }
    rounds.push({ openings, ...slabOf(list) });
  }
  const packets = rounds.reduce(
    (sum, { entries }) => sum + entries.filter((entry) => entry.primary).length,
    0,
  );
  for (let attempt = 0; attempt < 4; attempt += 1) {
    const flows = new FlowTable({ flowsMax: 1024, seed: 5 });
    let released = 0;
    const comparator = new Comparator(flows, DEFAULT_COMPARE_LIMITS, {
      release: () => {
        released += 1;
      },
      diverged: (divergence) => {
        throw new Error(JSON.stringify(divergence));
      },
    });
    const view = new FrameView();
    const feed = (slab, offset, length, primary) => {
      parseFrame(slab, offset, length, 0, view);
      const flow = flows.findOrAdd(view, false, 1);
      if (primary) comparator.primary(view, flow, 1);
      else comparator.secondary(view, flow, 1);
    };
    let cpuUs = 0;
    for (const { openings, slab, entries } of rounds) {
      for (const [frame, primary] of openings) feed(frame, 0, frame.length, primary);
      const before = process.cpuUsage();
      for (const { offset, length, primary } of entries) feed(slab, offset, length, primary);
      const { user, system } = process.cpuUsage(before);
      cpuUs += user + system;
    }
    if (comparator.heldFrames !== 0) throw new Error(`${name}: ${comparator.heldFrames} frames left`);
    best.us = Math.min(best.us, cpuUs / packets);
    best.released = released;
  }
  console.log(`${name.padEnd(8)} ${order.padEnd(16)} ${best.us.toFixed(3)} us per packet of the primary`);
}

const tcp = (bytes, cut) => (round, flow) => {
  const port = 1000 + flow;
  const payloads = Array.from({ length: PER_FLOW }, (_, index) => Buffer.alloc(bytes, index + round));
  const isn = round * 10_000_019 + flow;
  const other = isn + 12_345;
  return {
    p: tcpFrames(isn, port, payloads),
    s: tcpFrames(other, port, payloads, cut),
    opening: [
      [syn(isn, port), true],
      [syn(other, port), false],
    ],
  };
};
const udp = (_round, flow) => {
  const frames = Array.from({ length: PER_FLOW }, (_, index) =>
    buildUdp({
      ...addresses,
      sourcePort: 53,
      destinationPort: 1000 + flow,
      payload: Buffer.alloc(64, index),
    }),
  );
  return { p: frames, s: frames, opening: [] };
};

for (const order of ['primary first', 'secondary first']) {
  run('bulk', tcp(1448), order);
  run('small', tcp(120), order);
  run('split', tcp(1448, 1000), order);
  run('udp', udp, order);
}
run('gso', tcp(60_000), 'primary first');
