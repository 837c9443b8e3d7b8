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
  const columns: Record<string, Column> = {};
  for (const [name, column] of columnsOf(flows.state)) {
    const width = column.length / flows.flowsMax;
    const saved = new (column.constructor as new (length: number) => Column)(slots.length * width);
    for (const [index, slot] of slots.entries()) {
      saved.set(column.subarray(slot * width, (slot + 1) * width), index * width);
    }
    columns[name] = saved;
  }
  return { keys, columns };
}

/**
 * Into a table that has seen no frame. Columns that only one of the two versions knows are left as they begin. Returns how
 * many flows found room.
 * @param shiftMs what the new clock shows more than the old one
 */
export function loadFlows(flows: FlowTable, { keys, columns }: FlowSnapshot, shiftMs: number): number {
  const count = keys.length / FLOW_KEY_WORDS;
  const known = columnsOf(flows.state).filter(([name]) => columns[name] !== undefined);
  for (let index = 0; index < count; index++) {
    const key = keys.slice(index * FLOW_KEY_WORDS, (index + 1) * FLOW_KEY_WORDS);
    const slot = flows.findOrAddKey(key, 0);
    if (slot === -1) return index;
    for (const [name, column] of known) {
      const width = column.length / flows.flowsMax;
      column.set(columns[name]!.subarray(index * width, (index + 1) * width), slot * width);
    }
    flows.state.touchedAtMs[slot] = flows.state.touchedAtMs[slot]! + shiftMs;
  }
  return count;
}
