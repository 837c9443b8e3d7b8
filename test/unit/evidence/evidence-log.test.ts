import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ColoError } from '../../../src/errors.js';
import { CaptureRing, EVIDENCE_INTERFACES, type RingLimits } from '../../../src/evidence/capture-ring.js';
import type { ClientFrames } from '../../../src/evidence/client-frames.js';
import { EvidenceLog } from '../../../src/evidence/evidence-log.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { readCapture } from '../../../src/wire/capture.js';
import { established, Harness, viewOf } from '../compare/harness.js';
import { tcpFrame } from './frames.js';

const MIB = 1024 * 1024;
const hasTshark = spawnSync('tshark', ['--version']).status === 0;

let directory: string;
let clock: ManualClock;
let failures: ColoError[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'colo-evidence-'));
  clock = new ManualClock(Date.now());
  failures = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function ringOf(limits: Partial<RingLimits> = {}, where = directory): CaptureRing {
  return new CaptureRing({
    directory: where,
    interfaces: EVIDENCE_INTERFACES,
    prefix: 'divergence',
    application: 'test',
    limits: { bytesMax: MIB, ageMsMax: 3_600_000, ...limits },
    clock,
    failed: (error) => failures.push(error),
    gap: (frames) => ({
      source: 'primary',
      wallMs: 0,
      bytes: Buffer.alloc(0),
      wireBytes: 0,
      comment: `${frames} missing`,
    }),
  });
}

function files(): string[] {
  return readdirSync(directory).map((name) => join(directory, name));
}

/** A real divergence out of the comparator, its secondary cut differently. */
function diverge(log: EvidenceLog, clients: ClientFrames | null = null): void {
  const harness = new Harness();
  const { p, s } = established(harness);
  clients?.keep(viewOf(p.fromClient({ at: 1, data: 'GET / HTTP/1.1\r\n\r\n' })), harness.nowMs - 3);
  const head = 'HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:0';
  harness.secondary(s.frame({ at: 1, data: 'HTTP/1.1 ' }));
  harness.secondary(s.frame({ at: 10, data: `${head.slice(9)}2 GMT\r\n\r\n` }));
  harness.primary(p.frame({ at: 1, data: `${head}1 GMT\r\n\r\n` }));
  expect(harness.divergences).toHaveLength(1);
  log.record(harness.divergences[0]!, () => harness.divergenceFrames[0]!, clients);
}

describe('the log of evidence', () => {
  it('explains a divergence and keeps the frames of both sides, annotated', async () => {
    const log = new EvidenceLog(clock, { keptMax: 10 }, ringOf());
    diverge(log);
    await log.close();
    const [one] = log.latest();
    expect(one).toMatchObject({ id: 1, reason: 'payload', field: 'HTTP header Date' });
    expect(Buffer.from(one!.primary, 'hex').toString()).toMatch(/^1 GMT/);
    expect(Buffer.from(one!.secondary, 'hex').toString()).toMatch(/^2 GMT/);
    const { frames, trouble } = readCapture(readFileSync(join(directory, one!.file!)));
    expect(trouble).toBeUndefined();
    expect(frames.map((frame) => frame.source)).toEqual(['primary', 'secondary', 'secondary']);
    expect(frames[0]!.comment).toContain('#1 primary: payload\n');
    expect(frames[0]!.comment).toContain('HTTP header Date: the bytes differ');
    expect(frames[1]!.comment).toBe('#1 secondary: payload');
    expect(log.status()).toMatchObject({ seen: 1, explained: 1, leftOut: 0, writeFailures: 0 });
  });

  it('keeps what the client had sent, in the order of time, and nothing when nothing is written', async () => {
    const log = new EvidenceLog(clock, { keptMax: 10 }, ringOf());
    diverge(log, log.keepClientFrames());
    await log.close();
    const { frames } = readCapture(readFileSync(files()[0]!));
    expect(frames.map((frame) => frame.source)).toEqual(['client', 'primary', 'secondary', 'secondary']);
    expect(frames.map(({ comment }) => comment!.split('\n').length > 1)).toEqual([false, true, false, false]);
    expect(frames[0]!.comment).toBe('#1 client: given to both VMs');
    expect(frames[1]!.atMs - frames[0]!.atMs).toBeCloseTo(3, 3);
    expect(new EvidenceLog(clock, { keptMax: 10 }, null).keepClientFrames()).toBeNull();
  });

  it.skipIf(!hasTshark)('tshark opens the file: interfaces, nanoseconds, comments', async () => {
    const log = new EvidenceLog(clock, { keptMax: 10 }, ringOf());
    diverge(log, log.keepClientFrames());
    await log.close();
    const fields = ['frame.interface_name', 'frame.comment', 'tcp.payload'].flatMap((name) => ['-e', name]);
    const { stdout, stderr } = spawnSync('tshark', ['-r', files()[0]!, '-T', 'fields', ...fields], {
      encoding: 'utf8',
    });
    expect(stderr).not.toMatch(/damaged|corrupt|cut short/);
    expect(stdout.match(/^(client|primary|secondary)/gm)).toEqual([
      'client',
      'primary',
      'secondary',
      'secondary',
    ]);
    expect(stdout).toContain('HTTP header Date');
    expect(stdout).toContain(Buffer.from('HTTP/1.1 ').toString('hex'));
  });

  it('a flood is sampled and counted, and memory stays bounded', () => {
    const log = new EvidenceLog(clock, { keptMax: 10 }, null);
    for (let count = 0; count < 1000; count++) diverge1(log);
    expect(log.latest()).toHaveLength(10);
    const { seen, explained, leftOut } = log.status();
    expect([seen, explained + leftOut]).toEqual([1000, 1000]);
    expect(explained).toBeLessThan(100);
    clock.advance(1000);
    expect(log.record(plain(), () => [])).not.toBeNull();
    expect(log.latest(1)[0]!.id).toBe(1001);
  });
});

function plain() {
  const nothing = new Uint8Array(0);
  const flow = 'udp 10.0.0.2:53 > 10.0.0.1:4000';
  return {
    reason: 'primary-only',
    flow,
    offset: -1,
    primaryBytes: nothing,
    secondaryBytes: nothing,
    atMs: 0,
  } as const;
}

function diverge1(log: EvidenceLog): void {
  log.record(plain(), () => []);
}

describe('the ring of files', () => {
  const bytes = tcpFrame(Buffer.alloc(1000, 7), { sourcePort: 1, destinationPort: 2 });

  async function fill(ring: CaptureRing, frames: number): Promise<void> {
    for (let count = 0; count < frames; count++) {
      ring.write({ source: 'primary', wallMs: clock.wallMs(), bytes, wireBytes: bytes.length });
      if (count % 50 === 49) await ring.close();
    }
    await ring.close();
  }

  it('stays within its bytes and keeps the newest', async () => {
    const ring = ringOf();
    await fill(ring, 3000);
    const sizes = files().map((file) => statSync(file).size);
    expect(ring.writtenBytes).toBeGreaterThan(3 * MIB);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(1.1 * MIB);
    expect(sizes.length).toBeGreaterThan(4);
    for (const file of files()) expect(readCapture(readFileSync(file)).trouble).toBeUndefined();
    expect(failures).toEqual([]);
  });

  it('removes what is too old, and nothing that is not its own', async () => {
    writeFileSync(join(directory, 'divergence-notes.txt'), 'mine');
    await fill(ringOf(), 1);
    clock.advance(7_200_000);
    await fill(ringOf({ ageMsMax: 3_600_000 }), 1);
    const names = readdirSync(directory).sort();
    expect(names).toHaveLength(2);
    expect(names).toContain('divergence-notes.txt');
  });

  it('a disk that fails is told once, counted, and tried again', async () => {
    writeFileSync(join(directory, 'file'), '');
    const ring = ringOf({}, join(directory, 'file', 'under'));
    await fill(ring, 1);
    await fill(ring, 100);
    expect(failures.map((error) => error.code)).toEqual(['COLO_ERR_EVIDENCE']);
    expect(ring.status()).toEqual({ writtenBytes: 0, framesLeftOut: 101, writeFailures: 1 });
    expect(ring.currentFile).toBeNull();
    rmSync(join(directory, 'file'));
    clock.advance(31_000);
    await fill(ring, 1);
    const [name] = readdirSync(join(directory, 'file', 'under'));
    const { frames } = readCapture(readFileSync(join(directory, 'file', 'under', name!)));
    expect(frames.map(({ comment }) => comment)).toEqual(['101 missing', undefined]);
  });
});
