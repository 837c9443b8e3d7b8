/**
 * Two proxies claim the same pair, each with a VM of its own, both on the clients' bridge. The first is frozen
 * (SIGSTOP) beyond its lease while its VM goes on sending, or cut from etcd; the second takes over; the first is woken,
 * or reaches etcd again: from the second's first frame on the client must see none of the first. With the lease check
 * taken out of a copy of the program the same test must fail, or it proves nothing.
 *
 *   node test/failover/split-brain.mjs [--arbiter file|etcd] [--how frozen,cut] [--rounds N]
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Agent } from '../qemu/lib/agent.mjs';
import { Child } from '../qemu/lib/child.mjs';
import { sleep, until } from '../qemu/lib/command.mjs';
import { BRIDGE, GUEST, Network } from '../qemu/lib/net.mjs';
import { CHECKOUT } from '../qemu/lib/paths.mjs';
import { missingRequirements } from '../qemu/lib/requirements.mjs';

const LEASE_MS = 2000;
const MARGIN_MS = 300;
const FRAME_EVERY_MS = 2;
const WAIT_MS_MAX = 20_000;
const ETCD_PORT = 2379;
/** The first proxy's own way to etcd, which can be cut. */
const FORWARD_PORT = 12_379;
const LEASE_CHECK = 'nowMs >= this.#mandate.heldUntilMs';

/** A VM as the proxy sees it: a stream link on which datagrams with its name come. */
class TalkingVm {
  constructor(name, socketPath) {
    this.name = name;
    this.sent = 0;
    this.server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.resume();
      const timer = setInterval(() => socket.write(frame(`${name} ${this.sent++}`)), FRAME_EVERY_MS);
      socket.on('close', () => clearInterval(timer));
    });
    this.server.listen(socketPath);
  }

  stop() {
    this.server.close();
  }
}

/** Length, Ethernet, IPv4 and UDP to everybody's port 9999. */
function frame(text) {
  const payload = Buffer.from(text);
  const ip = Buffer.alloc(20);
  ip.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]);
  ip.writeUInt16BE(28 + payload.length, 2);
  ip.set(GUEST.ipv4.split('.').map(Number), 12);
  ip.set([255, 255, 255, 255], 16);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += ip.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  ip.writeUInt16BE(~sum & 0xffff, 10);
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(9998, 0);
  udp.writeUInt16BE(9999, 2);
  udp.writeUInt16BE(8 + payload.length, 4);
  const ethernet = Buffer.concat([
    Buffer.alloc(6, 0xff),
    Buffer.from(GUEST.mac.replaceAll(':', ''), 'hex'),
    Buffer.from([8, 0]),
  ]);
  const bytes = Buffer.concat([ethernet, ip, udp, payload]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

class Stage {
  undo = [];

  constructor(arbiter) {
    this.arbiter = arbiter;
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'colo-brain-'));
    this.undo.push(() => fs.rmSync(this.folder, { recursive: true, force: true }));
    this.network = new Network(`${process.pid.toString(36)}-brain`);
  }

  async open() {
    this.undo.push(() => this.network.remove());
    await this.network.create();
    await this.network.createBridge();
    this.client = new Agent('client', this.network.client, this.folder);
    this.undo.push(() => this.client.stop());
    await this.client.do('startListening', { port: 9999 });
    if (this.arbiter === 'etcd') await this.#startEtcd();
  }

  async #startEtcd() {
    const url = `http://127.0.0.1:${ETCD_PORT}`;
    const args = ['--data-dir', path.join(this.folder, 'etcd'), '--log-level', 'error'];
    const command = ['ip', 'netns', 'exec', this.network.host, 'etcd', ...args];
    const etcd = new Child('etcd', command, { logFile: path.join(this.folder, 'etcd.log') });
    this.undo.push(() => etcd.stop('SIGKILL'));
    this.host = new Agent('host', this.network.host, this.folder);
    this.undo.push(() => this.host.stop());
    await until('etcd', WAIT_MS_MAX, () =>
      this.host.do('get', { url: `${url}/health` }).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
    await this.host.do('forward', { port: FORWARD_PORT, toPort: ETCD_PORT });
  }

  startProxy(name, program, etcdPort = ETCD_PORT) {
    const folder = path.join(this.folder, name);
    fs.mkdirSync(folder);
    const socket = path.join(folder, 'vm.net');
    const vm = new TalkingVm(name, socket);
    this.undo.push(() => vm.stop());
    const config = {
      name: 'brain',
      primary: { link: `stream:unix:${socket}` },
      secondary: { link: `stream:unix:${folder}/absent.net` },
      client: { link: `tap:colo${name}`, bridge: BRIDGE },
      runtime: { directory: folder },
      http: { listen: 'off' },
      failover: {
        arbiter: {
          kind: this.arbiter,
          ...(this.arbiter === 'file'
            ? { directory: this.folder }
            : { endpoints: `http://127.0.0.1:${etcdPort}` }),
          leaseMs: LEASE_MS,
          marginMs: MARGIN_MS,
          retryMs: 200,
        },
      },
    };
    const file = path.join(folder, 'config.yaml');
    fs.writeFileSync(file, JSON.stringify(config));
    const command = [
      'ip',
      'netns',
      'exec',
      this.network.host,
      process.execPath,
      program,
      'run',
      '--config',
      file,
    ];
    const child = new Child(name, command, { logFile: path.join(folder, 'log') });
    this.undo.push(() => {
      child.kill('SIGCONT');
      return child.stop('SIGKILL');
    });
    return child;
  }

  /** What the client got: [name, number, milliseconds]. */
  heard() {
    return this.client.do('heard');
  }

  async end() {
    for (const step of this.undo.splice(0).reverse()) await step();
  }
}

/**
 * @param {'frozen' | 'cut'} how
 * @returns {Promise<{late: number, ofB: number}>} frames of the first proxy after the first of its successor
 */
async function play(arbiter, how, program) {
  const stage = new Stage(arbiter);
  try {
    await stage.open();
    const count = async (name) => (await stage.heard()).filter(([who]) => who === name).length;
    const a = stage.startProxy('A', program, FORWARD_PORT);
    await until('output of A', WAIT_MS_MAX, async () => (await count('A')) > 100);
    stage.startProxy('B', program);
    await sleep(LEASE_MS * 1.5);
    if ((await count('B')) > 0) throw new Error('B spoke while A held the right');
    if (how === 'frozen') a.kill('SIGSTOP');
    else await stage.host.do('cutForward', { port: FORWARD_PORT });
    await until('output of B', WAIT_MS_MAX, async () => (await count('B')) > 100);
    if (how === 'frozen') a.kill('SIGCONT');
    else await stage.host.do('forward', { port: FORWARD_PORT, toPort: ETCD_PORT });
    await sleep(LEASE_MS);
    const heard = await stage.heard();
    const first = heard.findIndex(([who]) => who === 'B');
    const late = heard.slice(first).filter(([who]) => who === 'A').length;
    return { late, ofB: heard.length - first - late };
  } finally {
    await stage.end();
  }
}

/** The program with a right that, once won, does not run out by the clock. */
function withoutTheCheck() {
  const copy = fs.mkdtempSync(path.join(CHECKOUT, '.cache/no-lease-'));
  for (const part of ['dist', 'bin', 'native', 'assets', 'package.json', 'node_modules']) {
    const from = path.join(CHECKOUT, part);
    if (!fs.existsSync(from)) continue;
    if (part === 'dist') fs.cpSync(from, path.join(copy, part), { recursive: true });
    else if (part === 'bin') fs.cpSync(from, path.join(copy, part), { recursive: true });
    else fs.symlinkSync(from, path.join(copy, part));
  }
  const file = path.join(copy, 'dist/dataplane/data-plane.js');
  const text = fs.readFileSync(file, 'utf8');
  if (!text.includes(LEASE_CHECK)) throw new Error(`no "${LEASE_CHECK}" in ${file}`);
  fs.writeFileSync(file, text.replace(LEASE_CHECK, 'this.#mandate.heldUntilMs < 0'));
  return copy;
}

async function main() {
  const { values } = parseArgs({
    options: {
      arbiter: { type: 'string', default: 'file' },
      how: { type: 'string', default: 'frozen' },
      rounds: { type: 'string', default: '2' },
    },
  });
  const { arbiter } = values;
  const hows = values.how.split(',');
  if (arbiter !== 'etcd' && hows.includes('cut')) throw new Error('--how cut needs --arbiter etcd');
  const missing = await missingRequirements({ qemu: '7', log: console.log });
  if (arbiter === 'etcd' && !(await isThere('etcd'))) missing.push('etcd (Debian package etcd-server)');
  if (missing.length > 0) {
    console.log(`${'!'.repeat(70)}\nSKIPPED: split brain. Missing: ${missing.join(', ')}\n${'!'.repeat(70)}`);
    return 0;
  }
  fs.mkdirSync(path.join(CHECKOUT, '.cache'), { recursive: true });
  let misses = 0;
  for (const how of hows) {
    for (let round = 1; round <= Number(values.rounds); round++) {
      const { late, ofB } = await play(arbiter, how, path.join(CHECKOUT, 'bin/colo-proxy.js'));
      if (late > 0) misses++;
      console.log(
        `${late === 0 ? 'ok  ' : 'MISS'} ${arbiter}, ${how}: ${late} frames of the first proxy among ${ofB} of its successor`,
      );
    }
  }
  const copy = withoutTheCheck();
  try {
    for (const how of hows) {
      const { late } = await play(arbiter, how, path.join(copy, 'bin/colo-proxy.js'));
      if (late === 0) misses++;
      console.log(
        `${late > 0 ? 'ok  ' : 'MISS'} ${arbiter}, ${how}, without the lease check: the test sees ${late} frames of the first proxy`,
      );
    }
  } finally {
    fs.rmSync(copy, { recursive: true, force: true });
  }
  return misses === 0 ? 0 : 1;
}

function isThere(program) {
  return new Promise((resolve) => {
    const child = spawn(program, ['--version'], { stdio: 'ignore' });
    child.once('error', () => resolve(false));
    child.once('exit', () => resolve(true));
  });
}

process.exitCode = await main();
