// QEMU's colo-compare and ours side by side: the same generator, the same sockets, in turn (A B A B ...), both pinned to
// one core and the generator to the other. Prints medians, spread and ratios.
//
//   npm run bench:peer [-- --pairs 5 --workloads bulk,small --flows 1,16 --scale 0.2 --latency --floor --json FILE]
//
// --floor adds a C program that only moves and compares bytes: about the highest ratio these sockets allow.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, driver, measured, ROOT, raise, show, summary } from './lib/tools.mjs';

const GENERATOR = build('generator', 'peer/generator.c');
const FLOOR = build('floor', 'peer/floor.c');
const READY_MS_MAX = 10_000;

/** Packets of one run, and how many may be outstanding. */
const WORKLOADS = {
  bulk: { packets: 400_000, window: 2048 },
  small: { packets: 1_000_000, window: 2048 },
  udp: { packets: 1_000_000, window: 2048 },
  split: { packets: 400_000, window: 2048 },
  div: { packets: 400_000, window: 2048 },
  gso: { packets: 20_000, window: 64 },
};
/** The issue's goals: QEMU's CPU time per packet over ours. */
const GOALS = { bulk: 8, small: 10, udp: 10, split: 8, div: 10, gso: 5 };
/** Where both VMs cut alike and nothing differs: all that the floor can compare. */
const FLOOR_WORKLOADS = ['bulk', 'small', 'udp', 'gso'];

const { values: options } = parseArgs({
  options: {
    pairs: { type: 'string', default: '5' },
    workloads: { type: 'string', default: Object.keys(WORKLOADS).join(',') },
    flows: { type: 'string', default: '16' },
    scale: { type: 'string', default: '1' },
    latency: { type: 'boolean', default: false },
    only: { type: 'string', default: 'qemu,ours' },
    floor: { type: 'boolean', default: false },
    node: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});

const PEERS = {
  qemu: (directory) => {
    const chardev = (name) => [
      '-chardev',
      `socket,id=${name},path=${join(directory, name)},server=on,wait=off`,
    ];
    const names = ['primary_in', 'secondary_in', 'outdev', 'notify'];
    return [
      'qemu-system-x86_64',
      ...['-machine', 'none', '-nographic', '-nodefaults', '-S', '-monitor', 'none'],
      ...names.flatMap(chardev),
      ...['-object', 'iothread,id=io'],
      '-object',
      'colo-compare,id=c,primary_in=primary_in,secondary_in=secondary_in,outdev=outdev,notify_dev=notify,iothread=io',
    ];
  },
  ours: (directory) => [
    process.execPath,
    ...options.node.split(' ').filter(Boolean),
    join(ROOT, 'bin', 'colo-proxy.js'),
    'colo-compare',
    ...['--primary-in', `unix:${join(directory, 'primary_in')},server`],
    ...['--secondary-in', `unix:${join(directory, 'secondary_in')},server`],
    ...['--outdev', `unix:${join(directory, 'outdev')},server`],
    ...['--notify-dev', `unix:${join(directory, 'notify')},server`],
  ],
  floor: (directory) => [FLOOR, directory],
};

async function until(condition) {
  const end = Date.now() + READY_MS_MAX;
  while (!condition()) {
    if (Date.now() > end) throw new Error('the peer did not get ready');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const isSocket = (path) => statSync(path, { throwIfNoEntry: false })?.isSocket() === true;

/** One run of one peer: a fresh process each time. */
async function run(peer, workload, flows, perSecond, packets, window) {
  const directory = mkdtempSync(join(tmpdir(), 'colo-bench-'));
  const [program, ...words] = measured(...PEERS[peer](directory));
  const child = spawn(program, words, { stdio: ['ignore', 'ignore', 'inherit'] });
  const closed = new Promise((resolve) => child.once('close', resolve));
  try {
    await until(() => isSocket(join(directory, 'notify')) && isSocket(join(directory, 'primary_in')));
    // The thread of frames alone: the runtime's helpers at real-time priority would run before it.
    raise(child.pid, peer === 'ours' ? [child.pid] : undefined);
    const numbers = [flows, packets, window, perSecond].map(String);
    const [first, ...rest] = driver(GENERATOR, directory, String(child.pid), workload, ...numbers);
    const generator = spawn(first, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    generator.stdout.on('data', (piece) => {
      text += piece;
    });
    const code = await new Promise((resolve) => generator.once('close', resolve));
    if (code !== 0) throw new Error(`the generator ended with ${code}`);
    return JSON.parse(text);
  } finally {
    // QEMU 7.2 has deadlocked on SIGTERM
    child.kill(peer === 'qemu' ? 'SIGKILL' : 'SIGTERM');
    await closed;
    rmSync(directory, { recursive: true });
  }
}

async function compare(workload, flows, perSecond) {
  const scale = Number(options.scale);
  const { packets, window } = WORKLOADS[workload];
  const count =
    perSecond > 0 ? Math.round(perSecond * 3 * Math.min(1, scale * 2)) : Math.round(packets * scale);
  const peers = options.only.split(',');
  if (options.floor && FLOOR_WORKLOADS.includes(workload)) peers.push('floor');
  const runs = Object.fromEntries(peers.map((peer) => [peer, []]));
  for (let pair = 0; pair < Number(options.pairs); pair += 1) {
    for (const peer of peers) {
      runs[peer].push(await run(peer, workload, flows, perSecond, count, window));
    }
  }
  const result = { workload, flows, perSecond };
  for (const [peer, list] of Object.entries(runs)) {
    result[peer] = Object.fromEntries(
      Object.keys(list[0]).map((key) => [key, summary(list.map((one) => one[key]))]),
    );
  }
  if (result.qemu && result.ours) {
    result.cpuRatio = result.qemu.cpuUs.median / result.ours.cpuUs.median;
    result.kppsRatio = result.ours.kpps.median / result.qemu.kpps.median;
  }
  if (result.qemu && result.floor) {
    result.cpuRatioFloor = result.qemu.cpuUs.median / result.floor.cpuUs.median;
  }
  report(result);
  return result;
}

function report({ workload, flows, perSecond, qemu, ours, floor, cpuRatio, kppsRatio, cpuRatioFloor }) {
  const name = `${workload}, ${flows} flows${perSecond > 0 ? `, ${perSecond}/s` : ''}`;
  for (const [peer, one] of Object.entries({ qemu, ours, floor })) {
    if (!one) continue;
    const what =
      perSecond > 0
        ? `p50 ${show(one.p50Us, 1)} p99 ${show(one.p99Us, 1)} p99.9 ${show(one.p999Us, 1)} us`
        : `${show(one.cpuUs)} us CPU/packet, ${show(one.kpps, 0)} kpps`;
    console.log(
      `${name.padEnd(26)} ${peer.padEnd(5)} ${what}, lost ${one.lost.median}, checkpoints ${one.checkpoints.median}`,
    );
  }
  if (cpuRatio && perSecond === 0) {
    const goal = flows === 16 ? ` (goal ${GOALS[workload]})` : '';
    console.log(
      `${''.padEnd(26)} ratio CPU ${cpuRatio.toFixed(1)} x${goal}, packets ${kppsRatio.toFixed(1)} x`,
    );
  }
  if (cpuRatioFloor && perSecond === 0) {
    console.log(`${''.padEnd(26)} ratio CPU of the floor ${cpuRatioFloor.toFixed(1)} x`);
  }
}

const results = [];
for (const workload of options.workloads.split(',').filter(Boolean)) {
  for (const flows of options.flows.split(',').map(Number)) results.push(await compare(workload, flows, 0));
}
if (options.latency) {
  for (const perSecond of [2000, 20_000]) results.push(await compare('small', 16, perSecond));
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
