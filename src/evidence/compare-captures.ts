/**
 * Two plain captures of the same time, one taken at each VM's interface, run through the comparator: frames from the
 * guest are that VM's output, frames to it in the primary's capture are the clients'.
 */
import { Comparator } from '../compare/comparator.js';
import { DEFAULT_COMPARE_LIMITS } from '../compare/verdict.js';
import { ColoError } from '../errors.js';
import { FlowTable } from '../flow/flow-table.js';
import { formatIp } from '../wire/addresses.js';
import { type CapturedFrame, LINK_TYPE_ETHERNET } from '../wire/capture.js';
import { FrameKind, FrameView, TcpFlag } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { type Explanation, explain } from './explain.js';
import { inOrder, merged } from './in-order.js';

const TICK_MS = 5;
/** After the last frame, so that what waits runs out of time. */
const TAIL_MS = 2 * DEFAULT_COMPARE_LIMITS.holdMsMax;
/** Explained; beyond it they are counted. */
const DIVERGENCES_KEPT_MAX = 1000;

/** Begins to read a capture from its beginning: it may be larger than the memory. */
export type OpenCapture = () => Iterable<CapturedFrame>;

export interface CaptureComparison {
  readonly guest: string;
  readonly frames: { readonly client: number; readonly primary: number; readonly secondary: number };
  readonly released: Readonly<Record<string, number>>;
  /** Frames of the primary that nothing of the secondary matched. */
  readonly held: number;
  /** All of them. */
  readonly divergenceCount: number;
  /** The first thousand. */
  readonly divergences: readonly Explanation[];
}

type Source = 'client' | 'primary' | 'secondary';

interface Timed {
  readonly source: Source;
  readonly frame: CapturedFrame;
}

/** `guest`: its IP address; told from who answers SYNs unless given. Throws COLO_ERR_USAGE, COLO_ERR_CAPTURE. */
export function compareCaptures(
  primary: OpenCapture,
  secondary: OpenCapture,
  guest?: string,
): CaptureComparison {
  const own = guest ?? guestOf(primary()) ?? guestOf(secondary());
  if (own === undefined) {
    throw new ColoError(
      'COLO_ERR_USAGE',
      'no TCP connection tells who the guest is: name it with --guest ADDRESS',
    );
  }
  const limits = DEFAULT_COMPARE_LIMITS;
  const flows = new FlowTable({ flowsMax: limits.flowsMax, seed: 1 });
  const released: Record<string, number> = {};
  const divergences: Explanation[] = [];
  let divergenceCount = 0;
  const comparator = new Comparator(flows, limits, {
    release: (_bytes, _offset, _length, _vnet, _flow, reason) => {
      released[reason] = (released[reason] ?? 0) + 1;
    },
    diverged: (divergence, frames) => {
      divergenceCount++;
      if (divergences.length < DIVERGENCES_KEPT_MAX) divergences.push(explain(divergence, frames()));
    },
  });
  const counts = { client: 0, primary: 0, secondary: 0 };
  const view = new FrameView();
  let startMs: number | undefined;
  let nowMs = 0;
  const passTo = (untilMs: number): void => {
    while (nowMs + TICK_MS <= untilMs) {
      nowMs += TICK_MS;
      comparator.tick(nowMs);
      // a capture may have long quiet stretches: nothing waits, nothing runs out of time
      if (comparator.heldFrames + comparator.keptFrames === 0) nowMs = Math.max(nowMs, untilMs - TICK_MS);
    }
    nowMs = Math.max(nowMs, untilMs);
  };
  const timed = merged(
    inOrder(primary()),
    (frame) => sourced(frame, 'primary', own),
    inOrder(secondary()),
    (frame) => sourced(frame, 'secondary', own),
  );
  for (const one of timed) {
    if (one === undefined) continue;
    const { source, frame } = one;
    startMs ??= frame.atMs;
    passTo(frame.atMs - startMs);
    counts[source]++;
    const bytes = Buffer.from(frame.bytes);
    parseFrame(bytes, 0, bytes.length, 0, view);
    if (source === 'client') comparator.fromClient(view, comparator.flowFromClient(view, nowMs), nowMs);
    else if (source === 'primary') comparator.primary(view, flows.findOrAdd(view, false, nowMs), nowMs);
    else comparator.secondary(view, flows.findOrAdd(view, false, nowMs), nowMs);
  }
  passTo(nowMs + TAIL_MS);
  return { guest: own, frames: counts, released, held: comparator.heldFrames, divergenceCount, divergences };
}

/** Whose frame it is; undefined when it is not the guest's, or in the secondary's capture not from it. */
function sourced(frame: CapturedFrame, vm: 'primary' | 'secondary', guest: string): Timed | undefined {
  const ends = addressesOf(frame);
  if (ends?.source === guest) return { source: vm, frame };
  return vm === 'primary' && ends?.destination === guest ? { source: 'client', frame } : undefined;
}

const scratch = new FrameView();

function addressesOf(frame: CapturedFrame): { source: string; destination: string } | undefined {
  if (frame.linkType !== LINK_TYPE_ETHERNET) return undefined;
  const view = scratch;
  const kind = parseFrame(frame.bytes, 0, frame.bytes.length, 0, view);
  if (kind === FrameKind.MALFORMED || view.ipVersion === 0) return undefined;
  const [first, second] = view.ipVersion === 4 ? [12, 16] : [8, 24];
  return {
    source: formatIp(frame.bytes, view.l3 + first!, view.ipVersion),
    destination: formatIp(frame.bytes, view.l3 + second!, view.ipVersion),
  };
}

/** Who answers a SYN: the guest serves. */
function guestOf(frames: Iterable<CapturedFrame>): string | undefined {
  const answered = TcpFlag.SYN | TcpFlag.ACK;
  for (const frame of frames) {
    const ends = addressesOf(frame);
    if (ends !== undefined && scratch.kind === FrameKind.TCP && (scratch.tcpFlags & answered) === answered) {
      return ends.source;
    }
  }
  return undefined;
}
