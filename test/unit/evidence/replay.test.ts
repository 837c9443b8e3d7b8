import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { holdLimits, readRecording, readRules, replayReport } from '../../../src/cli/replay.js';
import { compileRules } from '../../../src/compare/rules.js';
import { ruleSchema } from '../../../src/config/rule-schema.js';
import { CaptureRing } from '../../../src/evidence/capture-ring.js';
import { type Proposal, proposals } from '../../../src/evidence/learn.js';
import { fileHeader, packetBlock } from '../../../src/evidence/pcapng-blocks.js';
import {
  eventFrame,
  RECORDING_INTERFACES,
  RecordedComparator,
  recordedTime,
} from '../../../src/evidence/recorder.js';
import {
  type ReplayChanges,
  type ReplayResult,
  replay as replayVariants,
} from '../../../src/evidence/replay.js';
import { FlowTable } from '../../../src/flow/flow-table.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { buildUdp } from '../../../src/wire/build.js';
import { type CapturedFrame, readCapture } from '../../../src/wire/capture.js';
import { FrameView } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';
import { Guest, SYN, TEST_LIMITS } from '../compare/harness.js';

const replay = (frames: Iterable<CapturedFrame>, changes: ReplayChanges = {}): ReplayResult =>
  replayVariants(frames, [changes])[0]!;

let directory: string;
let clock: ManualClock;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'colo-record-'));
  clock = new ManualClock();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A comparator whose every call is on record. */
class Recording {
  readonly ring: CaptureRing;
  readonly comparator: RecordedComparator;
  readonly flows = new FlowTable({ flowsMax: 64, seed: 77 });
  releases = 0;
  nowMs = 1000.123456789;
  readonly limits = { ...TEST_LIMITS };

  constructor(bytesMax = 64 * 1024 * 1024) {
    const wallBaseMs = 1_700_000_000_000;
    this.ring = new CaptureRing({
      directory,
      interfaces: RECORDING_INTERFACES,
      opening: () =>
        eventFrame(
          { event: 'start', format: 1, nic: 0, limits: this.limits, rules: [], wallBaseMs },
          wallBaseMs,
        ),
      prefix: 'record-nic0',
      application: 'test',
      limits: { bytesMax, ageMsMax: 3_600_000 },
      clock,
      failed: (error) => {
        throw error;
      },
    });
    const sink = { release: () => void this.releases++, diverged: () => undefined };
    this.comparator = new RecordedComparator(this.flows, this.limits, sink, undefined, this.ring, wallBaseMs);
  }

  primary(frame: Buffer): void {
    const view = viewOf(frame);
    this.comparator.primary(view, this.flows.findOrAdd(view, false, this.nowMs), this.nowMs);
  }

  secondary(frame: Buffer): void {
    const view = viewOf(frame);
    this.comparator.secondary(view, this.flows.findOrAdd(view, false, this.nowMs), this.nowMs);
  }

  client(frame: Buffer): void {
    const view = viewOf(frame);
    this.comparator.fromClient(view, this.flows.find(view, true), this.nowMs);
  }

  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 5) {
      this.nowMs += 5.0001;
      this.comparator.tick(this.nowMs);
    }
  }

  /** A connection, agreeing data cut differently, a datagram that comes late, one that differs, a commit. */
  async work(): Promise<void> {
    const [p, s] = [new Guest(1_000_000, 500), new Guest(3_000_000, 900)];
    this.client(p.fromClient({ flags: SYN, options: { windowScale: 7, mss: 1460 } }));
    this.primary(p.synAck());
    this.secondary(s.synAck());
    for (let at = 1; at < 4000; at += 100) {
      const data = 'x'.repeat(100);
      this.primary(p.frame({ at, data, ack: 1 }));
      this.nowMs += 0.3;
      this.secondary(s.frame({ at, data: data.slice(0, 40) }));
      this.secondary(s.frame({ at: at + 40, data: data.slice(40) }));
    }
    this.primary(dns(0x1111));
    this.pass(30);
    this.secondary(dns(0x1111));
    this.primary(dns(0x2222));
    this.secondary(dns(0x3333));
    this.pass(60);
    this.comparator.commit(this.nowMs);
    this.primary(p.frame({ at: 4001, data: 'more' }));
    this.pass(1100);
    this.comparator.releaseAllPrimary(this.nowMs);
    await this.ring.close();
  }
}

function dns(id: number): Buffer {
  const payload = Buffer.from('00000100000100000000000003616263000001 0001'.replaceAll(' ', ''), 'hex');
  payload.writeUInt16BE(id, 0);
  return buildUdp({
    source: '10.0.0.2',
    destination: '10.0.0.1',
    sourcePort: 53,
    destinationPort: 5555,
    payload,
  });
}

function viewOf(frame: Buffer): FrameView {
  const view = new FrameView();
  const copy = Buffer.concat([Buffer.alloc(16), frame]);
  parseFrame(copy, 16, frame.length, 0, view);
  return view;
}

function framesOf(): CapturedFrame[] {
  return [...readRecording(directory, 0, () => undefined)];
}

describe('a recording', () => {
  it('is decided again, bit for bit', async () => {
    const recording = new Recording();
    await recording.work();
    const again = replay(framesOf());
    expect(again.mismatchTexts).toEqual([]);
    expect(again.mismatches).toBe(0);
    expect(recording.releases).toBeGreaterThan(40);
    expect(again.decisions).toBe(recording.releases + again.divergences.length);
    expect(Object.values(again.released).reduce((sum, count) => sum + count, 0)).toBe(recording.releases);
    expect(again.divergences.map(({ reason, field }) => [reason, field])).toEqual([
      ['payload', 'DNS id'],
      ['primary-only', undefined],
    ]);
    expect(again).toMatchObject({ epochs: 1, checkpointsAsked: 2 });
  });

  it('gives back the times that were decided with, exactly', () => {
    const wallBaseMs = 1_799_999_999_999;
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e10, noNaN: true }), (nowMs) => {
        const used = recordedTime(nowMs);
        const block = packetBlock({
          interface: 0,
          wallMs: wallBaseMs + used,
          bytes: Buffer.alloc(4),
          wireBytes: 4,
        });
        const file = Buffer.concat([fileHeader('test', RECORDING_INTERFACES), block]);
        expect(recordedTime(readCapture(file).frames[0]!.atMs - wallBaseMs)).toBe(used);
        expect(Math.abs(used - nowMs)).toBeLessThan(0.001);
      }),
    );
  });

  it('with other limits tells what they would have cost', async () => {
    const recording = new Recording();
    await recording.work();
    const patient = replay(framesOf(), { limits: holdLimits('5000:6000') });
    expect(patient.divergences.map(({ reason }) => reason)).toEqual(['payload']);
    expect(patient.mismatches).toBeGreaterThan(0);
    const { lines, isDifferent } = replayReport(framesOf(), { limits: holdLimits('5000:6000') });
    expect(isDifferent).toBe(false);
    expect(lines.find((line) => line.startsWith('checkpoints asked for'))).toMatch(/ 2 +1$/);
    expect(lines.at(-1)).toMatch(/^All \d+ recorded decisions were made again, bit for bit.$/);
  });

  it('with other rules tells what they would have waived', async () => {
    await new Recording().work();
    const rules = join(directory, 'rules.yaml');
    writeFileSync(
      rules,
      'rules:\n  - { why: they ask again, action: waive, protocol: udp, guestPort: 53 }\n',
    );
    const waived = replay(framesOf(), { rules: readRules(rules) });
    expect(waived.divergences.map(({ reason }) => reason)).toEqual(['primary-only']);
    expect(waived.waivedBytes).toBeGreaterThan(100);
    writeFileSync(rules, 'rules:\n  - { why: they ask again, action: wave, protocol: udp }\n');
    expect(() => readRules(rules)).toThrow(/rules.yaml:2:\d+: rules.0.action: /);
    writeFileSync(rules, 'rules:\n  - { why: they ask again, action: waive, protocol: gre, guestPort: 1 }\n');
    expect(() => readRules(rules)).toThrow(/needs protocol tcp or udp/);
  });

  it('over a reload of rules and limits is decided again, bit for bit', async () => {
    const recording = new Recording();
    await recording.work();
    recording.limits.holdMsMax = 3000;
    recording.limits.holdMsMin = 2000;
    recording.comparator.reconfigure(
      compileRules([
        ruleSchema.parse({ why: 'they ask again', action: 'waive', protocol: 'udp', guestPort: 53 }),
      ]),
    );
    recording.comparator.commit(recording.nowMs);
    recording.primary(dns(0x4444));
    recording.secondary(dns(0x5555));
    recording.primary(new Guest(1_000_000, 500).frame({ at: 4101, data: 'more' }));
    recording.pass(2500);
    await recording.ring.close();
    const again = replay(framesOf());
    expect(again.mismatchTexts).toEqual([]);
    expect(again.released.waived).toBe(1);
    const patient = replay(framesOf(), { rules: [] });
    expect(patient.released.waived).toBeUndefined();
  });

  it('that was tampered with is noticed', async () => {
    await new Recording().work();
    const frames = framesOf();
    const index = frames.findIndex(({ source }) => source === 'released');
    const bytes = Buffer.from(frames[index]!.bytes);
    bytes[bytes.length - 1]! ^= 1;
    frames[index] = { ...frames[index]!, bytes };
    expect(replay(frames).mismatches).toBe(1);
  });

  it('goes over several files, each of which can be opened alone', async () => {
    const recording = new Recording(1024 * 1024);
    for (let round = 0; round < 20; round++) {
      for (let id = 0; id < 100; id++) {
        recording.nowMs += 0.1;
        recording.primary(dns(id));
        recording.secondary(dns(id));
      }
      await recording.ring.close();
    }
    const names = readdirSync(directory);
    expect(names.length).toBeGreaterThan(2);
    expect(replay(framesOf())).toMatchObject({ mismatches: 0, frames: 4000 });
    for (const name of names)
      expect(replay(readCapture(readFileSync(join(directory, name))).frames).frames).toBeGreaterThan(0);
  });

  it.each([
    [{ limits: { flowsMax: 1e12 } }, /start event is wrong: limits.flowsMax/],
    [{ limits: { flowsMax: 16_777_216 }, wallBaseMs: 0 }, /limits.flowsMax: at most 4194304 .* not 16777216/],
    [{ limits: { heldFramesMax: 16_777_216 }, wallBaseMs: 0 }, /limits.heldFramesMax: at most 4194304/],
    [
      { limits: { releasedRecordBytesMax: 2 ** 36 }, wallBaseMs: 0 },
      /limits.releasedRecordBytesMax: at most/,
    ],
    [{ limits: { heldBytesMax: -1 } }, /start event is wrong: limits.heldBytesMax/],
    [{ limits: TEST_LIMITS, rules: [{}] }, /start event is wrong: rules.0/],
    [{}, /start event is wrong/],
  ])('hostile start events are refused: %j', (start, message) => {
    const bytes = Buffer.from(JSON.stringify({ event: 'start', ...start }));
    const frame = { bytes, wireBytes: bytes.length, atMs: 0, linkType: 147, source: 'event' };
    expect(() => replay([frame])).toThrow(message);
  });

  it('a foreign or missing file is refused', () => {
    expect(() => replay(readCapture(readFileSync('test/fixtures/captures/ipv6.pcap')).frames)).toThrow(
      /does not begin with a start event/,
    );
    expect(() => [...readRecording('/nonexistent', 0, () => undefined)]).toThrow(/ENOENT/);
    expect(() => framesOf()).toThrow(/no recording of interface 0/);
    expect(() => holdLimits('9')).toThrow(/expected MIN:MAX/);
    writeFileSync(join(directory, 'record-nic0-x-1-1.pcapng'), 'garbage');
    expect(() => framesOf()).toThrow(/neither pcap nor pcapng/);
  });
});

describe('learn', () => {
  const unknown = (flow: string, offset: number, before: string, epoch = 1) => ({
    ...{ epoch, reason: 'payload', flow, offset, field: undefined },
    before: Buffer.from(before, 'latin1').toString('hex'),
  });

  it('says what a decoder would go by where none knows the bytes that differ', () => {
    const database = 'tcp 10.0.0.2:5432 > 10.0.0.1:4000';
    const game = 'udp 10.0.0.2:27015 > 10.0.0.1:4000';
    const sealed = 'udp 10.0.0.2:51820 > 10.0.0.1:4000';
    const rare = 'udp 10.0.0.2:7 > 10.0.0.1:4000';
    const told = proposals([
      unknown(database, 100, 'a row, token='),
      unknown(database, 9000, 'another token='),
      unknown(database, 70, 'token='),
      ...['\x01a', '\x02a', '\x03a'].map((before) => unknown(game, 12, before)),
      ...['\xffa', '\xfea', '\xffb'].map((before, index) => unknown(sealed, index, before)),
      unknown(rare, 1, 'x'),
      unknown(rare, 1, 'x'),
    ]);
    const decoders = Object.fromEntries(told.map(({ source, decoder }) => [source, decoder]));
    expect(decoders['tcp 5432']).toMatch(/in each of 3 cases they stand behind "token="$/);
    expect(decoders['udp 27015']).toMatch(/they stand behind "a", at byte 12 of the datagram$/);
    expect(decoders['udp 51820']).toMatch(/at no place in common/);
    expect(decoders['udp 7']).toBeNull();
  });

  it('of a common end is never more than either has', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 6 }), { minLength: 3, maxLength: 4 }), (befores) => {
        const flow = 'tcp 10.0.0.2:9 > 10.0.0.1:4';
        const texts = befores.map((bytes) => Buffer.from(bytes).toString('latin1'));
        const [{ decoder }] = proposals(texts.map((text) => unknown(flow, 0, text))) as [Proposal];
        let common = texts[0]!;
        while (!texts.every((text) => text.endsWith(common))) common = common.slice(1);
        const hex = Buffer.from(common, 'latin1').toString('hex');
        const expected =
          common === '' ? 'at no place' : `behind ${/^[ -~]+$/.test(common) ? JSON.stringify(common) : hex}`;
        expect(decoder).toContain(expected);
      }),
    );
  });

  it('ranks sources by the checkpoints that each alone has cost', () => {
    const one = (epoch: number, flow: string, field?: string) => ({
      epoch,
      reason: 'payload',
      flow,
      offset: 1,
      field,
      before: '',
    });
    const dnsFlow = 'udp 10.0.0.2:53 > 10.0.0.1:4000';
    const web = 'tcp 10.0.0.2:80 > 10.0.0.1:4000';
    const ranked = proposals([
      one(1, web, 'HTTP header Date'),
      one(2, web, 'HTTP header Date'),
      one(3, dnsFlow, 'DNS id'),
      one(3, web, 'HTTP header Date'),
      one(3, web, 'HTTP header Date'),
    ]);
    expect(
      ranked.map(({ source, checkpointsSaved, divergences }) => [source, checkpointsSaved, divergences]),
    ).toEqual([
      ['tcp 80, HTTP header Date', 2, 4],
      ['udp 53, DNS id', 0, 1],
    ]);
    expect(ranked[0]!.givesUp).toMatch(/breaks/);
  });
});
