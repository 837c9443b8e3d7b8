/** A flow table as plain data, for a successor process. Every part survives a structured clone. */
import { FLOW_KEY_WORDS } from '../wire/flow-key.js';
import { type FlowState, SACK_BLOCKS_KEPT } from './flow-state.js';
import type { FlowTable } from './flow-table.js';

export interface FlowSnapshot {
  /** FLOW_KEY_WORDS words a flow. */
  readonly keys: Int32Array;
  readonly touchedAtMs: Float64Array;
  /** By name in FlowState; as many words a flow as there. */
  readonly columns: Readonly<Record<string, Int32Array>>;
}

/** What is told otherwise, lies outside of the table, or has no meaning in another process. */
const LOCAL_COLUMNS: ReadonlySet<string> = new Set<keyof FlowState>([
  'key',
  'hash',
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
const COLUMN_WORDS: Readonly<Record<string, number>> = {
  sackSecondary: SACK_BLOCKS_KEPT * 2,
} satisfies Partial<Record<keyof FlowState, number>>;

function columnsOf(state: FlowState): [name: string, column: Int32Array, words: number][] {
  return Object.entries(state)
    .filter((entry): entry is [string, Int32Array] => entry[1] instanceof Int32Array)
    .filter(([name]) => !LOCAL_COLUMNS.has(name))
    .map(([name, column]) => [name, column, COLUMN_WORDS[name] ?? 1]);
}

function slotsOf(flows: FlowTable): number[] {
  const slots: number[] = [];
  for (let slot = flows.next(-1); slot !== -1; slot = flows.next(slot)) slots.push(slot);
  return slots;
}

/** Of a table of which nothing is held. */
export function saveFlows(flows: FlowTable): FlowSnapshot {
  const { state } = flows;
  const slots = slotsOf(flows);
  const columns: Record<string, Int32Array> = {};
  for (const [name, column, words] of columnsOf(state)) columns[name] = gather(slots, column, words);
  return {
    keys: gather(slots, state.key, FLOW_KEY_WORDS),
    touchedAtMs: Float64Array.from(slots, (slot) => state.touchedAtMs(slot)),
    columns,
  };
}

function gather(slots: readonly number[], column: Int32Array, words: number): Int32Array {
  const saved = new Int32Array(slots.length * words);
  let at = 0;
  for (const slot of slots) {
    for (let word = 0; word < words; word += 1) saved[at + word] = column[slot + word]!;
    at += words;
  }
  return saved;
}

/**
 * In place of what the table holds; it has seen no frame. Columns that only one of the two versions knows are left as they begin. Returns how
 * many flows found room.
 * @param shiftMs what the new clock shows more than the old one
 */
export function loadFlows(flows: FlowTable, snapshot: FlowSnapshot, shiftMs: number): number {
  const { keys, touchedAtMs, columns } = snapshot;
  flows.clear();
  const wanted = keys.length / FLOW_KEY_WORDS;
  let count = 0;
  while (count < wanted) {
    const key = keys.subarray(count * FLOW_KEY_WORDS, (count + 1) * FLOW_KEY_WORDS);
    if (flows.findOrAddKey(key, 0) === -1) break;
    count++;
  }
  const slots = slotsOf(flows); // an empty table gives its slots out in order
  for (const [index, slot] of slots.entries()) flows.state.touch(slot, touchedAtMs[index]! + shiftMs);
  for (const [name, column, words] of columnsOf(flows.state)) {
    const saved = columns[name];
    if (saved !== undefined) scatter(saved, slots, column, words);
  }
  return count;
}

function scatter(saved: Int32Array, slots: readonly number[], column: Int32Array, words: number): void {
  let at = 0;
  for (const slot of slots) {
    for (let word = 0; word < words; word += 1) column[slot + word] = saved[at + word]!;
    at += words;
  }
}
