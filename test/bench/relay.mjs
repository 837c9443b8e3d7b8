// Throughput of the migration relay against a plain socat, and what a checkpoint costs through it; each in a process
// of its own, between a driven primary and a driven secondary. node test/bench/relay.mjs [MiB], after the build.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Relay } from '../../dist/checkpoint/relay.js';
import { upstreamDialect } from '../../dist/protocol/dialect-upstream.js';
import { DrivenPrimary, DrivenSecondary } from '../../dist/protocol/drive.js';
import { realClock } from '../../dist/system/clock.js';
import { socketTransport } from '../../dist/system/socket-channel.js';

const RUNS = 3;
const CHECKPOINTS = 200;
const driven = { dialect: upstreamDialect, clock: realClock, waitMsMax: 60_000 };

const role = process.argv[2];
if (role === 'relay') await relay(process.argv[3], process.argv[4]);
else if (role === 'secondary') await secondary(process.argv[3]);
else await measure(Number(role ?? 1024) * 1024 * 1024);

async function relay(listen, connect) {
  const relay = new Relay({
    listen: { unix: listen },
    connect: { unix: connect },
    clock: realClock,
    dialect: upstreamDialect,
    onWord: () => undefined,
    onChannel: () => undefined,
    onViolation: (error) => console.error(error.message),
  });
  await relay.start();
}

async function secondary(listen) {
  await socketTransport.listen({ unix: listen }, (channel) => {
    new DrivenSecondary({ ...driven, channel }).serve().catch(() => undefined);
  });
}

async function measure(bytes) {
  const folder = mkdtempSync(join(tmpdir(), 'colo-bench-'));
  const children = [];
  const start = async (socket, command, ...words) => {
    children.push(spawn(command, words, { stdio: 'inherit' }));
    while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const path = (name) => join(folder, name);
  const self = process.argv[1];
  try {
    await start(path('s'), process.execPath, self, 'secondary', path('s'));
    await start(path('relay'), process.execPath, self, 'relay', path('relay'), path('s'));
    await start(
      path('socat'),
      'socat',
      '-b',
      '262144',
      `UNIX-LISTEN:${path('socat')},fork`,
      `UNIX-CONNECT:${path('s')}`,
    );
    for (let run = 0; run < RUNS; run++) {
      const figures = [];
      for (const name of ['s', 'socat', 'relay']) figures.push(await one(path(name), bytes));
      const [direct, socat, ours] = figures;
      const text = ({ mibPerSecond, pauseMs }) =>
        `${mibPerSecond.toFixed(0)} MiB/s, checkpoint ${pauseMs.toFixed(2)} ms`;
      console.log(`direct: ${text(direct)}; socat: ${text(socat)}; relay: ${text(ours)}`);
    }
  } finally {
    for (const child of children) child.kill();
    rmSync(folder, { recursive: true });
  }
}

/** The bulk of one big state, then the median whole checkpoint with almost none. */
async function one(socket, bytes) {
  const primary = new DrivenPrimary({ ...driven, channel: await socketTransport.connect({ unix: socket }) });
  await primary.migrate(1_000_000);
  const { pauseMs } = await primary.checkpoint({ ramBytes: bytes, deviceBytes: 1000 });
  const small = [];
  for (let index = 0; index < CHECKPOINTS; index++) {
    small.push((await primary.checkpoint({ ramBytes: 1000, deviceBytes: 1000 })).wholeMs);
  }
  primary.close();
  small.sort((a, b) => a - b);
  return { mibPerSecond: bytes / 1024 / 1024 / (pauseMs / 1000), pauseMs: small[CHECKPOINTS >> 1] };
}
