/** A flow table as plain data, for a successor process. Every part survives a structured clone. */
import { FLOW_KEY_WORDS } from '../wire/flow-key.js';
import type { FlowState } from './flow-state.js';
import type { FlowTable } from './flow-table.js';

type Column = Int32Array | Uint16Array | Uint8Array | Float64Array;

export interface FlowSnapshot {
  /** FLOW_KEY_WORDS words a flow. */
  readonly keys: Int32Array;
  /** By name in FlowState; as many elements a flow as there. */
  readonly columns: Readonly<Record<string, Column>>;
}

/** What lies outside of the table, and has no meaning in another process. */
const LOCAL_COLUMNS: ReadonlySet<string> = new Set<keyof FlowState>([
  'primaryFirst',
  'primaryLast',
  'secondaryFirst',
  'secondaryLast',
  'ackFrameSecondary',
  'owedFrame',
  'heldBytes',
  'recordFirst',
  'recordLast',
  'rule',
]);

function columnsOf(state: FlowState): [name: string, column: Column][] {
  return Object.entries(state).filter(
    (entry): entry is [string, Column] => ArrayBuffer.isView(entry[1]) && !LOCAL_COLUMNS.has(entry[0]),
  );
}

/** Of a table of which nothing is held. */
export function saveFlows(flows: FlowTable): FlowSnapshot {
  const slots: number[] = [];
  for (let slot = 0; slot < flows.slotsUsed; slot++) if (flows.isLive(slot)) slots.push(slot);
  const keys = new Int32Array(slots.length * FLOW_KEY_WORDS);
  for (const [index, slot] of slots.entries()) keys.set(flows.keyOf(slot), index * FLOW_KEY_WORDS);
  const runs = runsOf(slots);
  const columns: Record<string, Column> = {};
  for (const [name, column] of columnsOf(flows.state)) {
    const width = column.length / flows.flowsMax;
    const saved = new (column.constructor as new (length: number) => Column)(slots.length * width);
    for (const { first, count, at } of runs) {
      saved.set(column.subarray(first * width, (first + count) * width), at * width);
    }
    columns[name] = saved;
  }
  return { keys, columns };
}

/** Slots in a row, which are copied at once. `at`: before them in the list. */
function runsOf(slots: readonly number[]): { first: number; count: number; at: number }[] {
  const runs: { first: number; count: number; at: number }[] = [];
  for (const [at, slot] of slots.entries()) {
    const run = runs.at(-1);
    if (run !== undefined && run.first + run.count === slot) run.count++;
    else runs.push({ first: slot, count: 1, at });
  }
  return runs;
}

/**
 * In place of what the table holds; it has seen no frame. Columns that only one of the two versions knows are left as they begin. Returns how
 * many flows found room.
 * @param shiftMs what the new clock shows more than the old one
 */
export function loadFlows(flows: FlowTable, { keys, columns }: FlowSnapshot, shiftMs: number): number {
  flows.clear();
  const wanted = keys.length / FLOW_KEY_WORDS;
  let count = 0;
  while (count < wanted) {
    const key = keys.subarray(count * FLOW_KEY_WORDS, (count + 1) * FLOW_KEY_WORDS);
    if (flows.findOrAddKey(key, 0) === -1) break; // an empty table gives its slots out in order
    count++;
  }
  for (const [name, column] of columnsOf(flows.state)) {
    const width = column.length / flows.flowsMax;
    const saved = columns[name];
    if (saved !== undefined) column.set(saved.subarray(0, count * width));
  }
  const { touchedAtMs } = flows.state;
  for (let slot = 0; slot < count; slot++) touchedAtMs[slot] = touchedAtMs[slot]! + shiftMs;
  return count;
}
