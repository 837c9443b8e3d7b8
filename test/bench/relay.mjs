// Throughput of the migration relay against a plain socat and against nothing in between, in turns; the processor time
// each takes for it, which a busy machine changes less; and what a checkpoint costs. Every part is a process of its own.
// node test/bench/relay.mjs [MiB] [--tcp] [--runs N] [--json FILE], after the build.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Relay } from '../../dist/checkpoint/relay.js';
import { upstreamDialect } from '../../dist/protocol/dialect-upstream.js';
import { DrivenPrimary, DrivenSecondary } from '../../dist/protocol/drive.js';
import { showAddress } from '../../dist/system/channel.js';
import { realClock } from '../../dist/system/clock.js';
import { streamTransport } from '../../dist/system/stream-channel.js';

const MIB = 1024 * 1024;
const CHECKPOINTS = 200;
const CHUNK_BYTES = 256 * 1024;
/** How every migration stream begins, and what a secondary says when it has loaded it. */
const MAGIC = Buffer.from('5145564d00000003', 'hex');
const READY = Buffer.alloc(4);
/** Of /proc/PID/stat, on every Linux (sysconf _SC_CLK_TCK). */
const TICK_MS = 10;
const driven = { dialect: upstreamDialect, clock: realClock, waitMsMax: 60_000 };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tcp: { type: 'boolean' }, runs: { type: 'string' }, json: { type: 'string' } },
});
const [role, ...words] = positionals;
const given = words.map((word) => JSON.parse(word));
if (role === 'relay') await relay(...given);
else if (role === 'sink') await sink(...given);
else if (role === 'secondary') await secondary(...given);
else await measure(Number(role ?? 2048) * MIB, Number(values.runs ?? 3));

function tell(address) {
  process.send({ address });
}

async function relay(listen, connect) {
  const made = new Relay({
    listen,
    connect,
    clock: realClock,
    dialect: upstreamDialect,
    onWord: () => undefined,
    onChannel: () => undefined,
    onViolation: (error) => console.error(error.message),
  });
  await made.start();
  tell(made.address);
}

/** Takes `bytes`, then says READY. */
async function sink(listen, bytes) {
  const server = await streamTransport.listen(listen, (channel) => {
    let got = 0;
    channel.attach({
      data: (chunk) => {
        got += chunk.length;
        if (got === bytes) channel.write(READY);
      },
      borrows: () => true,
      ended: () => channel.end(),
      drained: () => undefined,
      closed: () => undefined,
    });
  });
  tell(server.address);
}

async function secondary(listen) {
  const server = await streamTransport.listen(listen, (channel) => {
    new DrivenSecondary({ ...driven, channel }).serve().catch(() => undefined);
  });
  tell(server.address);
}

async function measure(bytes, runs) {
  const folder = mkdtempSync(join(tmpdir(), 'colo-bench-'));
  const children = [];
  let ports = 20_000 + (process.pid % 20_000);
  const fresh = () =>
    values.tcp ? { tcp: '127.0.0.1', port: ports++ } : { unix: join(folder, `${children.length}`) };
  const start = async (...what) => {
    const args = what.map((word) => (typeof word === 'string' ? word : JSON.stringify(word)));
    const child = spawn(process.execPath, [process.argv[1], ...args], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    children.push(child);
    return new Promise((resolve) => {
      child.once('message', ({ address }) => resolve({ ...address, pid: child.pid }));
    });
  };
  const socat = async (to) => {
    const at = fresh();
    const listen = values.tcp
      ? `TCP-LISTEN:${at.port},fork,reuseaddr,nodelay`
      : `UNIX-LISTEN:${at.unix},fork`;
    const connect = values.tcp ? `TCP:${to.tcp}:${to.port},nodelay` : `UNIX-CONNECT:${to.unix}`;
    const child = spawn('socat', ['-b', `${CHUNK_BYTES}`, listen, connect], { stdio: 'inherit' });
    children.push(child);
    for (;;) {
      try {
        const probe = await streamTransport.connect(at);
        probe.destroy();
        return { ...at, pid: child.pid };
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  };
  const result = { over: values.tcp ? 'tcp' : 'unix', mib: bytes / MIB, runs: [] };
  try {
    const paths = {};
    for (const [kind, far] of [
      ['bulk', await start('sink', fresh(), String(bytes))],
      ['words', await start('secondary', fresh())],
    ]) {
      paths[kind] = { direct: far, socat: await socat(far), relay: await start('relay', fresh(), far) };
    }
    for (let run = 0; run < runs; run++) {
      const figures = {};
      // In turns, and another one first each time: a machine that is busy for a while is so for all.
      const names = Object.keys(paths.bulk);
      for (const name of [...names.slice(run % 3), ...names.slice(0, run % 3)]) {
        const { pid } = paths.bulk[name];
        const beforeMs = processorMs(pid);
        const mibPerSecond = await bulk(paths.bulk[name], bytes);
        const cpuMsPerGib = (processorMs(pid) - beforeMs) / (bytes / 1024 / MIB);
        figures[name] = { mibPerSecond, cpuMsPerGib, checkpointMs: await checkpoints(paths.words[name]) };
      }
      figures.share = figures.relay.mibPerSecond / figures.socat.mibPerSecond;
      result.runs.push(figures);
      const text = names.map(
        (name) =>
          `${name} ${figures[name].mibPerSecond.toFixed(0)} MiB/s (${figures[name].cpuMsPerGib.toFixed(0)} ms of processor a GiB), checkpoint ${figures[name].checkpointMs.toFixed(2)} ms`,
      );
      console.log(`${result.over}: ${text.join('; ')}; relay is ${figures.share.toFixed(2)} of socat`);
    }
    const shares = result.runs.map(({ share }) => share).sort((a, b) => a - b);
    result.shareMedian = shares[shares.length >> 1];
    console.log(`${result.over}: median ${result.shareMedian.toFixed(2)} of socat`);
    if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(result, null, 2));
  } finally {
    for (const child of children) child.kill();
    rmSync(folder, { recursive: true });
  }
}

/** What a process and those that it has started have used, waited for or not; for `direct` it is the sink's. */
function processorMs(pid) {
  let ticks = 0;
  const parents = new Map();
  const used = new Map();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const fields = readFileSync(`/proc/${name}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ')
        .map(Number);
      parents.set(Number(name), fields[1]);
      used.set(Number(name), fields[11] + fields[12] + fields[13] + fields[14]);
    } catch {
      // it has ended meanwhile
    }
  }
  for (const [one, parent] of parents) if (one === pid || parent === pid) ticks += used.get(one);
  return ticks * TICK_MS;
}

/** A migration stream of `bytes` until READY comes back, in MiB/s. */
async function bulk(address, bytes) {
  const channel = await streamTransport.connect(address);
  const zeros = Buffer.alloc(CHUNK_BYTES);
  return new Promise((resolve, reject) => {
    const fromMs = performance.now();
    let left = bytes - MAGIC.length;
    const more = () => {
      while (left > 0) {
        const chunk = left < CHUNK_BYTES ? zeros.subarray(0, left) : zeros;
        left -= chunk.length;
        if (!channel.write(chunk)) return;
      }
    };
    channel.attach({
      data: () => {
        resolve(bytes / MIB / ((performance.now() - fromMs) / 1000));
        channel.destroy();
      },
      ended: () => undefined,
      drained: more,
      closed: () => reject(new Error(`${showAddress(address)} was closed early`)),
    });
    if (channel.write(MAGIC)) more();
  });
}

/** The median whole checkpoint with almost no state, in milliseconds. */
async function checkpoints(address) {
  const primary = new DrivenPrimary({ ...driven, channel: await streamTransport.connect(address) });
  await primary.migrate(1_000_000);
  const wholeMs = [];
  for (let index = 0; index < CHECKPOINTS; index++) {
    wholeMs.push((await primary.checkpoint({ ramBytes: 1000, deviceBytes: 1000 })).wholeMs);
  }
  primary.close();
  return wholeMs.sort((a, b) => a - b)[CHECKPOINTS >> 1];
}
