/** Many frames, one after another, through a comparator of small limits. */
import { hostileJson, must, refusalOf, sampleFrames, step, steps } from './kit.mjs';

const LIMITS = {
  holdMsMin: 5,
  holdMsMax: 50,
  reorderMsMax: 5,
  heldFramesMax: 64,
  heldBytesMax: 64 * 1024,
  heldBytesPerFlowMax: 16 * 1024,
  flowsMax: 8,
  flowIdleMsMax: 10_000,
  releasedRecordBytesMax: 8 * 1024,
};
/** What a step does. */
const FROM_PRIMARY = 0;
const FROM_SECONDARY = 1;
const FROM_CLIENT = 2;
const WATCHED = 3;
const TICK = 4;
const COMMIT = 5;
const ENDING = 6;
const ACTIONS = 7;

/** The same datagram, or one that another VM might say: a byte differs, or the checksum, or it is shorter. */
function changed(content, random) {
  const other = Buffer.from(content);
  switch (random() % 4) {
    case 0:
      other[random() % other.length] ^= 1 + (random() % 255);
      return other;
    case 1:
      return other.subarray(0, other.length - (random() % 8));
    case 2: // UDP's checksum is each VM's own affair
      other.writeUInt16BE(random() & 0xffff, 6);
      return other;
    default:
      return other;
  }
}

/** Cuts a datagram into two pieces or more, in any order; perhaps one is missing, comes again, or lies. */
function piecesOf(content, random) {
  const pieces = [];
  for (let offset = 0; offset < content.length; ) {
    const room = pieces.length === 0 ? content.length - 8 : content.length - offset;
    const bytes = Math.min(room - (pieces.length === 0 ? room % 8 : 0), 8 * (1 + (random() % 64)));
    const isLast = offset + bytes === content.length;
    pieces.push({ offset, more: !isLast, payload: content.subarray(offset, offset + bytes) });
    offset += bytes;
  }
  for (let at = pieces.length - 1; at > 0; at--) {
    const with_ = random() % (random() % 2 === 0 ? at + 1 : 1 << 30);
    if (with_ < at) [pieces[at], pieces[with_]] = [pieces[with_], pieces[at]];
  }
  const one = random() % pieces.length;
  const piece = pieces[one];
  const beyond = (content.length + 15) & ~7;
  const isInstead = random() % 2;
  const odd = [
    { ...piece },
    { ...piece, payload: Buffer.from(piece.payload).fill(0xee) },
    { ...piece, offset: piece.offset + 8, more: true }, // over the edge of the next one
    { ...piece, offset: beyond, more: false }, // a second end
    { ...piece, offset: beyond, more: true },
  ];
  const mischief = random() % (2 * odd.length);
  if (mischief < odd.length) pieces.splice(one, isInstead, odd[mischief]);
  else if (mischief === odd.length) pieces.splice(one, 1);
  return pieces;
}

/**
 * RFC 791 and RFC 5722 in the plainest way: the content of the datagram, once whole (UDP's checksum, which a VM may leave
 * out, as 0), else null; and of how many pieces it was made.
 */
function modelOf(pieces) {
  const taken = [];
  for (const [index, { offset, more, payload }] of pieces.entries()) {
    const end = offset + payload.length;
    const isAgain = taken.some(
      (one) => one.offset === offset && one.payload.equals(payload) && one.more === more,
    );
    taken.push({ offset, more, payload, end });
    if (!isAgain && taken.slice(0, -1).some((one) => offset < one.end && one.offset < end)) break;
    const ends = new Set(taken.filter((one) => !one.more).map((one) => one.end));
    const far = Math.max(...taken.map((one) => one.end));
    if (ends.size > 1 || (ends.size === 1 && !ends.has(far))) break;
    const parts = [...new Map(taken.map((one) => [one.offset, one])).values()];
    const bytes = parts.reduce((sum, one) => sum + one.payload.length, 0);
    if (ends.size === 0 || bytes !== far) continue;
    const whole = Buffer.alloc(far);
    for (const one of parts) one.payload.copy(whole, one.offset);
    whole.fill(0, 6, 8);
    return { whole, pieces: index + 1 };
  }
  return { whole: null, pieces: 0 };
}

export async function make(load) {
  const { parseFrame } = await load('wire/parse.js');
  const { FrameView } = await load('wire/frame-view.js');
  const { FlowTable } = await load('flow/flow-table.js');
  const { Comparator } = await load('compare/comparator.js');
  const { explain } = await load('evidence/explain.js');
  const { replay } = await load('evidence/replay.js');
  const { ColoError } = await load('errors.js');
  const build = await load('wire/build.js');
  const { fromGuest, fromClient } = await sampleFrames(load);
  const view = new FrameView();

  /** Feeds the steps; what leaves must have come, once for each time it came, and nothing may be left in the end. */
  const play = (bytes) => {
    const flows = new FlowTable({ flowsMax: LIMITS.flowsMax, seed: 1 });
    let nowMs = 0;
    let fed = 0;
    let released = 0;
    const sink = {
      release(buffer, offset, length) {
        released++;
        must(offset >= 0 && offset + length <= buffer.length, 'a released frame lies outside its buffer');
      },
      diverged(divergence, copies) {
        explain(divergence, copies());
      },
    };
    const comparator = new Comparator(flows, LIMITS, sink);
    for (const { what, bytes: frame } of steps(bytes)) {
      nowMs += what >> 4;
      const action = (what & 0x0f) % ACTIONS;
      parseFrame(frame, 0, frame.length, 0, view);
      switch (action) {
        case FROM_PRIMARY: {
          fed++;
          const before = released + comparator.heldFrames;
          const unstorable = comparator.unstorable[0];
          const dropped = () => comparator.unstorable[0] - unstorable;
          const verdict = comparator.primary(view, flows.findOrAdd(view, false, nowMs), nowMs);
          const isLet = verdict === 0 || verdict === 3;
          must(
            isLet || released + comparator.heldFrames + dropped() > before - 1,
            'a frame of the primary is lost',
          );
          break;
        }
        case FROM_SECONDARY:
          comparator.secondary(view, flows.findOrAdd(view, false, nowMs), nowMs);
          break;
        case FROM_CLIENT:
          comparator.fromClient(view, comparator.flowFromClient(view, nowMs), nowMs);
          break;
        case WATCHED:
          comparator.watch(view, flows.findOrAdd(view, false, nowMs), nowMs);
          break;
        case TICK:
          comparator.tick(nowMs);
          break;
        case COMMIT:
          comparator.commit(nowMs);
          must(comparator.heldFrames === 0 && comparator.keptFrames === 0, 'a commit left frames behind');
          break;
        default:
          end(comparator, frame[0] ?? 0, nowMs);
      }
      must(comparator.heldBytes <= LIMITS.heldBytesMax, 'more is held than heldBytesMax');
      must(
        comparator.heldFrames + comparator.keptFrames <= LIMITS.heldFramesMax,
        'more frames than heldFramesMax',
      );
      must(flows.count <= LIMITS.flowsMax, 'more flows than flowsMax');
      must(released <= fed, 'more frames left than came');
    }
  };

  const end = (comparator, how, nowMs) => {
    switch (how % 5) {
      case 0:
        comparator.dropPrimary();
        break;
      case 1:
        comparator.releaseAllPrimary(nowMs);
        break;
      case 2:
        comparator.adoptSecondary();
        break;
      case 3:
        comparator.takeSecondary(() => undefined);
        break;
      default:
        comparator.buffersOnly = !comparator.buffersOnly;
    }
  };

  const conversation = (frames) =>
    Buffer.concat(frames.flatMap((frame) => [step(FROM_PRIMARY, frame), step(FROM_SECONDARY, frame)]));
  const comparator = {
    bytesMax: 8192,
    seeds: [
      ...fromGuest.map((frame) => conversation([frame])),
      conversation(fromGuest.slice(0, 6)),
      Buffer.concat([
        ...fromClient.map((frame) => step(FROM_CLIENT, frame)),
        conversation(fromGuest.slice(0, 6)),
      ]),
      Buffer.concat([
        conversation(fromGuest),
        step(TICK | 0xf0, Buffer.alloc(0)),
        step(COMMIT, Buffer.alloc(0)),
      ]),
      ...[0, 1, 2, 3, 4].map((how) =>
        Buffer.concat([
          step(FROM_PRIMARY, fromGuest[0]),
          step(ENDING, Buffer.from([how])),
          conversation(fromGuest),
        ]),
      ),
    ],
    run: play,
  };

  /** What leaves before a commit is the datagram that the model, too, finds whole and equal on both sides. */
  const playDatagram = (bytes, random) => {
    const content = Buffer.alloc(24 + (bytes.length % 1500), 1);
    bytes.copy(content);
    const where = random() % 2 === 0 ? ends : ends6;
    const cut = piecesOf(content, random);
    const cuts = [cut, random() % 3 === 0 ? cut : piecesOf(changed(content, random), random)];
    const sides = cuts.map((pieces, side) => {
      return pieces.map((piece) => {
        const { offset, more, payload } = piece;
        return {
          ...piece,
          frame: build.buildIp({ ...where, id: 7 + side, fragment: { offset, more } }, 17, payload),
        };
      });
    });
    const [primary, secondary] = sides.map(modelOf);
    const matched = primary.whole?.equals(secondary.whole ?? Buffer.alloc(0)) ? primary.pieces : 0;

    const left = [];
    const sink = {
      release: (buffer, offset, length) => left.push(Buffer.from(buffer.subarray(offset, offset + length))),
      diverged: () => undefined,
    };
    const flows = new FlowTable({ flowsMax: LIMITS.flowsMax, seed: 1 });
    const comparator = new Comparator(flows, LIMITS, sink);
    const came = sides[0].map(({ frame }) => frame);
    const waiting = sides.map((pieces) => pieces.map(({ frame }) => Buffer.from(frame)));
    while (waiting.some((frames) => frames.length > 0)) {
      const side = waiting[0].length === 0 || (waiting[1].length > 0 && random() % 2 === 0) ? 1 : 0;
      const frame = waiting[side].shift();
      parseFrame(frame, 0, frame.length, 0, view);
      comparator[side === 0 ? 'primary' : 'secondary'](view, flows.findOrAdd(view, false, 0), 0);
    }
    must(left.length === matched, () => `${left.length} pieces left, ${matched} belong to equal datagrams`);
    comparator.commit(0);
    must(left.length === came.length, () => `${left.length} pieces left after a commit, ${came.length} came`);
    must(
      left.every((frame, index) => frame.equals(came[index])),
      'pieces leave changed or in another order',
    );
  };

  const ends = { source: '10.0.0.1', destination: '10.0.0.2', id: 7 };
  const ends6 = { source: 'fd00::1', destination: 'fd00::2', id: 7 };
  const pieces = (where, sizes) => {
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const datagram = Buffer.from(Array.from({ length: total }, (_none, index) => index));
    let offset = 0;
    return sizes.map((size) => {
      const payload = datagram.subarray(offset, offset + size);
      const fragment = { offset, more: offset + size < total };
      offset += size;
      return build.buildIp({ ...where, fragment }, 17, payload);
    });
  };
  const fragments = {
    bytesMax: 8192,
    seeds: [ends, ends6].flatMap((where) => [
      conversation(pieces(where, [64, 64, 10])),
      Buffer.concat([
        ...pieces(where, [64, 64, 10]).map((piece) => step(FROM_PRIMARY, piece)),
        ...pieces(where, [128, 10])
          .reverse()
          .map((piece) => step(FROM_SECONDARY, piece)),
      ]),
      Buffer.concat([
        ...pieces(where, [64, 64, 10]).map((piece) => step(FROM_PRIMARY, piece)),
        ...pieces(where, [72, 8, 58]).map((piece) => step(FROM_SECONDARY, piece)),
        step(COMMIT, Buffer.alloc(0)),
      ]),
    ]),
    /** As any frames; and, as the content of a datagram, cut by each VM in its own way. */
    run(bytes, random) {
      play(bytes);
      playDatagram(bytes, random);
    },
  };

  const SOURCES = ['client', 'primary', 'secondary', 'watched', 'released', 'event'];
  // the smallest that a configuration may say
  const limits = {
    ...LIMITS,
    heldBytesMax: 1 << 20,
    heldBytesPerFlowMax: 1 << 18,
    flowsMax: 64,
    flowIdleMsMax: 10_000,
    releasedRecordBytesMax: 1 << 16,
  };
  const start = JSON.stringify({ event: 'start', limits, rules: [], wallBaseMs: 0 });
  const framesOf = (bytes) =>
    [...steps(bytes)].map(({ what, bytes: frame }) => {
      const source = SOURCES[what % SOURCES.length];
      const comment = source === 'released' ? 'matched 1' : `vnet ${frame.toString('hex', 0, 10)}`;
      return { bytes: frame, wireBytes: frame.length, atMs: what, linkType: 1, source, comment };
    });
  const recording = {
    bytesMax: 8192,
    seeds: [
      Buffer.concat([
        step(5, Buffer.from(start)),
        ...fromGuest.slice(0, 6).flatMap((frame) => [step(1, frame), step(2, frame), step(4, frame)]),
        step(5, Buffer.from('{"event":"commit"}')),
      ]),
      Buffer.concat([
        step(5, Buffer.from(start)),
        ...['tick', 'commit', 'drop-primary', 'release-all', 'adopt-secondary', 'take-secondary'].flatMap(
          (event) => [step(1, fromGuest[0]), step(5, Buffer.from(JSON.stringify({ event })))],
        ),
        step(5, Buffer.from('{"event":"buffers-only","is":true}')),
      ]),
    ],
    tokens: [
      '"event"',
      '"limits":{}',
      '"wallBaseMs":1e308',
      'null',
      '"flowsMax":',
      '"rules":[{"why":"x"}]',
      '{}',
    ].map((text) => Buffer.from(text)),
    /** A recording that anybody may have written. */
    run(bytes, random) {
      const frames = framesOf(bytes);
      const event = frames.find(({ source }) => source === 'event' && random() % 2 === 0);
      if (event !== undefined) event.bytes = Buffer.from(hostileJson(event.bytes.toString(), random));
      refusalOf(() => replay(frames), ColoError);
    },
  };
  for (const seed of recording.seeds) replay(framesOf(seed));

  return { comparator, fragments, recording };
}
