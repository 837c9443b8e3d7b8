/**
 * From a capture to conversations: every frame belongs to one, and every conversation has a direction that plays the
 * guest (the primary's output) and one that plays the client.
 */
import { FLOW_KEY_WORDS, writeFlowKey } from '../../dist/wire/flow-key.js';
import { fragmentId, fragmentOffset, hasMoreFragments } from '../../dist/wire/fragment.js';
import { FrameKind, FrameView, TcpFlag } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';

const KEYED = new Set([
  FrameKind.TCP,
  FrameKind.UDP,
  FrameKind.ICMP,
  FrameKind.ICMPV6,
  FrameKind.IP_OTHER,
  FrameKind.FRAGMENT,
]);
const WAIVED = new Set([FrameKind.ARP, FrameKind.ND, FrameKind.GROUP_MEMBERSHIP, FrameKind.LINK_CONTROL]);

/** Pieces of one datagram that are put together at most (src/compare/reassembly.ts). */
const FRAGMENTS_MAX = 160;

const words = [new Int32Array(FLOW_KEY_WORDS), new Int32Array(FLOW_KEY_WORDS)];

/** The key of the frame's flow, the same for both directions, and which direction this is. */
export function identify(view) {
  if (WAIVED.has(view.kind)) return { key: 'waived', isForward: true };
  if (!KEYED.has(view.kind)) return { key: 'uncomparable', isForward: true };
  writeFlowKey(view, false, words[0], 0);
  writeFlowKey(view, true, words[1], 0);
  const forward = words[0].join();
  const backward = words[1].join();
  return forward <= backward ? { key: forward, isForward: true } : { key: backward, isForward: false };
}

/** What the rest of the test needs of a frame, taken out of its view once. */
function describe(bytes, view, index) {
  const { key, isForward } = identify(view);
  const isTcp = view.kind === FrameKind.TCP;
  return {
    index,
    bytes,
    key,
    isForward,
    kind: view.kind,
    isIp: view.ipVersion !== 0,
    payloadAt: view.payload,
    payloadBytes: view.payloadBytes,
    l3: view.l3,
    ipVersion: view.ipVersion,
    l4: view.l4,
    icmpType: view.icmpType,
    seq: isTcp ? view.seq : 0,
    seqLength: isTcp ? view.seqLength() : 0,
    ack: view.ack,
    flags: isTcp ? view.tcpFlags : 0,
    window: view.window,
    windowScale: view.windowScale,
    timestampAt: view.timestamp,
    hasSack: view.sackBlocks > 0,
    fragment:
      view.kind === FrameKind.FRAGMENT
        ? { id: fragmentId(view), offset: fragmentOffset(view), more: hasMoreFragments(view) }
        : undefined,
  };
}

/** A frame that was captured in part is completed with zeros, so that it is what its headers say. */
function wholeFrame(captured) {
  const missing = Math.min(captured.wireBytes, 65_600) - captured.bytes.length;
  return missing > 0 ? Buffer.concat([captured.bytes, Buffer.alloc(missing)]) : captured.bytes;
}

/**
 * All frames of a capture in order, and its conversations by key.
 * @param {{bytes: Buffer, wireBytes: number}[]} captured Ethernet frames
 */
export function readConversations(captured) {
  const view = new FrameView();
  const conversations = new Map();
  const frames = captured.map((one, index) => {
    const bytes = wholeFrame(one);
    parseFrame(bytes, 0, bytes.length, 0, view);
    const frame = describe(bytes, view, index);
    let conversation = conversations.get(frame.key);
    if (conversation === undefined) {
      conversation = { key: frame.key, kind: frame.kind, frames: [], payloadBytes: [0, 0] };
      conversations.set(frame.key, conversation);
    }
    conversation.frames.push(frame);
    conversation.payloadBytes[frame.isForward ? 1 : 0] += frame.payloadBytes;
    return frame;
  });
  return { frames, conversations: [...conversations.values()] };
}

/**
 * Do these fragments make whole datagrams, without overlap, each ended before its identification comes round again? Else
 * some of them rightly wait for a checkpoint, and the oracle asks only for safety.
 */
export function areWholeDatagrams(fragments) {
  const open = new Map();
  for (const { fragment, payloadBytes } of fragments) {
    const pieces = open.get(fragment.id) ?? [];
    pieces.push({ from: fragment.offset, to: fragment.offset + payloadBytes, more: fragment.more });
    pieces.sort((a, b) => a.from - b.from);
    const isChain = pieces.every((piece, index) => piece.from === (index === 0 ? 0 : pieces[index - 1].to));
    const isEnded = pieces.every((piece, index) => piece.more === index < pieces.length - 1);
    if (isChain && isEnded) open.delete(fragment.id);
    else open.set(fragment.id, pieces);
    if (pieces.length > FRAGMENTS_MAX) return false;
  }
  return open.size === 0;
}

/** Is there anything in it that comparing is about? */
export function hasIpPayload({ frames }) {
  return frames.some((frame) => (frame.isIp && frame.payloadBytes > 0) || isHiddenIp(frame));
}

/** IP that is broken or lies below more VLAN tags than are read: it must not get through uncompared either. */
function isHiddenIp(frame) {
  if (frame.kind !== FrameKind.MALFORMED && frame.kind !== FrameKind.OTHER) return false;
  const { bytes } = frame;
  for (let at = 12; at + 22 < bytes.length; at += 4) {
    const etherType = bytes.readUInt16BE(at);
    if (etherType === 0x0800 || etherType === 0x86dd) return true;
    if (etherType !== 0x8100 && etherType !== 0x88a8 && etherType !== 0x9100) return false;
  }
  return false;
}

/**
 * The guest's frames of a conversation, cut where a SYN begins another connection on the same ports.
 * @returns {{frames: object[], hasSyn: boolean, irregularity: string | undefined}[]}
 */
export function connectionsOf(guestFrames) {
  const connections = [];
  let current;
  for (const frame of guestFrames) {
    const isSyn = (frame.flags & TcpFlag.SYN) !== 0;
    if (current === undefined || (isSyn && (!current.hasSyn || current.frames[0].seq !== frame.seq))) {
      current = { frames: [], hasSyn: isSyn, irregularity: undefined };
      connections.push(current);
    }
    current.frames.push(frame);
  }
  for (const connection of connections) connection.irregularity = irregularityOf(connection.frames);
  return connections;
}

/**
 * What makes a stream contradict itself, whoever compares it with what: the oracle then asks only for safety.
 */
function irregularityOf(frames) {
  const base = frames[0].seq;
  const seen = new Map();
  let finAt;
  let end = 0;
  for (const frame of frames) {
    const syn = (frame.flags >> 1) & 1;
    const from = ((frame.seq - base) | 0) + syn;
    for (let index = 0; index < frame.payloadBytes; index++) {
      const byte = frame.bytes[frame.payloadAt + index];
      const before = seen.get(from + index);
      if (before !== undefined && before !== byte) return 'bytes repeated with other content';
      seen.set(from + index, byte);
    }
    if (frame.payloadBytes > 0) end = Math.max(end, from + frame.payloadBytes);
    if ((frame.flags & TcpFlag.FIN) !== 0) {
      const at = from + frame.payloadBytes;
      if (finAt !== undefined && finAt !== at) return 'FINs at different positions';
      finAt = at;
    }
  }
  return finAt !== undefined && end > finAt ? 'data after the FIN' : undefined;
}
