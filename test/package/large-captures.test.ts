/** Captures that are larger than the memory should be: read in pieces. */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { buildTcp } from '../../src/wire/build.js';
import { TcpFlag } from '../../src/wire/frame-view.js';

const GIB = 1024 ** 3;
const RSS_MIB_MAX = 300;
const folder = mkdtempSync(join(tmpdir(), 'colo-large-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const guest = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 80, destinationPort: 4000 };
const client = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 4000, destinationPort: 80 };

/** A real connection at the very beginning and end; a sparse gibibyte of other frames in between. */
function largeCapture(name: string, lastByte: string): string {
  const path = join(folder, name);
  const file = openSync(path, 'w');
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(1, 20);
  let at = 0;
  let seconds = 1_700_000_000;
  const put = (bytes: Buffer): void => {
    writeSync(file, bytes, 0, bytes.length, at);
    at += bytes.length;
  };
  const record = (frameBytes: number): Buffer => {
    const head = Buffer.alloc(16);
    head.writeUInt32LE(seconds, 0);
    head.writeUInt32LE(frameBytes, 8);
    head.writeUInt32LE(frameBytes, 12);
    return head;
  };
  const frame = (bytes: Buffer): void => put(Buffer.concat([record(bytes.length), bytes]));
  put(header);
  frame(buildTcp({ ...client, seq: 99, ack: 0, flags: TcpFlag.SYN }));
  frame(buildTcp({ ...guest, seq: 999, ack: 100, flags: TcpFlag.SYN | TcpFlag.ACK }));
  for (seconds++; at < GIB; ) {
    put(record(262_144));
    at += 262_144;
  }
  ftruncateSync(file, at);
  frame(
    buildTcp({ ...guest, seq: 1000, ack: 100, flags: TcpFlag.ACK, payload: Buffer.from(`same ${lastByte}`) }),
  );
  closeSync(file);
  return path;
}

it('compare reads two captures of a gibibyte each with little memory, to their ends', () => {
  const paths = [largeCapture('primary.pcap', 'p'), largeCapture('secondary.pcap', 's')];
  const probe = join(folder, 'probe.mjs');
  writeFileSync(
    probe,
    `const { main } = await import(${JSON.stringify(`${process.cwd()}/dist/cli/main.js`)});
const io = { env: {}, out: (text) => process.stdout.write(text), err: () => {} };
const code = await main(process.argv.slice(2), io);
console.log(JSON.stringify({ code, rssMiB: process.resourceUsage().maxRSS / 1024 }));`,
  );
  const { stdout } = spawnSync(process.execPath, [probe, 'compare', ...paths], { encoding: 'utf8' });
  const lines = stdout.trim().split('\n');
  expect(lines[0]).toBe('guest 10.0.0.2: 2 frames of the primary, 2 of the secondary, 1 of clients');
  expect(lines[2]).toMatch(/^differs: the bytes differ \(tcp 10\.0\.0\.2:80 > 10\.0\.0\.1:4000 at byte 5\)/);
  const { code, rssMiB } = JSON.parse(lines.at(-1)!);
  process.stderr.write(`compare of 2 x 1 GiB: ${rssMiB.toFixed(0)} MiB resident at most\n`);
  expect(code).toBe(1);
  expect(rssMiB).toBeLessThan(RSS_MIB_MAX);
});
