// The whole path over TAPs and packet sockets, in a network namespace of its own: packets per second and CPU time per
// packet, latency, TCP throughput; beside the same I/O without comparing and a kernel bridge, in turn.
//
//   npm run bench [-- --rounds 3 --parts packets,latency,tcp,watched --scale 0.5 --json FILE]
//   npm run bench -- --parts soak --minutes 10
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, Child, driver, measured, ROOT, raise, show, sleep, summary } from './lib/tools.mjs';
import { inside, ip, ns, withNamespaces } from './net/namespaces.mjs';
import { WATCHED_VARIANTS, watchedRun } from './net/watched.mjs';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    parts: { type: 'string', default: 'packets,latency,tcp,watched' },
    minutes: { type: 'string', default: '1' },
    scale: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const ROUNDS = Number(options.rounds);
const SCALE = Number(options.scale);
const BUSY_POLL_US = '50';
const PLANE = join(ROOT, 'test/bench/net/plane.mjs');
const generator = build('net-generator', 'net/generator.c');
const tcp = build('tcp', 'net/tcp.c');

/** Fewer may be out than a TAP's queue holds (1000 frames). */
const PACKETS = [
  { name: 'small', kind: 'out', workload: 'small', packets: 500_000, window: 512 },
  { name: 'bulk', kind: 'out', workload: 'bulk', packets: 300_000, window: 512 },
  { name: 'udp', kind: 'out', workload: 'udp', packets: 500_000, window: 512 },
  { name: 'mirror', kind: 'mirror', workload: 'small', packets: 500_000, window: 512 },
  { name: 'gso', kind: 'out', workload: 'gso', packets: 20_000, window: 48 },
];
const RATES = [2000, 20_000];
const FLOWS = '16';
const TCP_SECONDS = 4;
/** Until then V8 is still replacing code. */
const TCP_WARM_SECONDS = 8;
const PORT = '5001';
const SOAK_SAMPLE_MS = 15_000;

async function startPlane(kind, primary, secondary, busyPollUs, ...wishes) {
  const words = [process.execPath, PLANE, kind, primary, secondary, 'tap:colo0', busyPollUs];
  const plane = new Child(inside('host', measured(...words, ...wishes)));
  await plane.line();
  raise(plane.pid, [plane.pid]); // the thread of frames alone
  return plane;
}

/** TAPs get their carrier when the generator opens them. */
async function untilUp(plane) {
  await sleep(300);
  for (let tries = 0; plane !== undefined && !JSON.parse(await plane.ask()).isUp; tries += 1) {
    if (tries === 50) throw new Error('the links did not come up');
    await sleep(100);
  }
}

/** A bridge of the kernel in the proxy's place, with one VM. */
function bridge(...ports) {
  ip('-n', ns('host'), 'link', 'add', 'br0', 'type', 'bridge');
  for (const port of ports) {
    ip('-n', ns('host'), 'link', 'set', port, 'master', 'br0');
    ip('-n', ns('host'), 'link', 'set', port, 'up');
  }
  ip('-n', ns('host'), 'link', 'set', 'br0', 'up');
}

/** One run of the generator through what `variant` names. */
async function packetRun(variant, { kind, workload, packets, window, perSecond = 0 }) {
  return withNamespaces(['host'], async () => {
    let plane;
    let places = ['colo0', 'tap0', 'tap1'];
    if (variant === 'bridge') {
      ip('-n', ns('host'), 'tuntap', 'add', 'tap0', 'mode', 'tap', 'vnet_hdr');
      ip('-n', ns('host'), 'link', 'add', 'client0', 'type', 'veth', 'peer', 'name', 'client1');
      ip('-n', ns('host'), 'link', 'set', 'client0', 'up');
      bridge('tap0', 'client1');
      places = ['client0', 'tap0'];
    } else {
      const busyPollUs = variant === 'busy-polling' ? BUSY_POLL_US : '0';
      plane = await startPlane(
        variant === 'uncompared' ? 'uncompared' : 'compared',
        'tap0',
        'tap1',
        busyPollUs,
        'create',
      );
    }
    try {
      const numbers = [FLOWS, Math.round(packets), window, perSecond].map(String);
      const pid = String(plane?.pid ?? 0);
      const words = inside('host', driver(generator, kind, pid, workload, ...numbers, ...places));
      const child = new Child(words);
      await child.line();
      await untilUp(plane);
      const result = JSON.parse(await child.ask('go'));
      await child.end();
      if (plane === undefined) return result;
      const seen = JSON.parse(await plane.ask());
      if (seen.divergences > 0) console.error(`${workload}: ${seen.divergences} divergences: ${seen.latest}`);
      return { ...result, rssMiB: seen.rssMiB };
    } finally {
      await plane?.end();
    }
  });
}

const VARIANTS = {
  packets: ['compared', 'uncompared', 'bridge'],
  latency: ['compared', 'busy-polling', 'uncompared', 'bridge'],
  tcp: ['compared', 'uncompared', 'bridge', 'two guests'],
};

/** All variants in turn, ROUNDS times; medians by variant. */
async function inTurn(variants, run) {
  const runs = Object.fromEntries(variants.map((variant) => [variant, []]));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const variant of variants) runs[variant].push(await run(variant));
  }
  return Object.fromEntries(
    Object.entries(runs).map(([variant, list]) => [
      variant,
      Object.fromEntries(Object.keys(list[0]).map((key) => [key, summary(list.map((one) => one[key]))])),
    ]),
  );
}

async function packets() {
  const rows = [];
  for (const load of PACKETS) {
    const row = await inTurn(VARIANTS.packets, (variant) =>
      packetRun(variant, { ...load, packets: load.packets * SCALE }),
    );
    rows.push({ name: load.name, ...row });
    for (const variant of VARIANTS.packets) {
      const { kpps, cpuUs, lost } = row[variant];
      const cpu = variant === 'bridge' ? '' : `, ${show(cpuUs)} us CPU/packet`;
      console.log(
        `${load.name.padEnd(8)} ${variant.padEnd(12)} ${show(kpps, 0)} kpps${cpu}, lost ${lost.median}`,
      );
    }
    const ratio = row.compared.kpps.median / row.uncompared.kpps.median;
    console.log(`${''.padEnd(8)} compared to uncompared ${ratio.toFixed(2)} (goal 0.85)`);
  }
  return rows;
}

async function latency() {
  const rows = [];
  for (const perSecond of RATES) {
    const load = { kind: 'out', workload: 'small', packets: perSecond * 4 * SCALE, window: 512, perSecond };
    const row = await inTurn(VARIANTS.latency, (variant) => packetRun(variant, load));
    rows.push({ name: `${perSecond}/s`, ...row });
    for (const variant of VARIANTS.latency) {
      const { p50Us, p99Us, p999Us, cpuUs } = row[variant];
      const text = `p50 ${show(p50Us, 1)} p99 ${show(p99Us, 1)} p99.9 ${show(p999Us, 1)} us`;
      const cpu = variant === 'bridge' ? '' : `, ${cpuUs.median.toFixed(1)} us CPU/packet`;
      console.log(`${`${perSecond}/s`.padEnd(8)} ${variant.padEnd(12)} ${text}${cpu}`);
    }
  }
  return rows;
}

/**
 * Two kernels play the VMs, an address on the host the client. `bridge`: the kernel's, with one of them. `two guests`: the
 * same with both, each with a client of its own: as much work for the guests as the proxy makes them do.
 */
async function tcpRun(variant) {
  const isOfTwo = variant === 'two guests';
  const addresses = isOfTwo ? ['10.9.0.2', '10.9.0.3'] : ['10.9.0.2'];
  return withNamespaces(['host', 'primary', 'secondary'], async () => {
    for (const [index, label] of ['primary', 'secondary'].entries()) {
      const port = `vm${index}`;
      ip('-n', ns('host'), 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns(label));
      ip('-n', ns(label), 'link', 'set', 'eth0', 'address', `52:54:00:00:00:0${isOfTwo ? index : 7}`, 'up');
      ip('-n', ns(label), 'addr', 'add', `${addresses[index] ?? addresses[0]}/24`, 'dev', 'eth0');
      ip('-n', ns('host'), 'link', 'set', port, 'up');
    }
    const children = ['primary', 'secondary'].map((label) => {
      return new Child(inside(label, [tcp, 'serve', PORT]));
    });
    let plane;
    try {
      const isBridge = isOfTwo || variant === 'bridge';
      if (isBridge) bridge('vm0', ...(isOfTwo ? ['vm1'] : []));
      else plane = await startPlane(variant, 'vm0', 'vm1', '0');
      ip('-n', ns('host'), 'addr', 'add', '10.9.0.1/24', 'dev', isBridge ? 'br0' : 'colo0');
      await untilUp(plane);
      const stream = async (address, kind, seconds) => {
        const client = new Child(inside('host', [tcp, kind, address, PORT, String(seconds)]));
        const gbits = Number(await client.line());
        await client.end();
        return gbits;
      };
      /** Gbit/s of one stream. */
      const streams = async (kind, seconds) => {
        const rates = await Promise.all(addresses.map((address) => stream(address, kind, seconds)));
        return rates.reduce((sum, rate) => sum + rate) / rates.length;
      };
      if (!isBridge) for (const kind of ['d', 'u']) await streams(kind, TCP_WARM_SECONDS);
      const result = { downGbits: await streams('d', TCP_SECONDS), upGbits: await streams('u', TCP_SECONDS) };
      if (plane !== undefined) {
        const seen = JSON.parse(await plane.ask());
        if (seen.divergences > 0) console.error(`tcp: ${seen.divergences} divergences: ${seen.latest}`);
      }
      return result;
    } finally {
      await plane?.end();
      for (const child of children) await child.kill();
    }
  });
}

async function tcpThroughput() {
  const row = await inTurn(VARIANTS.tcp, tcpRun);
  for (const variant of VARIANTS.tcp) {
    const { downGbits, upGbits } = row[variant];
    console.log(`tcp      ${variant.padEnd(12)} down ${show(downGbits)} up ${show(upGbits)} Gbit/s`);
  }
  for (const [variant, goal] of [
    ['bridge', ' (goal 0.75)'],
    ['two guests', ''],
  ]) {
    const ratio = (key) => (row.compared[key].median / row[variant][key].median).toFixed(2);
    const text = `down ${ratio('downGbits')}, up ${ratio('upGbits')}${goal}`;
    console.log(`${''.padEnd(8)} compared to ${variant}: ${text}`);
  }
  return [{ name: 'tcp', ...row }];
}

async function watched() {
  const rows = [];
  for (const perSecond of RATES) {
    const packets = perSecond * 5 * SCALE;
    const row = await inTurn(WATCHED_VARIANTS, (variant) => watchedRun(variant, perSecond, packets));
    rows.push({ name: `${perSecond}/s`, ...row });
    for (const [variant, { p50Us, p99Us, p999Us, maxUs, done }] of Object.entries(row)) {
      console.log(
        `${`${perSecond}/s`.padEnd(8)} ${variant.padEnd(12)} p50 ${show(p50Us, 1)} p99 ${show(p99Us, 1)} p99.9 ${show(p999Us, 1)} worst ${show(maxUs, 0)} us, beside ${done.median}`,
      );
    }
  }
  return rows;
}

/** Full load for minutes: memory must be flat, pauses short. */
async function soak() {
  const rows = [];
  await withNamespaces(['host'], async () => {
    const plane = await startPlane('compared', 'tap0', 'tap1', '0', 'create', 'delays');
    const endAt = Date.now() + Number(options.minutes) * 60_000;
    try {
      const numbers = [FLOWS, 1_000_000_000, 512, 0].map(String);
      const places = ['colo0', 'tap0', 'tap1'];
      const child = new Child(
        inside('host', driver(generator, 'out', String(plane.pid), 'small', ...numbers, ...places)),
      );
      await child.line();
      await untilUp(plane);
      child.process.stdin.write('go\n');
      let before = 0;
      for (let sample = 0; Date.now() < endAt; sample += 1) {
        const from = performance.now();
        await sleep(Math.min(SOAK_SAMPLE_MS, endAt - Date.now()));
        const seen = JSON.parse(await plane.ask());
        const frames = seen.links.client.framesSent;
        const kpps = (frames - before) / (performance.now() - from);
        before = frames;
        rows.push({ kpps, ...seen });
        console.log(
          `${String(sample).padStart(4)}  ${kpps.toFixed(0)} kpps, RSS ${seen.rssMiB.toFixed(0)} MiB, heap ${seen.heapMiB.toFixed(1)} MiB, event-loop delay p99.9 ${seen.delayP999Ms.toFixed(2)} ms, ${seen.gcPauses} collections, longest ${seen.gcPauseMsMax.toFixed(2)} ms, divergences ${seen.divergences}`,
        );
      }
      await child.kill();
    } finally {
      await plane.end();
    }
  });
  return rows;
}

const parts = { packets, latency, tcp: tcpThroughput, watched, soak };
const results = {};
for (const part of options.parts.split(',')) results[part] = await parts[part]();
if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
