/** A disk that is full: what is written ends, what can be read of it stays right, service goes on. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { capturedFrames } from '../../src/evidence/capture-file.js';
import { CaptureRing, EVIDENCE_INTERFACES } from '../../src/evidence/capture-ring.js';
import { ManualClock } from '../../src/system/manual-clock.js';

let disk: string;
beforeEach(() => {
  disk = mkdtempSync(join(tmpdir(), 'colo-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]);
});
afterEach(() => {
  execFileSync('umount', [disk]);
  rmSync(disk, { recursive: true, force: true });
});

describe('a full disk', () => {
  it('pauses a ring, once told and counted, leaves whole files, and goes on when there is room', async () => {
    const clock = new ManualClock();
    const told: string[] = [];
    const ring = new CaptureRing({
      directory: join(disk, 'ring'),
      interfaces: EVIDENCE_INTERFACES,
      prefix: 'divergence',
      application: 'test',
      limits: { bytesMax: 64 * 1024 * 1024, ageMsMax: 3_600_000 },
      clock,
      failed: (error) => told.push(`${error.code} ${error.message}`),
    });
    const bytes = Buffer.alloc(1000, 7);
    const write = async (frames: number): Promise<void> => {
      for (let count = 0; count < frames; count++) {
        ring.write({ source: 'primary', wallMs: count, bytes, wireBytes: bytes.length });
        if (count % 10 === 9) await ring.close();
      }
      await ring.close();
    };
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(64 * 1024));
    await write(500);
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(/^COLO_ERR_EVIDENCE .*ENOSPC/);
    const { framesLeftOut, writeFailures } = ring.status();
    expect(writeFailures).toBe(1);
    let trouble: string | undefined;
    const frames = (): number =>
      readdirSync(join(disk, 'ring')).reduce((sum, name) => {
        const path = join(disk, 'ring', name);
        expect(statSync(path).size).toBeGreaterThan(0);
        return sum + [...capturedFrames(path, { trouble: (text) => (trouble = text) })].length;
      }, 0);
    const kept = frames();
    expect(kept).toBeGreaterThan(100);
    expect(kept + framesLeftOut).toBe(500);

    clock.advance(31_000);
    await write(1);
    expect(ring.status().writeFailures).toBe(2);
    rmSync(join(disk, 'ballast'));
    clock.advance(31_000);
    await write(1);
    expect(frames()).toBe(kept + 1);
    expect(trouble).toBeUndefined();
  });

  it('does not disturb the traffic; what was written is decided again bit for bit', () => {
    const words = ['bin/colo-proxy.js', 'demo', '--once', '--http', 'off', '--record', join(disk, 'record')];
    const out = execFileSync(process.execPath, words, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(out).toContain('Every byte was right and no connection broke.');
    const again = execFileSync(process.execPath, ['bin/colo-proxy.js', 'replay', join(disk, 'record')], {
      encoding: 'utf8',
    });
    expect(again).toContain('bit for bit');
  });
});
