/**
 * One QMP session with a QEMU that has no machine: what the proxy asks, and what QEMU answers. The unit tests play the
 * recording; here it is held against the real one. `node test/qemu/lib/qmp-session.mjs` records anew.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { sleep } from './command.mjs';
import { CHECKOUT } from './paths.mjs';

const RECORDING = path.join(CHECKOUT, 'test/fixtures/qmp/session.json');
const START_MS_MAX = 10_000;

/** In this order: the answers depend on what was asked before. */
const QUESTIONS = [
  ['qmp_capabilities', { enable: ['oob'] }],
  ['query-version'],
  ['query-status'],
  ['query-migrate'],
  ['query-colo-status'],
  ['x-colo-lost-heartbeat'],
  ['migrate-set-capabilities', { capabilities: [{ capability: 'x-colo', state: true }] }],
  ['migrate-set-parameters', { 'x-checkpoint-delay': 4_294_967_295, 'max-bandwidth': 1_073_741_824 }],
  ['migrate-set-parameters', { 'x-checkpoint-delay': 4_294_967_296 }],
  ['migrate-incoming', { uri: 'unix:/nowhere' }],
  ['yank', { instances: [{ type: 'migration' }] }],
  ['no-such-command'],
];

/** @returns {Promise<{greeting: object, exchanges: {ask: string, args?: object, answer: object}[]}>} */
export async function talkWithQemu(program = 'qemu-system-x86_64') {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'colo-qmp-'));
  const socketPath = path.join(folder, 'qmp');
  const args = ['-machine', 'none', '-nodefaults', '-display', 'none', '-S'];
  const child = spawn(program, [...args, '-qmp', `unix:${socketPath},server=on,wait=off`], {
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    const socket = await connected(socketPath);
    const lines = linesOf(socket);
    const greeting = withoutVersion(await lines.next());
    const exchanges = [];
    for (const [ask, args] of QUESTIONS) {
      socket.write(`${JSON.stringify({ execute: ask, ...(args && { arguments: args }) })}\n`);
      const answer = await lines.next();
      exchanges.push({
        ask,
        ...(args && { args }),
        answer: ask === 'query-version' ? { return: shapeOf(answer.return) } : answer,
      });
    }
    socket.destroy();
    return { greeting, exchanges };
  } finally {
    child.kill('SIGKILL');
    await ended;
    fs.rmSync(folder, { recursive: true });
  }
}

/** What differs between the recording and this QEMU, in words. */
export async function differencesFromRecording() {
  const recorded = JSON.parse(fs.readFileSync(RECORDING, 'utf8'));
  const real = await talkWithQemu();
  const differs = (a, b) => JSON.stringify(a) !== JSON.stringify(b);
  return [
    ...(differs(recorded.greeting, real.greeting) ? [`greeting: ${JSON.stringify(real.greeting)}`] : []),
    ...recorded.exchanges
      .map(({ ask, answer }, index) => ({ ask, answer, now: real.exchanges[index]?.answer }))
      .filter(({ answer, now }) => differs(answer, now))
      .map(({ ask, now }) => `${ask}: ${JSON.stringify(now)}`),
  ];
}

/** The socket's file is there before QEMU listens on it. */
async function connected(socketPath) {
  const endAtMs = performance.now() + START_MS_MAX;
  for (;;) {
    const socket = net.connect(socketPath);
    const error = await new Promise((resolve) => socket.once('connect', resolve).once('error', resolve));
    if (error === undefined) return socket;
    if (performance.now() > endAtMs) throw new Error(`QEMU did not open its monitor: ${error.code}`);
    await sleep(10);
  }
}

/** Messages but for events, one at a time. */
function linesOf(socket) {
  let text = '';
  const waiting = [];
  const messages = [];
  socket.setEncoding('utf8');
  socket.on('data', (chunk) => {
    const parts = (text + chunk).split('\n');
    text = parts.pop();
    for (const message of parts.map((line) => JSON.parse(line)).filter((one) => !one.event)) {
      const resolve = waiting.shift();
      if (resolve) resolve(message);
      else messages.push(message);
    }
  });
  return { next: async () => messages.shift() ?? new Promise((resolve) => waiting.push(resolve)) };
}

/** The distributor's suffix and the last number change with every update. */
function withoutVersion(greeting) {
  return { QMP: { ...greeting.QMP, version: shapeOf(greeting.QMP.version) } };
}

function shapeOf(version) {
  const { qemu } = version;
  return { qemu: { ...qemu, micro: 1 }, package: typeof version.package };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  fs.writeFileSync(RECORDING, `${JSON.stringify(await talkWithQemu(), null, 2)}\n`);
}
