/** Byte streams of peers: the migration channel, frames over sockets, QEMU's monitor. */
import { cut, hostileJson, must, refusalOf, sampleFrames, step, steps } from './kit.mjs';

const FRAME_BYTES_MAX = 4096 + 65536;
const BATCH_FRAMES_MAX = 8;

export async function make(load) {
  const { ColoError } = await load('errors.js');
  const { all } = await sampleFrames(load);
  const frames = all.slice(0, 6);
  return {
    words: await words(load, ColoError),
    ...(await framings(load, ColoError, frames)),
    notify: await notify(load),
    qmp: await qmp(load, ColoError),
  };
}

async function words(load, ColoError) {
  const { ChannelState, PrimaryWords, SecondaryWords } = await load('protocol/word-parser.js');
  const { DIALECTS } = await load('protocol/dialects.js');
  const { encodeWord, carriesValue, says } = await load('protocol/dialect.js');
  const { Endpoint } = await load('protocol/endpoint.js');
  const { senderOf } = await load('protocol/state-tables.js');
  const { SyncPoint } = await load('protocol/sync-point.js');
  const names = [...Object.keys(DIALECTS), 'auto'];
  const encoded = (dialect, word) => encodeWord(dialect, word, carriesValue(dialect, word) ? 8n : undefined);

  /** Two checkpoints, as the two VMs say them; the first byte of a step: 0 primary, 1 secondary. */
  const talk = (name) => {
    const dialect = DIALECTS[name] ?? DIALECTS.upstream;
    const order = [
      'READY',
      ...Array(2).fill(['REQUEST', 'REPLY', 'SEND', 'RAM', 'SIZE', 'STATE', 'RECEIVED', 'LOADED']).flat(),
    ];
    const parts = order.map((word) => {
      if (word === 'RAM') return step(0, Buffer.from('pages of memory'));
      if (word === 'STATE') return step(0, Buffer.from('8 bytes.'));
      if (!says(dialect, SyncPoint[word])) return Buffer.alloc(0);
      return step(senderOf(SyncPoint[word]) === 'primary' ? 0 : 1, encoded(dialect, SyncPoint[word]));
    });
    return Buffer.concat([Buffer.from([names.indexOf(name)]), ...parts]);
  };

  /** What a relay sees: nothing is lost or made up on the way, whatever the chunks. */
  const relay = (choice, list, random) => {
    const channel = new ChannelState(choice);
    const parsers = [new PrimaryWords(channel), new SecondaryWords(channel)];
    const pushed = [[], []];
    const passed = [[], []];
    for (const { what, bytes } of list) {
      const side = what & 1;
      for (const chunk of cut(bytes, random)) {
        parsers[side].push(chunk);
        pushed[side].push(chunk);
        for (let item = parsers[side].next(); item !== undefined; item = parsers[side].next()) {
          if (item.kind === 'violation') return;
          passed[side].push(item.bytes);
          if (item.kind === 'word') channel.advance(item.word);
        }
      }
    }
    for (const side of [0, 1]) {
      const [before, after] = [Buffer.concat(pushed[side]), Buffer.concat(passed[side])];
      must(after.equals(before.subarray(0, after.length)), 'other bytes were passed on');
      must(parsers[side].pendingBytes === before.length - after.length, 'bytes are lost');
    }
  };

  const endpoint = (role, dialect, list, random) => {
    const end = new Endpoint(role, dialect);
    for (const { bytes } of list) {
      for (const chunk of cut(bytes, random)) {
        end.push(chunk);
        const got = end.nextWord();
        if (got?.kind === 'violation') return;
        const own = Object.values(SyncPoint).filter((word) => says(dialect, word) && senderOf(word) === role);
        // our own words as their turn comes
        for (const word of own)
          refusalOf(() => end.encode(word, carriesValue(dialect, word) ? 8n : undefined), ColoError);
      }
    }
  };

  return {
    bytesMax: 1024,
    seeds: names.map(talk),
    tokens: Object.values(DIALECTS).flatMap((dialect) =>
      Object.values(SyncPoint)
        .filter((word) => says(dialect, word))
        .map((word) => encoded(dialect, word)),
    ),
    run(bytes, random) {
      const name = names[(bytes[0] ?? 0) % names.length];
      const list = [...steps(bytes.subarray(1))];
      relay(DIALECTS[name] ?? 'auto', list, random);
      for (const role of ['primary', 'secondary'])
        endpoint(role, DIALECTS[name] ?? DIALECTS.upstream, list, random);
    },
  };
}

async function framings(load, ColoError, frames) {
  const { Deframer } = await load('link/framing.js');
  const { ChardevDeframer } = await load('link/chardev-framing.js');

  /** The frames found, and whether the stream was refused. */
  const read = (deframer, chunks, vnetBytes) => {
    const found = [];
    const refusal = refusalOf(() => {
      for (const chunk of chunks) {
        for (let at = 0; at < chunk.length; ) {
          deframer.makeRoom();
          must(deframer.room > 0, 'no room for another byte');
          const some = chunk.subarray(at, at + deframer.room);
          some.copy(deframer.slab, deframer.fill);
          deframer.filled(some.length);
          at += some.length;
          while (deframer.nextBatch() > 0) {
            const { batch } = deframer;
            for (let index = 0; index < batch.count; index++) {
              const [from, length] = [batch.offsets[index], batch.lengths[index]];
              must(length > 0 && length <= FRAME_BYTES_MAX, 'a frame of an impossible length');
              must(from >= vnetBytes && from + length <= deframer.fill, 'a frame outside of what was read');
              found.push(batch.slab.toString('hex', from - vnetBytes, from + length));
            }
          }
        }
      }
    }, ColoError);
    return `${found.join()} ${refusal?.code}`;
  };

  const target = (make, vnetBytes, seeds) => {
    // a slab of 70 kB is not made anew for each input
    const [one, other] = [make(), make()];
    return {
      seeds,
      run(bytes, random) {
        one.reset();
        other.reset();
        const whole = read(one, [bytes], vnetBytes);
        const pieces = read(other, cut(bytes, random), vnetBytes);
        must(whole === pieces, 'other frames when the stream comes in other pieces');
      },
    };
  };
  const word = (value) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const plain = Buffer.concat(frames.flatMap((frame) => [word(frame.length), frame]));
  const withHeader = (headerBytes) =>
    Buffer.concat(
      frames.flatMap((frame) => [
        word(headerBytes + frame.length),
        word(headerBytes),
        Buffer.alloc(headerBytes, 1),
        frame,
      ]),
    );
  return {
    framing: target(() => new Deframer(1, BATCH_FRAMES_MAX), 0, [plain]),
    chardev: target(() => new ChardevDeframer(1, BATCH_FRAMES_MAX, { bytes: 0 }), 10, [
      ...[0, 10, 12, 20].map(withHeader),
      Buffer.concat([withHeader(0), withHeader(12), word(0), word(0), withHeader(0)]),
    ]),
  };
}

async function notify(load) {
  const { CheckpointWords } = await load('dataplane/checkpoint-words.js');
  const texts = ['COLO_USERSPACE_PROXY_INIT', 'COLO_CHECKPOINT', 'DO_CHECKPOINT'].map((text) =>
    Buffer.from(text),
  );
  return {
    bytesMax: 512,
    seeds: [...texts.map((text) => step(0, text)), Buffer.concat(texts.map((text) => step(0, text)))],
    tokens: texts,
    run(bytes) {
      let said = 0;
      const link = { state: 'up', send: () => said++, flush() {} };
      let heard = 0;
      const tell = new CheckpointWords(link, 10, {
        checkpoint: () => heard++,
        refused: (text) => must(text.length <= 64, 'a refused word is not cut'),
      });
      let count = 0;
      for (const { what, bytes: slab } of steps(bytes)) {
        count++;
        if (what % 4 === 1) tell.askCheckpoint(what);
        tell.receive({ slab, offsets: [0], lengths: [slab.length], count: 1, vnetHeaderBytes: 0 });
      }
      must(heard === tell.told && said + heard + tell.refused <= 2 * count, 'words were miscounted');
    },
  };
}

async function qmp(load, ColoError) {
  const { QmpSession } = await load('qmp/session.js');
  const { DEFAULT_QMP_LIMITS } = await load('qmp/client.js');
  const { ManualClock } = await load('system/manual-clock.js');
  const LINE_BYTES_MAX = 512;
  const greeting =
    '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}\r\n';
  const accepted = '{"return": {}, "id": "colo-1"}\r\n';
  return {
    bytesMax: 2048,
    seeds: [
      `${greeting}${accepted}{"return": {"running": true}, "id": "colo-2"}\r\n`,
      `${greeting}${accepted}{"error": {"class": "GenericError", "desc": "no"}, "id": "colo-2"}\n`,
      `${greeting}${accepted}{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}\n`,
    ].map((text) => Buffer.from(text)),
    tokens: [
      '"id": "colo-2"',
      '"id": "colo-1"',
      '"return"',
      '"error"',
      '"event"',
      '"toString": 0',
      '{}',
      '[]',
      'null',
      '\n',
      '1e999',
    ].map((text) => Buffer.from(text)),
    /** A monitor that says anything: every command is answered, by it or by the end. */
    async run(bytes, random) {
      const clock = new ManualClock();
      let handler;
      let isDestroyed = false;
      const channel = {
        attach: (given) => {
          handler = given;
        },
        write: () => true,
        destroy: () => {
          isDestroyed = true;
        },
      };
      const asked = [];
      let settled = 0;
      const wait = (promise) => {
        asked.push(
          promise.then(
            () => settled++,
            (error) => {
              must(error instanceof ColoError, () => `rejected with ${error}`);
              settled++;
            },
          ),
        );
      };
      const limits = { ...DEFAULT_QMP_LIMITS, lineBytesMax: LINE_BYTES_MAX };
      const session = new QmpSession(channel, clock, limits, {
        ready: () => wait(session.execute('query-status')),
        event() {},
        closed() {},
      });
      const lines = bytes.toString('latin1').split('\n');
      const at = random() % lines.length;
      lines[at] = hostileJson(lines[at], random);
      for (const chunk of cut(Buffer.from(lines.join('\n'), 'latin1'), random)) {
        handler.data(chunk);
        await null;
        await null;
      }
      if (!isDestroyed) handler.ended();
      clock.advance(60_000);
      await Promise.race([Promise.all(asked), turns(20)]);
      must(settled === asked.length, 'a command is never answered');
    },
  };
}

async function turns(count) {
  for (let turn = 0; turn < count; turn++) await null;
}
