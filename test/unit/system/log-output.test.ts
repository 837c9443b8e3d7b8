import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOG_WAITING_BYTES_MAX, LogOutput } from '../../../src/system/log-output.js';
import { ManualClock } from '../../../src/system/manual-clock.js';

const LINE_BYTES = 500;
const line = (number: number): string => `${String(number).padEnd(LINE_BYTES - 1)}\n`;
const LINES_WAITING_MAX = Math.floor(LOG_WAITING_BYTES_MAX / LINE_BYTES);

describe('log output', () => {
  const chunk = Buffer.alloc(1 << 20);
  let clock: ManualClock;
  let folder: string;
  let reader: number;
  let writer: number;

  beforeEach(() => {
    clock = new ManualClock();
    folder = mkdtempSync(join(tmpdir(), 'colo-log-'));
    const path = join(folder, 'pipe');
    execFileSync('mkfifo', [path]);
    reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  });
  afterEach(() => {
    closeSync(writer);
    rmSync(folder, { recursive: true });
  });

  function readAll(): string {
    let text = '';
    try {
      for (let got = readSync(reader, chunk); got > 0; got = readSync(reader, chunk)) {
        text += chunk.toString('latin1', 0, got);
      }
    } catch {
      // nothing more for now
    }
    return text;
  }

  /** What is read while time passes. */
  function readWithin(ms: number): string {
    let text = readAll();
    for (let at = 0; at < ms; at += 10) {
      clock.advance(10);
      text += readAll();
    }
    return text;
  }

  it('writes at once what is taken', () => {
    const output = new LogOutput(writer, clock);
    output.write(line(1));
    output.write(line(2));
    expect(readAll()).toBe(line(1) + line(2));
  });

  it('keeps what a reader does not take, up to a limit, and counts the rest', async () => {
    const output = new LogOutput(writer, clock);
    const told: number[] = [];
    output.tellLeftOut = (lines) => told.push(lines);
    const written = LINES_WAITING_MAX + 1000;
    for (let number = 0; number < written; number += 1) output.write(line(number));
    const { linesLeftOut } = output;
    expect(linesLeftOut).toBeGreaterThan(500); // the pipe itself holds some
    expect(linesLeftOut).toBeLessThan(1000);
    clock.advance(10_000);
    expect(told).toEqual([]);

    let ended = false;
    const end = output.end(60_000).then(() => {
      ended = true;
    });
    const text = readWithin(20_000);
    const numbers = text.split('\n').slice(0, -1).map(Number);
    expect(numbers).toEqual([...Array(written - linesLeftOut).keys()]);
    expect(told).toEqual([linesLeftOut]);
    await end;
    expect(ended).toBe(true);
    output.write(line(7));
    expect(readAll()).toBe(line(7));
  });

  it('ends in time when nobody reads', async () => {
    const output = new LogOutput(writer, clock);
    await output.end(1000);
    for (let number = 0; number < 1000; number += 1) output.write(line(number));
    const end = output.end(1000);
    clock.advance(1000);
    await end;
  });

  it('goes on when the reader is gone, or the disk is full', () => {
    closeSync(reader);
    const full = openSync('/dev/full', 'w');
    for (const fd of [writer, full]) {
      const output = new LogOutput(fd, clock);
      for (let number = 0; number < 2 * LINES_WAITING_MAX; number += 1) output.write(line(number));
      clock.advance(1000);
      expect(output.linesLeftOut).toBe(LINES_WAITING_MAX);
    }
    closeSync(full);
  });

  it('writes long lines whole', () => {
    const output = new LogOutput(writer, clock);
    const long = `${'x'.repeat(300_000)}\n`;
    output.write(long);
    output.write(line(1));
    expect(readWithin(2000)).toBe(long + line(1));
  });

  it('appends to a file', () => {
    const path = join(folder, 'file');
    const fd = openSync(path, 'w');
    const output = new LogOutput(fd, clock);
    output.write(line(1));
    output.write(line(2));
    closeSync(fd);
    expect(readFileSync(path, 'latin1')).toBe(line(1) + line(2));
  });
});
