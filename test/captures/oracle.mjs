/**
 * What must come of a capture, exactly. The guest's direction of every conversation is the primary's output; the secondary's is
 * derived from it (secondary.mjs). Undisturbed, every frame leaves unchanged and in the primary's order and nothing
 * diverges; with one byte of a stream flipped there is one divergence, at that offset, and nothing at or after it leaves
 * before a commit, which then lets everything go, unchanged and in order.
 */
import { Comparator, hasFlow } from '../../dist/compare/comparator.js';
import { DEFAULT_COMPARE_LIMITS } from '../../dist/compare/verdict.js';
import { FlowTable } from '../../dist/flow/flow-table.js';
import { flowText } from '../../dist/wire/addresses.js';
import { verifyL4Checksum } from '../../dist/wire/checksum.js';
import { FrameKind, FrameView } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';
import { seqAdd, seqDiff } from '../../dist/wire/sequence.js';
import { areWholeDatagrams, connectionsOf, identify } from './conversations.mjs';
import { secondaryOfDatagram, secondaryOfTcp } from './secondary.mjs';

/** Time between two captured frames, so that neighbours may overtake each other and no timer runs out. */
const FRAME_MS = 0.05;
const LAG_MS_MAX = 4;
/** A secondary that leads does so by at least this, which is more than its frames are jittered. */
const LEAD_MS_MIN = 2.5;
/**
 * Both VMs get this far before the next connection on the same ports, and before positions leap: between two frames that
 * were captured far apart the VMs would otherwise be half the sequence space apart.
 */
const PAUSE_MS = 20;
const LEAP_BYTES_MIN = 2 ** 26;
/** Longest frame any link carries; what is longer need not leave. */
const FRAME_BYTES_MAX = 65_550;
const TICK_MS = 1;
/** Longer than every hold timer. */
const QUIET_MS = 3000;
const QUIET_TICK_MS = 10;
const DATAGRAMS = new Set([FrameKind.UDP, FrameKind.ICMP, FrameKind.ICMPV6, FrameKind.IP_OTHER]);
const PROBLEMS_MAX = 20;

/**
 * @param {boolean} leads the secondary runs before the primary: then every frame must leave byte for byte. Else it may
 *   lag, and what the primary acknowledges or offers before the secondary does may be shown lowered, and in full later.
 * @param {boolean} heavier which direction plays the guest: the one with more payload, or the other
 * @param {boolean} flips one byte of every stream that can take it
 * @returns {{connections: number, segments: number, flipped: number, irregular: number, problems: string[]}}
 */
export function check(capture, random, { leads, heavier, flips }) {
  const run = new Run(capture, random, leads, heavier, flips);
  return run.outcome();
}

class Run {
  problems = [];
  #random;
  #comparator;
  #flows;
  #nowMs = 0;
  #view = new FrameView();
  #releasedView = new FrameView();
  /** By key: what the guest is still to show, and what is expected of the conversation. */
  #expected = new Map();
  #events = [];
  #committing = false;
  #leads;
  #segments = 0;
  #irregular = 0;

  constructor(capture, random, leads, heavier, flips) {
    this.#random = random;
    this.#leads = leads;
    this.#flows = new FlowTable({
      flowsMax: capture.conversations.length + 64,
      seed: random.between(0, 0xffffffff),
    });
    const limits = { ...DEFAULT_COMPARE_LIMITS, heldBytesMax: 64 * 1024 * 1024 };
    this.#comparator = new Comparator(this.#flows, limits, {
      release: (bytes, offset, length) => this.#released(bytes.subarray(offset, offset + length)),
      diverged: (divergence) => this.#diverged(divergence),
    });
    for (const frame of capture.frames) frame.atMs = LAG_MS_MAX + frame.index * FRAME_MS;
    for (const conversation of capture.conversations) this.#plan(conversation, heavier, flips);
    this.#play();
    this.#settle();
    this.#commit();
  }

  outcome() {
    const all = [...this.#expected.values()];
    return {
      connections: all.filter((one) => one.isChecked).length,
      segments: this.#segments,
      flipped: all.filter((one) => one.flip !== undefined).length,
      irregular: this.#irregular,
      problems: this.problems,
    };
  }

  #plan(conversation, heavier, flips) {
    const [backward, forward] = conversation.payloadBytes;
    const isForwardHeavier = forward >= backward;
    const guestIsForward = heavier ? isForwardHeavier : !isForwardHeavier;
    const guest = conversation.frames.filter((frame) => frame.isForward === guestIsForward);
    const isKeyed = conversation.key !== 'waived' && conversation.key !== 'uncomparable';
    if (isKeyed && guest.length === 0) return;
    const plan = {
      key: conversation.key,
      kind: conversation.kind,
      flow: '',
      waiting: [],
      position: 0,
      divergences: [],
      isChecked: isKeyed && guest.some((frame) => frame.payloadBytes > 0),
      /** Nothing is said about when its frames leave, only that they do so unchanged, in order, once at most. */
      isLoose:
        conversation.key === 'uncomparable' ||
        (conversation.kind === FrameKind.FRAGMENT && !areWholeDatagrams(guest)),
      isWaived: conversation.key === 'waived',
      mayStay: guest.some((frame) => frame.bytes.length > FRAME_BYTES_MAX),
      flip: undefined,
      /** What each VM has said of its receiving side, and what the client was shown of it. */
      primary: new Shown(),
      secondary: new Shown(),
      shown: new Shown(),
    };
    this.#expected.set(conversation.key, plan);
    if (conversation.kind === FrameKind.TCP) this.#pause(conversation, guest);
    for (const frame of guest) this.#at(frame.atMs, 'primary', frame.bytes);
    for (const frame of conversation.frames) {
      if (frame.isForward !== guestIsForward) this.#at(frame.atMs + 2 * LAG_MS_MAX, 'client', frame.bytes);
    }
    if (conversation.kind === FrameKind.TCP) this.#planTcp(plan, guest, flips);
    else this.#planOther(plan, guest, flips);
    plan.waiting = guest;
    this.#segments += guest.length;
    if (isKeyed) plan.flow = this.#flowText(guest[0].bytes);
  }

  #pause(conversation, guest) {
    const pauses = new Set();
    let previous;
    for (const { frames } of connectionsOf(guest)) {
      for (const frame of frames) {
        const begins = previous !== undefined && frame === frames[0];
        if (begins || (previous !== undefined && isLeap(previous, frame))) pauses.add(frame);
        previous = frame;
      }
    }
    let pausedMs = 0;
    for (const frame of conversation.frames) {
      if (pauses.has(frame)) pausedMs += PAUSE_MS;
      frame.atMs += pausedMs;
    }
  }

  #lagMs() {
    if (this.#leads) return -LEAD_MS_MIN - this.#random.next() * (LAG_MS_MAX - LEAD_MS_MIN);
    return (this.#random.next() * 2 - 1) * LAG_MS_MAX;
  }

  #planTcp(plan, guest, flips) {
    const connections = connectionsOf(guest);
    const irregular = connections.find((one) => one.irregularity !== undefined);
    if (irregular !== undefined) {
      plan.isLoose = true;
      this.#irregular++;
    }
    if (flips && !plan.isLoose) plan.flip = this.#chooseFlip(connections[0]);
    for (const connection of connections) {
      const lagMs = this.#lagMs();
      const flip = connection === connections[0] ? plan.flip : undefined;
      for (const { atMs, bytes } of secondaryOfTcp(connection, this.#random, lagMs, !this.#leads, flip)) {
        this.#at(atMs, 'secondary', bytes);
      }
    }
  }

  /** A byte that is new when its segment is sent, so that nobody can have seen it before. */
  #chooseFlip(connection) {
    const { frames } = connection;
    const syn = connection.hasSyn ? 1 : 0;
    const base = seqAdd(frames[0].seq, syn);
    let end = base;
    const candidates = [];
    for (const frame of frames) {
      const isSyn = (frame.flags & 2) !== 0;
      if (frame.payloadBytes > 0 && !isSyn && seqDiff(frame.seq, end) >= 0) candidates.push(frame);
      const frameEnd = seqAdd(frame.seq, frame.seqLength);
      if (seqDiff(frameEnd, end) > 0 && (frame.flags & 4) === 0) end = frameEnd;
    }
    if (candidates.length === 0) return undefined;
    const frame = candidates[this.#random.between(0, candidates.length - 1)];
    const seq = seqAdd(frame.seq, this.#random.between(0, frame.payloadBytes - 1));
    return { seq, mask: this.#random.between(1, 255), offset: seqDiff(seq, base) >>> 0, frame };
  }

  #planOther(plan, guest, flips) {
    if (flips && DATAGRAMS.has(plan.kind)) plan.flip = this.#chooseDatagram(guest);
    for (const frame of guest) {
      if (frame.kind === FrameKind.MALFORMED || !frame.isIp) continue;
      const lagMs = this.#lagMs();
      const flip = plan.flip?.frame === frame ? plan.flip : undefined;
      this.#at(frame.atMs + lagMs, 'secondary', secondaryOfDatagram(frame, this.#random, flip));
    }
  }

  /** A datagram whose content no other of its flow has, before or after the flip. */
  #chooseDatagram(guest) {
    const contents = new Map();
    for (const frame of guest) {
      const content = frame.bytes.toString('latin1', frame.payloadAt, frame.payloadAt + frame.payloadBytes);
      contents.set(content, (contents.get(content) ?? 0) + 1);
      frame.content = content;
    }
    const isError = (frame) => frame.icmpType >= 0 && frame.kind !== FrameKind.IP_OTHER && !isEcho(frame);
    const candidates = guest.filter(
      (frame) => frame.payloadBytes > 0 && contents.get(frame.content) === 1 && !isError(frame),
    );
    if (candidates.length === 0) return undefined;
    const frame = candidates[this.#random.between(0, candidates.length - 1)];
    const at = this.#random.between(0, frame.payloadBytes - 1);
    const mask = this.#random.between(1, 255);
    const flipped = Buffer.from(frame.content, 'latin1');
    flipped[at] ^= mask;
    if (contents.has(flipped.toString('latin1'))) return undefined;
    // of ICMP the four bytes after the checksum count as well
    return { at, mask, offset: at + (frame.icmpType >= 0 ? 4 : 0), frame };
  }

  #at(atMs, side, bytes) {
    this.#events.push({ atMs, side, bytes, order: this.#events.length });
  }

  #play() {
    this.#events.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
    let tickMs = 0;
    for (const event of this.#events) {
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      if (this.#nowMs - tickMs >= TICK_MS) {
        tickMs = this.#nowMs;
        this.#comparator.tick(this.#nowMs);
      }
      this.#feed(event.side, Buffer.from(event.bytes));
    }
  }

  #feed(side, bytes) {
    const view = this.#view;
    parseFrame(bytes, 0, bytes.length, 0, view);
    if (side === 'client') {
      this.#comparator.fromClient(view, hasFlow(view) ? this.#flows.find(view, true) : -1, this.#nowMs);
      return;
    }
    const flow = hasFlow(view) ? this.#flows.findOrAdd(view, false, this.#nowMs) : -1;
    if (view.kind === FrameKind.TCP) this.#expected.get(identify(view).key)[side].add(view);
    if (side === 'primary') this.#comparator.primary(view, flow, this.#nowMs);
    else this.#comparator.secondary(view, flow, this.#nowMs);
  }

  #settle() {
    const endMs = this.#nowMs + QUIET_MS;
    for (; this.#nowMs < endMs; this.#nowMs += QUIET_TICK_MS) this.#comparator.tick(this.#nowMs);
    for (const plan of this.#expected.values()) {
      if (plan.isLoose || plan.mayStay) continue;
      const left = plan.waiting.length - plan.position;
      if (plan.flip === undefined) {
        if (left > 0) this.#problem(plan, `${left} of ${plan.waiting.length} frames did not leave`);
        for (const one of plan.divergences) this.#problem(plan, `diverged: ${one.reason} at ${one.offset}`);
        const owed = plan.shown.difference(plan.primary);
        if (owed !== undefined) this.#problem(plan, owed);
        continue;
      }
      const [divergence] = plan.divergences;
      if (plan.divergences.length !== 1)
        this.#problem(plan, `${plan.divergences.length} divergences for one flip`);
      else if (divergence.reason !== 'payload' || divergence.offset !== plan.flip.offset) {
        const where = `${divergence.reason} at ${divergence.offset}`;
        this.#problem(plan, `flipped at ${plan.flip.offset}, diverged: ${where}`);
      }
      const next = plan.waiting[plan.position];
      if (next !== plan.flip.frame) {
        this.#problem(plan, `stopped at frame ${next?.index}, the flip is in ${plan.flip.frame.index}`);
      }
    }
  }

  #commit() {
    this.#committing = true;
    this.#comparator.commit(this.#nowMs);
    for (const plan of this.#expected.values()) {
      const left = plan.waiting.length - plan.position;
      if (left > 0 && !plan.mayStay) this.#problem(plan, `${left} frames did not leave at the commit`);
    }
    const { heldFrames, heldBytes, keptFrames, keptBytes } = this.#comparator;
    if (heldFrames + heldBytes + keptFrames + keptBytes !== 0) {
      this.problems.push(`after the commit ${heldFrames} frames are held and ${keptFrames} kept`);
    }
  }

  #released(bytes) {
    const view = this.#releasedView;
    parseFrame(bytes, 0, bytes.length, 0, view);
    const plan = this.#expected.get(identify(view).key);
    if (plan === undefined) {
      this.problems.push(`a frame left that nobody sent: ${flowText(view, false)}`);
      return;
    }
    const mustWait = plan.key === 'uncomparable' || plan.divergences.length > 0;
    if (mustWait && !this.#committing) this.#problem(plan, 'a frame left before the commit');
    const trouble = this.#place(plan, view, bytes);
    if (trouble !== undefined) this.#problem(plan, trouble);
    if (view.kind !== FrameKind.TCP) return;
    if (!this.#committing && !plan.secondary.covers(view)) {
      this.#problem(plan, `shows more than the secondary has: ack ${view.ack}, window ${view.window}`);
    }
    plan.shown.add(view);
  }

  /** Is it the next frame of the primary, or one that shows now what was held back before? */
  #place(plan, view, bytes) {
    let position = plan.position;
    if (plan.mayStay) {
      while (position < plan.waiting.length && !plan.waiting[position].bytes.equals(bytes)) position++;
    }
    const original = plan.waiting[position];
    const isExact = original?.bytes.equals(bytes) === true;
    if (isExact || (original?.hasSack && isSameBut(original, bytes, original.l4 + 16))) {
      plan.position = position + 1;
      return undefined;
    }
    if (this.#leads || view.kind !== FrameKind.TCP) return `frame ${original?.index} left changed`;
    if (!verifyL4Checksum(view) && !(original !== undefined && this.#cameBroken(original))) {
      return `frame ${original?.index} left with a wrong checksum`;
    }
    if (original !== undefined && isSameBut(original, bytes, original.l4 + 8)) {
      plan.position++;
      if (seqDiff(view.ack, original.ack) > 0) return `frame ${original.index} left with a higher ack`;
      return plan.shown.retreats(view) ? `frame ${original.index} takes back what was shown` : undefined;
    }
    const isPureAck = view.payloadBytes === 0 && (view.tcpFlags & 7) === 0;
    return isPureAck ? undefined : `a frame left that nobody sent, instead of frame ${original?.index}`;
  }

  /** Captured on the sender's own machine, before its card completed the checksum. */
  #cameBroken(original) {
    const view = new FrameView();
    parseFrame(original.bytes, 0, original.bytes.length, 0, view);
    return !verifyL4Checksum(view);
  }

  #diverged(divergence) {
    for (const plan of this.#expected.values()) {
      if (plan.flow === divergence.flow) {
        plan.divergences.push(divergence);
        return;
      }
    }
    const uncomparable = this.#expected.get('uncomparable');
    if (divergence.reason === 'unknown') return;
    if (uncomparable === undefined) this.problems.push(`a divergence of no flow: ${divergence.flow}`);
  }

  #flowText(bytes) {
    parseFrame(bytes, 0, bytes.length, 0, this.#view);
    return flowText(this.#view, false);
  }

  #problem(plan, text) {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(`${plan.flow || plan.key}: ${text}`);
  }
}

function isLeap(previous, frame) {
  const hasAcks = (previous.flags & frame.flags & 0x10) !== 0;
  const ackBytes = hasAcks ? Math.abs(seqDiff(frame.ack, previous.ack)) : 0;
  return Math.max(ackBytes, Math.abs(seqDiff(frame.seq, previous.seq))) >= LEAP_BYTES_MIN;
}

function isEcho(frame) {
  return frame.kind === FrameKind.ICMP
    ? frame.icmpType === 8 || frame.icmpType === 0
    : frame.icmpType >> 1 === 64;
}

/**
 * Is the frame the same up to what may be lowered: acknowledgement and window (from `lowered` on), checksum and SACK, which
 * is advice that may be held back (RFC 2018 section 8)?
 */
function isSameBut(original, bytes, lowered) {
  const { l4, payloadAt } = original;
  return (
    bytes.length === original.bytes.length &&
    bytes.subarray(0, lowered).equals(original.bytes.subarray(0, lowered)) &&
    bytes.subarray(l4 + 12, l4 + 14).equals(original.bytes.subarray(l4 + 12, l4 + 14)) &&
    bytes.subarray(payloadAt).equals(original.bytes.subarray(payloadAt))
  );
}

/** The furthest acknowledgement and right edge that a stream of segments has shown. */
class Shown {
  #ack;
  #edge;
  #scale = 0;

  add(view) {
    if ((view.tcpFlags & 2) !== 0) {
      this.#ack = undefined;
      this.#edge = undefined;
      this.#scale = Math.max(0, view.windowScale);
    }
    if ((view.tcpFlags & 0x10) === 0) return;
    if (this.#ack === undefined || seqDiff(view.ack, this.#ack) > 0) this.#ack = view.ack;
    // a RST offers nothing
    if ((view.tcpFlags & 4) !== 0) return;
    const edge = this.#edgeOf(view);
    if (this.#edge === undefined || seqDiff(edge, this.#edge) > 0) this.#edge = edge;
  }

  /** Would the segment, a lowered one, move the acknowledgement back? */
  retreats(view) {
    return this.#ack !== undefined && (view.tcpFlags & 2) === 0 && seqDiff(view.ack, this.#ack) < 0;
  }

  /** Does the segment acknowledge and offer no more than this? */
  covers(view) {
    if ((view.tcpFlags & 0x10) === 0) return true;
    if (this.#ack === undefined || seqDiff(view.ack, this.#ack) > 0) return false;
    return (view.tcpFlags & 4) !== 0 || seqDiff(this.#edgeOf(view), this.#edge) <= 0;
  }

  #edgeOf(view) {
    const scale = (view.tcpFlags & 2) !== 0 ? 0 : this.#scale;
    return seqAdd(view.ack, view.window * 2 ** scale);
  }

  /** What was held back for good compared with what was said, or undefined. */
  difference(said) {
    if (said === undefined || said.#ack === undefined) return undefined;
    if (seqDiff(said.#ack, this.#ack) > 0) return `ack ${said.#ack} was never shown, only ${this.#ack}`;
    if (said.#edge === undefined) return undefined;
    // rounding by the window scale may cost less than one unit
    const missing = seqDiff(said.#edge, this.#edge);
    return missing >= 2 ** this.#scale
      ? `the last ${missing} bytes of the window were never offered`
      : undefined;
  }
}
