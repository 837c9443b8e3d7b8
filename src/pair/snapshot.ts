import type { Side } from '../dataplane/data-plane.js';
import type { Link } from '../link/link.js';
import { formatIp, formatMac, formatVlan } from '../wire/addresses.js';
import type { Pair } from './pair.js';
import type { LinkStatus, PairStatus, PartStatus } from './status.js';

const SIDES: readonly Side[] = ['client', 'primary', 'secondary'];

/** Everything the pair tells about itself, as it is now. */
export function snapshot(pair: Pair, name: string, links: Readonly<Record<Side, Link>>): PairStatus {
  const { dataPlane, coordinator, history } = pair;
  const { counters, comparator } = dataPlane;
  const { carrier } = dataPlane;
  return {
    name,
    state: pair.state,
    carrier,
    phase: coordinator.phase,
    epoch: history.epoch,
    parts: parts(pair, links),
    links: SIDES.map((side) => linkStatus(side, links[side])),
    heldFrames: comparator.heldFrames,
    heldBytes: comparator.heldBytes,
    gateClosed: dataPlane.gateClosed,
    gateFrames: dataPlane.gate.frames,
    gateBytes: dataPlane.gate.bytes,
    flows: dataPlane.flows.count,
    framesReleased: counters.framesReleased,
    bytesReleased: counters.bytesReleased,
    drops: counters.drops,
    divergences: counters.divergences,
    checkpoints: coordinator.stats.checkpoints,
    checkpointsFailed: coordinator.stats.checkpointsFailed,
    checkpointPlan: { ...coordinator.plan, adapted: coordinator.isAdapted },
    checkpointsPutOff: coordinator.stats.putOffs,
    framesMaybeLost: coordinator.stats.framesMaybeLost,
    dialect: pair.relay.dialect,
    syncPoints: pair.relay.syncPoints.seenByWord,
    failovers: history.failovers,
    pause: history.pause,
    releaseLatency: counters.releaseLatency,
    lastCheckpoint: history.lastCheckpoint,
    lastDivergence: history.lastDivergence,
    evidence: pair.evidence.status(),
    guestAddresses: dataPlane.guest.addresses.map(
      ({ mac, ip, vlan }) =>
        `${formatIp(ip, 0, ip.length === 4 ? 4 : 6)} ${formatMac(mac)}${vlan === 0 ? '' : ` vlan ${formatVlan(vlan)}`}`,
    ),
  };
}

function linkStatus(side: Side, link: Link): LinkStatus {
  return { side, url: link.url, state: link.state, abilities: link.abilities, counters: link.counters };
}

function parts(pair: Pair, links: Readonly<Record<Side, Link>>): PartStatus[] {
  const { carrier } = pair.dataPlane;
  const list: PartStatus[] = SIDES.map((side) => ({
    name: `${side} link`,
    ready: links[side].state === 'up',
    detail: pair.linkProblem(side) || `${links[side].url} ${links[side].state}`,
  }));
  for (const vm of [pair.primary, pair.secondary]) {
    list.push({ name: `${vm.role} qmp`, ready: vm.isConnected, detail: vm.detail });
  }
  const isProtected = pair.state === 'protected' || pair.state === 'checkpointing';
  list.push({
    name: 'protection',
    ready: isProtected,
    detail: `${pair.state}, the ${carrier} carries the traffic`,
  });
  return list;
}
