/** One frame at a time: reading it, its options, its offloads, its checksums, and rewriting it. */
import { captureFiles, must, sampleFrames } from './kit.mjs';

const MARGIN = 32;
const VNET_BYTES = 10;
const POISONS = [0x00, 0xff];
const FLOW = 0;

export async function make(load) {
  const { parseFrame } = await load('wire/parse.js');
  const { FrameKind, FrameView } = await load('wire/frame-view.js');
  const { parseQuoted } = await load('wire/quoted.js');
  const { flowText } = await load('wire/addresses.js');
  const { FLOW_KEY_WORDS, writeFlowKey } = await load('wire/flow-key.js');
  const { buildTcp } = await load('wire/build.js');
  const checksum = await load('wire/checksum.js');
  const { completeChecksum, segmentFrame, SEGMENTS_MAX } = await load('wire/segment.js');
  const { readCapture } = await load('wire/capture.js');
  const { FlowState } = await load('flow/flow-state.js');
  const translate = await load('translate/translate.js');

  const { all } = await sampleFrames(load);
  const captured = captureFiles().flatMap((file) => readCapture(file).frames.map(({ bytes }) => bytes));
  const kinds = new Map(captured.map((bytes) => [bytes.subarray(12, 60).toString('hex'), bytes]));
  const frames = [...all, ...[...kinds.values()].filter((_bytes, index) => index % 4 === 0)];

  const view = new FrameView();
  const key = new Int32Array(FLOW_KEY_WORDS);
  const quoted = new FrameView();
  const FIELDS = Object.keys(view).filter((name) => !['bytes', 'start', 'end'].includes(name));
  const OFFSETS = ['network', 'l3', 'l3End', 'l4', 'payload', 'options', 'optionsEnd', 'timestamp', 'sack'];

  const inside = (one) => {
    for (const field of OFFSETS) {
      const at = one[field];
      must(at === 0 || (at >= one.start && at <= one.end), () => `${field} is outside the frame`);
    }
    must(
      one.payload === 0 || one.payload + one.payloadBytes <= one.end,
      'the payload ends outside the frame',
    );
    must(one.payloadBytes >= 0, 'a payload of less than nothing');
    must(one.timestamp === 0 || one.timestamp + 8 <= one.optionsEnd, 'half a timestamp');
    must(one.sack + 8 * one.sackBlocks <= Math.max(one.optionsEnd, 0), 'half a SACK block');
  };

  /** All that is known of a frame, told from its start, so that it does not depend on where the frame lies. */
  const facts = (one) =>
    FIELDS.map((name) => (OFFSETS.includes(name) && one[name] !== 0 ? one[name] - one.start : one[name]));

  const frame = {
    seeds: frames,
    /** What lies around the frame must not matter. */
    run(bytes) {
      const seen = POISONS.map((poison) => {
        const place = Buffer.alloc(bytes.length + 2 * MARGIN, poison);
        bytes.copy(place, MARGIN);
        parseFrame(place, MARGIN, bytes.length, 0, view);
        inside(view);
        const all = [facts(view), checksum.verifyL4Checksum(view)];
        if (view.ipVersion !== 0) {
          writeFlowKey(view, true, key, 0);
          all.push(flowText(view, false), ...key);
        }
        if (parseQuoted(view, quoted)) {
          inside(quoted);
          all.push(facts(quoted), flowText(quoted, true));
        }
        return JSON.stringify(all);
      });
      must(seen[0] === seen[1], 'something outside the frame was read');
    },
  };

  /** The plain reading of RFC 9293 3.2 and of the options' own RFCs, to hold ours against. */
  const readOptions = (list, isSyn) => {
    const found = {
      mss: -1,
      windowScale: -1,
      sackPermitted: false,
      timestamp: 0,
      sackBlocks: 0,
      signed: false,
    };
    for (let at = 0; at < list.length && list[at] !== 0; ) {
      if (list[at] === 1) {
        at += 1;
        continue;
      }
      const length = list[at + 1] ?? 0;
      if (length < 2 || at + length > list.length) break;
      const content = list.subarray(at + 2, at + length);
      if (list[at] === 2 && length === 4 && isSyn) found.mss = content.readUInt16BE(0);
      if (list[at] === 3 && length === 3 && isSyn) found.windowScale = Math.min(14, content[0]);
      if (list[at] === 4 && length === 2 && isSyn) found.sackPermitted = true;
      if (list[at] === 5 && content.length > 0 && content.length % 8 === 0)
        found.sackBlocks = content.length / 8;
      if (list[at] === 8 && length === 10) found.timestamp = at + 2;
      if (list[at] === 19 || list[at] === 29) found.signed = true;
      at += length;
    }
    return found;
  };

  const OPTION_BYTES_MAX = 40;
  const options = {
    bytesMax: 1 + 2 * OPTION_BYTES_MAX,
    seeds: [
      '02020405b40402080a0000000500000006010303070101050a0000006400000032',
      '100101080a00000005000000060101051200000001000000020000000300000004',
      '1013120102030405060708090a0b0c0d0e0f10',
      '021d10010200000000000000000000000000220a0b0c',
    ].map((text) => Buffer.from(text, 'hex')),
    tokens: ['0101', '080a', '0512', '051a', '020405b4', '030307', '0402', '1312', '1d10', '00'].map((text) =>
      Buffer.from(text, 'hex'),
    ),
    /** First byte: the flags; then TCP's options. */
    run(bytes) {
      const padding = Buffer.alloc((4 - ((bytes.length - 1) & 3)) & 3);
      const raw = Buffer.concat([bytes.subarray(1), padding]).subarray(0, OPTION_BYTES_MAX);
      const flags = bytes[0] ?? 0;
      const ends = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 1, destinationPort: 2 };
      const built = buildTcp({ ...ends, seq: 1, flags, options: { raw } });
      parseFrame(built, 0, built.length, 0, view);
      const wanted = readOptions(raw, (flags & 0x02) !== 0);
      const got = {
        ...Object.fromEntries(Object.keys(wanted).map((name) => [name, view[name]])),
        timestamp: view.timestamp === 0 ? 0 : view.timestamp - view.options,
      };
      must(view.kind === FrameKind.TCP, 'not read as TCP');
      must(
        JSON.stringify(got) === JSON.stringify(wanted),
        () => `${JSON.stringify(got)} for ${JSON.stringify(wanted)}`,
      );
    },
  };

  const scratch = Buffer.alloc(65_600);
  const whole = Buffer.alloc(65_600);
  const offload = {
    seeds: frames
      .slice(0, 20)
      .flatMap((bytes) =>
        ['00000000000000000000', '01010000080022001000', '01040000080036001000', '01050000040022000600'].map(
          (header) => Buffer.concat([Buffer.from(header, 'hex'), bytes]),
        ),
      ),
    /** A vnet header and a frame: the pieces hold the whole's payload, each with right checksums. */
    run(bytes) {
      if (bytes.length < VNET_BYTES) return;
      parseFrame(bytes, VNET_BYTES, bytes.length - VNET_BYTES, VNET_BYTES, view);
      inside(view);
      let total = 0;
      const count = segmentFrame(view, scratch, (piece, offset, length) => {
        must(offset + length <= piece.length, 'a piece is longer than its buffer');
        parseFrame(piece, offset, length, 0, quoted);
        must(quoted.kind === view.kind, 'a piece of another kind');
        must(checksum.verifyL4Checksum(quoted), 'a piece with a wrong checksum');
        must(
          view.kind !== FrameKind.TCP || quoted.seq === (view.seq + total) >>> 0,
          'a piece with a wrong sequence number',
        );
        piece.copy(whole, total, quoted.payload, quoted.payload + quoted.payloadBytes);
        total += quoted.payloadBytes;
      });
      must(count <= SEGMENTS_MAX, 'too many pieces');
      if (count > 0) {
        must(total === view.payloadBytes, 'the pieces have another length');
        must(whole.compare(bytes, view.payload, view.payload + total, 0, total) === 0, 'the pieces differ');
      }
      completeChecksum(view);
    },
  };

  const incremental = {
    bytesMax: 256,
    seeds: [Buffer.from('0004000000010000ffff0000ffffffff0000000000000000', 'hex'), Buffer.alloc(64, 0xff)],
    /** Two bytes of place, four of a new value, then the bytes that are summed: RFC 1624 against RFC 1071. */
    run(bytes, random) {
      if (bytes.length < 16) return;
      const body = Buffer.from(bytes.subarray(6));
      // the checksum field first, the field that changes anywhere behind it
      const at = 2 + (bytes.readUInt16BE(0) % (body.length - 6 + 1));
      if (at + 4 > body.length) return;
      body.writeUInt16BE(0, 0);
      body.writeUInt16BE(~checksum.sum16(body, 0, body.length) & 0xffff, 0);
      // a sum of nothing but zeros has no second form, and no packet is that
      if (body.every((byte, index) => index < 2 || byte === 0)) return;
      const is16 = random() % 2 === 0 && at % 2 === 0;
      if (is16) {
        const old = body.readUInt16BE(at);
        body.writeUInt16BE(bytes.readUInt16BE(2), at);
        checksum.updateChecksum16(body, 0, old, body.readUInt16BE(at));
      } else {
        const old = body.readUInt32BE(at);
        body.writeUInt32BE(bytes.readUInt32BE(2), at);
        checksum.updateChecksum32(body, 0, old, body.readUInt32BE(at), at % 2 === 1);
      }
      if (body.every((byte, index) => index < 2 || byte === 0)) return;
      must(checksum.sum16(body, 0, body.length) === 0xffff, () => `wrong after a change at ${at}`);
      must(plainSum(body) === 0xffff, 'the full sum is not the plain one');
    },
  };

  const COLUMNS = ['clientSeqDelta', 'seqDelta', 'clientTsDelta', 'tsDelta'];
  const flowOf = (deltas) => {
    const state = new FlowState(1);
    for (const [index, column] of COLUMNS.entries()) state[column][FLOW] = deltas[index];
    return { state };
  };
  const translator = {
    seeds: frames,
    /** A checksum that was right stays right, and moving there and back changes nothing. */
    run(bytes, random) {
      const deltas = COLUMNS.map(() => (random() % 8 === 0 ? 0 : random() | 0));
      const there = flowOf(deltas);
      const back = flowOf(deltas.map((delta) => -delta | 0));
      const before = Buffer.from(bytes);
      parseFrame(bytes, 0, bytes.length, 0, view);
      const wasRight = checksum.verifyL4Checksum(view);
      const names = ['toSecondary', 'toPrimary', 'fromSecondary', 'fromPrimary'];
      const name = names[random() % names.length];
      for (const flows of [there, back]) {
        translate[name](view, flows, FLOW);
        parseFrame(bytes, 0, bytes.length, 0, view);
        must(!wasRight || checksum.verifyL4Checksum(view), `${name} left a wrong checksum`);
      }
      if (!before.equals(bytes))
        must(isSameButZeroSum(before, bytes, view), `${name} and back is something else`);
    },
  };

  /** 0 and 0xffff are one number to a checksum: a right one, and one quoted in an ICMP error, may come back in its other form. */
  const isSameButZeroSum = (before, after, one) => {
    const places = [checksum.l4ChecksumOffset(one)];
    if (parseQuoted(one, quoted) && quoted.kind === FrameKind.TCP) places.push(quoted.l4 + 16);
    const same = Buffer.from(after);
    for (const at of places.filter((place) => place >= 0 && place + 2 <= after.length)) {
      if (before.readUInt16BE(at) % 0xffff !== after.readUInt16BE(at) % 0xffff) return false;
      before.copy(same, at, at, at + 2);
    }
    return same.equals(before);
  };

  return { frame, options, offload, checksum: incremental, translator };
}

/** RFC 1071's own words: add 16-bit words, carry around. */
function plainSum(bytes) {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
