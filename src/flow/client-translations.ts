/** The client table as plain data, so that it can outlive the process (trap T7). */
import { FlowFlag } from './flow-state.js';
import type { FlowTable } from './flow-table.js';

/** Of one connection that lived through a failover; `key` as FlowTable.keyOf gives it. */
export interface ClientTranslation {
  readonly key: readonly number[];
  readonly seqDelta: number;
  readonly tsDelta: number;
  /** Highest TSval shown to the client, null for none. */
  readonly tsShown: number | null;
}

export function clientTranslations(flows: FlowTable): ClientTranslation[] {
  const { state } = flows;
  const kept: ClientTranslation[] = [];
  for (let slot = flows.next(-1); slot !== -1; slot = flows.next(slot)) {
    if (!flows.hasClientTranslation(slot)) continue;
    kept.push({
      key: [...flows.keyOf(slot)],
      seqDelta: state.clientSeqDelta[slot]!,
      tsDelta: state.clientTsDelta[slot]!,
      tsShown: state.has(slot, FlowFlag.TIMESTAMP_SHOWN) ? state.tsShown[slot]! : null,
    });
  }
  return kept;
}

/** How many of the connections are translated now; they end one by one. */
export function countClientTranslations(flows: FlowTable): number {
  let count = 0;
  for (let slot = flows.next(-1); slot !== -1; slot = flows.next(slot)) {
    if (flows.hasClientTranslation(slot)) count++;
  }
  return count;
}

/** Into a table that has seen no frame yet. Returns how many found room. */
export function restoreClientTranslations(
  flows: FlowTable,
  translations: readonly ClientTranslation[],
  nowMs: number,
): number {
  const { state } = flows;
  let restored = 0;
  for (const { key, seqDelta, tsDelta, tsShown } of translations) {
    const slot = flows.findOrAddKey(Int32Array.from(key), nowMs);
    if (slot === -1) break;
    state.clientSeqDelta[slot] = seqDelta;
    state.clientTsDelta[slot] = tsDelta;
    state.set(slot, FlowFlag.CLIENT_TRANSLATED);
    if (tsShown !== null) {
      state.tsShown[slot] = tsShown;
      state.set(slot, FlowFlag.TIMESTAMP_SHOWN);
    }
    restored++;
  }
  return restored;
}
