import { expect, it } from 'vitest';
import { loadFlows, saveFlows } from '../../../src/flow/flow-snapshot.js';
import { SLOT_WORDS } from '../../../src/flow/flow-state.js';
import { FlowTable } from '../../../src/flow/flow-table.js';
import { buildUdp } from '../../../src/wire/build.js';
import { FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

function viewOf(port: number): FrameView {
  const frame = buildUdp({
    source: '10.0.0.2',
    destination: '10.0.0.1',
    sourcePort: 53,
    destinationPort: port,
  });
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  return view;
}

/** Flows of these ports, of which some go again: their slots are free. */
function table(ports: readonly number[], removed: readonly number[], flowsMax = 64, seed = 7): FlowTable {
  const flows = new FlowTable({ flowsMax, seed });
  for (const port of ports) {
    const slot = flows.findOrAdd(viewOf(port), false, 1000 + port);
    flows.state.seqDelta[slot] = port * 3;
  }
  for (const port of removed) flows.remove(flows.find(viewOf(port), false));
  return flows;
}

const shown = (flows: FlowTable, ports: readonly number[]) =>
  ports.map((port) => {
    const slot = flows.find(viewOf(port), false);
    return slot === -1 ? null : [flows.state.seqDelta[slot], flows.state.touchedAtMs(slot)];
  });

const PORTS = Array.from({ length: 20 }, (_, index) => 100 + index);
const REMOVED = [100, 103, 104, 119];

it('flows go from table to table, with other slots and another hash', () => {
  const before = table(PORTS, REMOVED);
  const after = table([], [], 128, 8);
  expect(loadFlows(after, structuredClone(saveFlows(before)), 50)).toBe(16);
  expect(after.count).toBe(16);
  const expected = shown(before, PORTS).map((flow) => flow && [flow[0], flow[1]! + 50]);
  expect(shown(after, PORTS)).toEqual(expected);
  expect(expected.filter((flow) => flow === null).length).toBe(REMOVED.length);
});

it('what was loaded before is replaced', () => {
  const after = table([], []);
  loadFlows(after, saveFlows(table([1, 2, 3], [2])), 0);
  loadFlows(after, saveFlows(table([3, 4], [])), 0);
  expect(shown(after, [1, 2, 3, 4])).toEqual([null, null, [9, 1003], [12, 1004]]);
  expect(after.count).toBe(2);
  expect(after.findOrAdd(viewOf(5), false, 0)).toBe(2 * SLOT_WORDS); // and it goes on filling
  after.remove(2 * SLOT_WORDS);
  expect(shown(after, [3, 4, 5]).map((flow) => flow !== null)).toEqual([true, true, false]);
});

it('a smaller table takes what it has room for', () => {
  const after = table([], [], 4);
  expect(loadFlows(after, saveFlows(table(PORTS, [])), 0)).toBe(4);
  expect(shown(after, PORTS).filter((flow) => flow !== null)).toEqual([
    [300, 1100],
    [303, 1101],
    [306, 1102],
    [309, 1103],
  ]);
});
