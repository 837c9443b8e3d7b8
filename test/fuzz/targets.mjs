/**
 * What is fuzzed: each target has seeds (good inputs) and `run(bytes, random)`, which throws when the product did
 * something it must not. A ColoError is a refusal and right.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CAPTURES = join(ROOT, 'test', 'fixtures', 'captures');

export async function loadTargets(dist) {
  const load = (path) => import(pathToFileURL(join(dist, path)));
  const [{ parseFrame }, { FrameView }, { parseQuoted }, checksum, { readCapture }] = await Promise.all([
    load('wire/parse.js'),
    load('wire/frame-view.js'),
    load('wire/quoted.js'),
    load('wire/checksum.js'),
    load('wire/capture.js'),
  ]);
  const { FlowTable } = await load('flow/flow-table.js');
  const translate = await load('translate/translate.js');
  const { Comparator } = await load('compare/comparator.js');
  const { DEFAULT_COMPARE_LIMITS } = await load('compare/verdict.js');
  const { ChannelState, PrimaryWords, SecondaryWords } = await load('protocol/word-parser.js');
  const { upstreamDialect } = await load('protocol/dialect-upstream.js');
  const { Deframer } = await load('link/framing.js');
  const { QmpLineReader } = await load('qmp/framing.js');
  const { loadConfig } = await load('config/load.js');
  const { ColoError } = await load('errors.js');
  const build = await load('wire/build.js');
  const { parseMac, parseIpAddress } = await load('wire/addresses.js');

  const refusalIsRight = (action) => {
    try {
      action();
    } catch (error) {
      if (!(error instanceof ColoError)) throw error;
    }
  };
  const ends = {
    sourceMac: parseMac('52:54:00:00:00:01'),
    destinationMac: parseMac('52:54:00:00:00:02'),
  };
  const v4 = { source: parseIpAddress('10.0.0.1'), destination: parseIpAddress('10.0.0.2') };
  const v6 = { source: parseIpAddress('fd00::1'), destination: parseIpAddress('fd00::2') };
  const tcp = {
    sourcePort: 1000,
    destinationPort: 80,
    seq: 0xffff_fff0,
    ack: 77,
    flags: 0x10,
    window: 500,
    payload: Buffer.from('some bytes of a stream'),
    timestamps: { value: 5, echo: 6 },
    sack: [{ from: 100, to: 200 }],
  };
  const frames = [v4, v6].flatMap((ip) => [
    build.buildTcp({ ...ends, ...ip, ...tcp }),
    build.buildTcp({ ...ends, ...ip, ...tcp, flags: 0x02, mss: 1460, windowScale: 7, sackPermitted: true }),
    build.buildUdp({ ...ends, ...ip, sourcePort: 9, destinationPort: 7, payload: Buffer.from('datagram') }),
    build.buildEcho({ ...ends, ...ip, identifier: 1, sequence: 2, payload: Buffer.from('ping') }),
  ]);
  const captures = captureFiles();
  const view = new FrameView();
  const other = new FrameView();
  const inBounds = (name, at, length) => {
    if (at < 0 || at > length) throw new Error(`${name} ${at} is outside a frame of ${length} bytes`);
  };

  const frame = {
    seeds: [
      ...frames,
      ...captures.flatMap((file) =>
        readCapture(file)
          .frames.slice(0, 4)
          .map(({ bytes }) => bytes),
      ),
    ],
    run(bytes) {
      parseFrame(bytes, 0, bytes.length, 0, view);
      inBounds('end', view.end, bytes.length);
      if (view.payload >= 0)
        inBounds('end of payload', view.payload + Math.max(0, view.payloadBytes), bytes.length);
      parseQuoted(view, other);
    },
  };

  const translation = {
    seeds: frames,
    /** Differential: a checksum kept right incrementally must be the one computed from all bytes. */
    run(bytes, random) {
      const flows = new FlowTable({ flowsMax: 16, seed: 1 });
      parseFrame(bytes, 0, bytes.length, 0, view);
      const flow = flows.findOrAdd(view, true, 0);
      if (flow < 0) return;
      for (const column of ['clientSeqDelta', 'seqDelta', 'clientTsDelta', 'tsDelta']) {
        flows.state[column][flow] = random() | 0;
      }
      const wasRight = checksum.verifyL4Checksum(view);
      for (const name of ['toSecondary', 'toPrimary', 'fromSecondary', 'fromPrimary']) {
        translate[name](view, flows, flow);
        parseFrame(bytes, 0, bytes.length, 0, view);
        if (wasRight && !checksum.verifyL4Checksum(view)) throw new Error(`${name} left a wrong checksum`);
      }
    },
  };

  let flows;
  let comparator;
  let fed = 0;
  const compare = {
    seeds: frames,
    run(bytes, random) {
      if (fed++ % 5000 === 0) {
        flows = new FlowTable({ flowsMax: 64, seed: 1 });
        const sink = { release() {}, diverged: (_divergence, collect) => void collect() };
        comparator = new Comparator(
          flows,
          { ...DEFAULT_COMPARE_LIMITS, flowsMax: 64, heldBytesMax: 1 << 20 },
          sink,
        );
      }
      parseFrame(bytes, 0, bytes.length, 0, view);
      const way = random() % 16;
      const flow = flows.findOrAdd(view, way < 5, fed);
      if (way < 5) comparator.fromClient(view, flow, fed);
      else if (way < 10) comparator.primary(view, flow, fed);
      else if (way < 15) comparator.secondary(view, flow, fed);
      else if (random() % 4 === 0) comparator.commit(fed);
      else comparator.tick(fed);
      if (comparator.heldBytes > 1 << 20) throw new Error(`${comparator.heldBytes} bytes are held`);
    },
  };

  const words = {
    seeds: [wordBytes(1, 2, 5, 6), wordBytes(0, 2, 3), Buffer.from('0001000400000001', 'hex')],
    run(bytes, random) {
      const channel = new ChannelState(random() % 2 === 0 ? upstreamDialect : 'auto');
      const parsers = [new PrimaryWords(channel), new SecondaryWords(channel)];
      for (const chunk of cut(bytes, random)) {
        const parser = parsers[random() & 1];
        parser.push(chunk);
        for (let item = parser.next(); item !== undefined; item = parser.next()) {
          if (item.kind === 'violation') return;
          if (item.kind === 'word') channel.advance(item.word);
        }
      }
    },
  };

  const deframer = new Deframer(1 << 18, 64);
  const framing = {
    seeds: frames.map((bytes) => Buffer.concat([lengthOf(bytes), bytes, lengthOf(bytes), bytes])),
    run(bytes, random) {
      deframer.reset();
      refusalIsRight(() => {
        for (const chunk of cut(bytes, random)) {
          deframer.makeRoom();
          chunk.copy(deframer.slab, deframer.fill);
          deframer.filled(chunk.length);
          while (deframer.nextBatch() > 0) {
            const { batch } = deframer;
            for (let at = 0; at < batch.count; at++) {
              inBounds('end of frame', batch.offsets[at] + batch.lengths[at], deframer.fill);
            }
          }
        }
      });
    },
  };

  const qmp = {
    seeds: [
      '{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}\r\n',
      '{"return": {}, "id": 1}\n{"event": "STOP", "timestamp": {"seconds": 1}}\n',
      '{"error": {"class": "GenericError", "desc": "no"}}\n',
    ].map((text) => Buffer.from(text)),
    run(bytes, random) {
      const reader = new QmpLineReader(256);
      refusalIsRight(() => {
        for (const chunk of cut(bytes, random)) {
          reader.push(chunk, () => {});
          if (reader.pendingBytes > 256) throw new Error(`${reader.pendingBytes} bytes of a line are kept`);
        }
      });
    },
  };

  const capture = {
    seeds: captures.filter((bytes) => bytes.length < 16_384),
    run: (bytes) => refusalIsRight(() => readCapture(bytes)),
  };

  const directory = mkdtempSync(join(tmpdir(), 'colo-fuzz-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'config.yaml');
  const config = {
    seeds: [readFileSync(join(ROOT, 'examples', 'colo-proxy.yaml'))],
    run(bytes) {
      writeFileSync(file, bytes);
      refusalIsRight(() => loadConfig({ file, env: {}, flags: [] }));
    },
  };

  return { frame, translation, compare, words, framing, qmp, capture, config };
}

function captureFiles() {
  const names = readdirSync(CAPTURES).filter((name) => /\.p?cap(ng)?$/.test(name));
  return names.map((name) => readFileSync(join(CAPTURES, name)));
}

function wordBytes(...codes) {
  const bytes = Buffer.alloc(4 * codes.length);
  for (const [index, code] of codes.entries()) bytes.writeUInt32BE(code, 4 * index);
  return bytes;
}

function lengthOf(bytes) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return length;
}

function* cut(bytes, random) {
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + (random() % 64);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}
