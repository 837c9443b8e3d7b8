import type { DataPlane, Side } from '../dataplane/data-plane.js';
import { countClientTranslations } from '../flow/client-translations.js';
import { Histogram } from '../system/histogram.js';
import { formatIp, formatMac, formatVlan } from '../wire/addresses.js';
import type { Pair } from './pair.js';
import type { LinkStatus, PairStatus, PartStatus, WaiverStatus } from './status.js';

const SIDES: readonly Side[] = ['client', 'primary', 'secondary'];

/** Everything the pair tells about itself, as it is now; numbers are sums over all network interfaces. */
export function snapshot(pair: Pair, name: string): PairStatus {
  const { nics, coordinator, history, authority } = pair;
  const { planes, carrier } = nics;
  const sum = (read: (plane: DataPlane) => number): number =>
    planes.reduce((total, plane) => total + read(plane), 0);
  const sums = <K extends string>(
    read: (plane: DataPlane) => Readonly<Record<K, number>>,
  ): Record<K, number> => sumOfRecords(planes.map(read));
  return {
    name,
    state: pair.state,
    carrier: authority.isHeld && pair.stateProblem === '' ? carrier : 'none',
    generation: authority.mandate.generation,
    signs: pair.signs,
    copy: pair.protection.copy.progress,
    translatedConnections: sum(({ flows }) => countClientTranslations(flows)),
    phase: coordinator.phase,
    epoch: history.epoch,
    parts: parts(pair),
    links: planes.flatMap((plane, nic) => SIDES.map((side) => linkStatus(plane, nic, side))),
    heldFrames: sum(({ comparator }) => comparator.heldFrames),
    heldBytes: sum(({ comparator }) => comparator.heldBytes),
    lagMs: Math.max(...planes.map(({ comparator }) => comparator.lagMs)),
    holdMs: Math.max(...planes.map(({ comparator }) => comparator.holdMs)),
    gateClosed: planes.some((plane) => plane.gateClosed),
    gateFrames: sum(({ gate }) => gate.frames),
    gateBytes: sum(({ gate }) => gate.bytes),
    flows: sum(({ flows }) => flows.count),
    framesReleased: sums(({ counters }) => counters.framesReleased),
    bytesReleased: sums(({ counters }) => counters.bytesReleased),
    waivers: waivers(planes),
    drops: {
      ...sums(({ counters }) => counters.drops),
      'held-full': sum(({ comparator }) => comparator.unstorable[0]!),
    },
    divergences: sums(({ counters }) => counters.divergences),
    checkpoints: coordinator.stats.checkpoints,
    checkpointsFailed: coordinator.stats.checkpointsFailed,
    checkpointPlan: { ...coordinator.plan, adapted: coordinator.isAdapted },
    checkpointsPutOff: coordinator.stats.putOffs,
    framesMaybeLost: coordinator.stats.framesMaybeLost,
    signedUntranslated: sum(({ flows }) => flows.state.signedUntouched),
    fragmentsUntranslated: sum(({ flows }) => flows.state.fragmentsUntouched),
    dialect: pair.relay.dialect,
    syncPoints: pair.relay.syncPoints.seenByWord,
    failovers: history.failovers,
    ask: history.ask,
    request: history.request,
    pause: history.pause,
    releaseLatency: Histogram.sum(planes.map(({ counters }) => counters.releaseLatency)),
    lastCheckpoint: history.lastCheckpoint,
    lastDivergence: history.lastDivergence,
    evidence: pair.evidence.status(),
    guestAddresses: planes
      .flatMap(({ guest }) => guest.addresses)
      .map(
        ({ mac, ip, vlan }) =>
          `${formatIp(ip, 0, ip.length === 4 ? 4 : 6)} ${formatMac(mac)}${vlan === 0 ? '' : ` vlan ${formatVlan(vlan)}`}`,
      ),
  };
}

/** Link control, then the rules that waive, in the order of the configuration. */
function waivers(planes: readonly DataPlane[]): WaiverStatus[] {
  const total = (read: (plane: DataPlane) => Float64Array, index: number): number =>
    planes.reduce((sum, plane) => sum + read(plane)[index]!, 0);
  const status = (rule: string, why: string, index: number): WaiverStatus => ({
    rule,
    why,
    frames: total(({ comparator }) => comparator.waivedFrames, index),
    bytes: total(({ comparator }) => comparator.waivedBytes, index),
  });
  const { rules } = planes[0]!.comparator.rules;
  return [
    status('link-control', 'the primary speaks for both: ARP, neighbour discovery, IGMP, MLD, LLDP, STP', 0),
    ...rules.flatMap(({ action, why }, index) =>
      action === 'waive' ? [status(`${index + 1}`, why, index + 1)] : [],
    ),
  ];
}

function linkStatus(plane: DataPlane, nic: number, side: Side): LinkStatus {
  const { url, state, abilities, counters } = plane.links[side];
  return { nic, side, url, state, abilities, counters };
}

function sumOfRecords<K extends string>(records: readonly Readonly<Record<K, number>>[]): Record<K, number> {
  const total: Record<K, number> = { ...records[0]! };
  for (const record of records.slice(1)) {
    for (const key of Object.keys(record) as K[]) total[key] += record[key];
  }
  return total;
}

function parts(pair: Pair): PartStatus[] {
  const { authority } = pair;
  const { planes, carrier } = pair.nics;
  const list: PartStatus[] = planes.flatMap(({ links }, nic) =>
    SIDES.map((side) => ({
      name: nic === 0 ? `${side} link` : `${side} link ${nic}`,
      ready: links[side].state === 'up',
      detail: pair.linkProblem(links[side].url) || `${links[side].url} ${links[side].state}`,
    })),
  );
  for (const vm of Object.values(pair.vms)) {
    list.push({ name: `${vm.seat} qmp`, ready: vm.isConnected, detail: vm.detail });
  }
  const isProtected = pair.state === 'protected' || pair.state === 'checkpointing';
  if (authority.mandate.kind !== 'none') {
    const { kind, problem, generation } = authority.mandate;
    const detail = problem || `${kind}, generation ${generation}`;
    list.push({ name: 'arbiter', ready: authority.isHeld, detail });
  }
  for (const [name, problem] of [
    ['state file', pair.stateProblem],
    ['survivor', pair.protection.survivorProblem],
  ] as const) {
    if (problem !== '') list.push({ name, ready: false, detail: problem });
  }
  list.push({
    name: 'protection',
    ready: isProtected,
    detail: `${pair.state}, the ${carrier} carries the traffic`,
  });
  return list;
}
