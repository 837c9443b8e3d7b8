/**
 * The secondary's output, derived from the primary's: another initial sequence number, other timestamps, IP ids, TTLs,
 * windows and padding, cut into other segments, in another order, some of it twice. The streams are the same.
 */
import { writeIpv4Checksum, writeL4Checksum } from '../../dist/wire/checksum.js';
import { FrameKind, FrameView, TcpFlag } from '../../dist/wire/frame-view.js';
import { parseFrame } from '../../dist/wire/parse.js';
import { seqAdd, seqDiff } from '../../dist/wire/sequence.js';

const MERGED_BYTES_MAX = 8000;
const SEGMENT_BYTES_MAX = 1460;
const JITTER_MS = 2;
const WINDOW_MAX = 0xffff;
const BARRIER = TcpFlag.SYN | TcpFlag.RST;

/**
 * The frames of the secondary for the guest's frames of one TCP connection. Each frame of the primary has `atMs`.
 * @param lagMs how much later than the primary the secondary runs; may be negative
 * @param delaysAcks some data goes out with the acknowledgement before, the new one follows alone
 * @param flip `{seq, mask}`: the stream's byte at that position is another, or undefined
 * @returns {{atMs: number, bytes: Buffer}[]} in the order of time
 */
export function secondaryOfTcp(connection, random, lagMs, delaysAcks, flip) {
  const style = {
    random,
    flip,
    // without a SYN nobody could know the distance
    seqShift: connection.hasSyn ? random.between(0, 0xffffffff) : 0,
    stampShift: random.between(0, 0xffffffff),
    windows: new Windows(connection, random),
  };
  const emitted = [];
  let floorMs = -Infinity;
  let lastAck;
  const emit = (bytes, atMs, isBarrier) => {
    const at = Math.max(floorMs, atMs + lagMs + (isBarrier ? 0 : random.next() * JITTER_MS));
    emitted.push({ atMs: at, bytes });
    if (isBarrier) return;
    if (random.chance(0.1)) emitted.push({ atMs: at + random.next() * JITTER_MS, bytes });
  };
  for (const run of runsOf(connection.frames, random)) {
    const isBarrier = (run.flags & BARRIER) !== 0;
    // nothing of a guest overtakes its SYN or RST
    if (isBarrier) floorMs = Math.max(floorMs, ...emitted.map((one) => one.atMs));
    const { ack, atMs } = run.last;
    const isLate = delaysAcks && run.isPlain && lastAck !== undefined && random.chance(0.3);
    for (const piece of piecesOf(run, random)) {
      emit(rebuild(run, piece, isLate ? lastAck : ack, style), atMs, isBarrier);
    }
    if (isLate) {
      const end = { from: run.payload.length, to: run.payload.length, hasFin: false };
      emit(rebuild(run, end, ack, style), atMs + random.next() * JITTER_MS, false);
    }
    if (isBarrier) floorMs = Math.max(floorMs, emitted.at(-1).atMs);
    if ((run.flags & TcpFlag.ACK) !== 0) lastAck = ack;
  }
  return emitted.sort((a, b) => a.atMs - b.atMs);
}

/** Neighbouring segments of plain data, sometimes put together. */
function* runsOf(frames, random) {
  let run;
  for (const frame of frames) {
    const isPlain = (frame.flags & (BARRIER | TcpFlag.URG)) === 0 && frame.payloadBytes > 0;
    const follows =
      run?.isPlain === true &&
      isPlain &&
      (run.flags & TcpFlag.FIN) === 0 &&
      frame.seq === seqAdd(run.seq, run.payload.length) &&
      run.payload.length + frame.payloadBytes <= MERGED_BYTES_MAX &&
      frame.atMs - run.last.atMs < JITTER_MS &&
      random.chance(0.6);
    const payload = frame.bytes.subarray(frame.payloadAt, frame.payloadAt + frame.payloadBytes);
    if (follows) {
      run.payload = Buffer.concat([run.payload, payload]);
      run.flags |= frame.flags;
      run.last = frame;
    } else {
      if (run !== undefined) yield run;
      run = { isPlain, seq: frame.seq, payload, flags: frame.flags, last: frame };
    }
  }
  if (run !== undefined) yield run;
}

/** How a run is cut: `from` and `to` in its payload, and whether the piece carries the FIN. */
function piecesOf(run, random) {
  const { length } = run.payload;
  const hasFin = (run.flags & TcpFlag.FIN) !== 0;
  if (!run.isPlain) return [{ from: 0, to: length, hasFin }];
  const pieces = [];
  for (let from = 0; from < length; ) {
    const most = Math.min(SEGMENT_BYTES_MAX, length - from);
    const bytes = random.chance(0.5) ? most : random.between(Math.min(most, 1 + (most >> 3)), most);
    pieces.push({ from, to: from + bytes, hasFin: false });
    from += bytes;
  }
  if (hasFin && random.chance(0.5)) pieces.push({ from: length, to: length, hasFin: true });
  else pieces.at(-1).hasFin = hasFin;
  return pieces;
}

function rebuild(run, piece, ack, style) {
  const { last } = run;
  const payload = Buffer.from(run.payload.subarray(piece.from, piece.to));
  const syn = (run.flags >> 1) & 1;
  if (style.flip !== undefined) {
    const at = seqDiff(style.flip.seq, seqAdd(run.seq, syn + piece.from));
    if (at >= 0 && at < payload.length) payload[at] ^= style.flip.mask;
  }
  const bytes = withPayload(last, payload, style.random);
  const seq = seqAdd(run.seq, piece.from);
  // a RST that answers no connection says 0 whatever the stream
  const keepsSeq = (last.flags & TcpFlag.RST) !== 0 && seq === 0;
  bytes.writeUInt32BE(keepsSeq ? 0 : seqAdd(seq, style.seqShift), last.l4 + 4);
  bytes.writeUInt32BE(ack, last.l4 + 8);
  if (!piece.hasFin) bytes[last.l4 + 13] &= ~TcpFlag.FIN;
  bytes.writeUInt16BE(style.windows.of(last), last.l4 + 14);
  if (last.timestampAt !== 0) {
    bytes.writeUInt32BE(seqAdd(bytes.readUInt32BE(last.timestampAt), style.stampShift), last.timestampAt);
  }
  return finished(bytes);
}

/** Windows never narrower than what the primary has offered so far: a narrower one would rightly be passed on. */
class Windows {
  #random;
  #scale;
  #edge;

  constructor(connection, random) {
    this.#random = random;
    const syn = connection.hasSyn ? connection.frames[0] : undefined;
    // an unknown scale, or one the other side may refuse
    this.#scale = syn === undefined ? -1 : Math.max(0, syn.windowScale);
  }

  of(frame) {
    if (this.#scale !== 0 || (frame.flags & TcpFlag.RST) !== 0) return WINDOW_MAX;
    const edge = seqAdd(frame.ack, frame.window);
    if (this.#edge === undefined || seqDiff(edge, this.#edge) > 0) this.#edge = edge;
    const least = Math.max(frame.window, seqDiff(this.#edge, frame.ack));
    return least >= WINDOW_MAX ? WINDOW_MAX : this.#random.between(least, WINDOW_MAX);
  }
}

/** The secondary's copy of a datagram or of anything else that is not TCP. `flip`: `{at, mask}` in the payload. */
export function secondaryOfDatagram(frame, random, flip) {
  const payload = Buffer.from(frame.bytes.subarray(frame.payloadAt, frame.payloadAt + frame.payloadBytes));
  if (flip !== undefined) payload[flip.at] ^= flip.mask;
  // ICMP errors quote headers and fragments have no L4 of their own: only IP's fields may differ
  return finished(withPayload(frame, payload, random), frame.kind !== FrameKind.FRAGMENT);
}

/** A copy with another payload, other IP id and TTL, other padding. Lengths are right, checksums not yet. */
function withPayload(frame, payload, random) {
  const padding = Buffer.alloc(random.chance(0.2) ? random.between(1, 12) : 0, random.between(0, 255));
  const bytes = Buffer.concat([frame.bytes.subarray(0, frame.payloadAt), payload, padding]);
  const { l3 } = frame;
  const ipBytes = frame.payloadAt - l3 + payload.length;
  if (frame.ipVersion === 4) {
    // a super-frame longer than the field can say states 0
    bytes.writeUInt16BE(ipBytes > 0xffff ? 0 : ipBytes, l3 + 2);
    if (frame.kind !== FrameKind.FRAGMENT) bytes.writeUInt16BE(random.between(0, 0xffff), l3 + 4);
    bytes[l3 + 8] = random.between(1, 255);
    writeIpv4Checksum(bytes, l3);
  } else {
    bytes.writeUInt16BE(ipBytes - 40 > 0xffff ? 0 : ipBytes - 40, l3 + 4);
    bytes[l3 + 7] = frame.icmpType >= 133 ? 255 : random.between(1, 255);
  }
  return bytes;
}

const view = new FrameView();

function finished(bytes, writesL4 = true) {
  parseFrame(bytes, 0, bytes.length, 0, view);
  if (writesL4) writeL4Checksum(view);
  return bytes;
}
