/** Against a real process on a real unix socket: what its death looks like. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { QmpClient } from '../../../src/qmp/client.js';
import { realClock } from '../../../src/system/clock.js';
import { until } from '../checkpoint/scripted-peer.js';
import { GREETING } from './fake-qemu.js';

const MONITOR = `
  require('node:net').createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(process.argv[2] + '\\r\\n');
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
      for (let end; (end = text.indexOf('\\n')) !== -1; text = text.slice(end + 1)) {
        const { id, execute } = JSON.parse(text.slice(0, end));
        socket.write(JSON.stringify({ return: {}, id }) + '\\r\\n');
        if (execute === 'drop') socket.destroy();
      }
    });
  }).listen(process.argv[1]);
`;

let folder: string;
let processes: ChildProcess[];
let log: string[];
let client: QmpClient;

function start(): ChildProcess {
  const path = `${folder}/vm.qmp`;
  rmSync(path, { force: true });
  const child = spawn(process.execPath, ['-e', MONITOR, path, JSON.stringify(GREETING)], {
    stdio: 'inherit',
  });
  processes.push(child);
  return child;
}

beforeEach(() => {
  folder = mkdtempSync('/tmp/colo-qmp-');
  processes = [];
  log = [];
  client = new QmpClient({
    address: { unix: `${folder}/vm.qmp` },
    clock: realClock,
    limits: { reconnectMsMin: 10, reconnectMsMax: 50 },
    handlers: {
      connected: () => log.push('connected'),
      closed: () => log.push('closed'),
      refused: () => log.push('refused'),
    },
  });
});

afterEach(() => {
  client.stop();
  for (const child of processes) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

it('waits for the process, finds it killed, and takes up a new one', async () => {
  client.start();
  const first = start();
  await until(() => log.includes('connected'));
  await client.execute('query-status');
  first.kill('SIGKILL');
  await until(() => log.includes('refused'));
  expect(log).toEqual(['connected', 'closed', 'refused']);
  start();
  await until(() => log.length === 4);
  expect(log.at(-1)).toBe('connected');
});

it('tells a closed connection of a live process from a death', async () => {
  start();
  client.start();
  await until(() => log.includes('connected'));
  await client.execute('drop').catch(() => undefined);
  await until(() => log.length === 3);
  expect(log).toEqual(['connected', 'closed', 'connected']);
  expect(await client.probe()).toBe('alive');
});

it('never calls a stopped process dead: it accepts and says nothing', async () => {
  const child = start();
  client.start();
  await until(() => log.includes('connected'));
  client.stop();
  child.kill('SIGSTOP');
  client.start();
  expect(await client.probe()).toBe('unknown');
  expect(log).toEqual(['connected']);
});
