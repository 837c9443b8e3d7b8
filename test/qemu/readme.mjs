/**
 * README's "Two real VMs", as it is written there: its blocks of commands are taken out of the file and run in a network
 * namespace, with the laboratory's guest in place of `VM="..."`. Then a client counts while the primary dies.
 *
 *   node test/qemu/readme.mjs
 *
 * Exit code 0: it works as written, or the laboratory cannot be had here (said loudly); 1: it does not.
 */
import fs from 'node:fs';
import path from 'node:path';
import { Agent } from './lib/agent.mjs';
import { Child } from './lib/child.mjs';
import { until } from './lib/command.mjs';
import { guestImage } from './lib/guest-image.mjs';
import { GUEST, Network } from './lib/net.mjs';
import { CHECKOUT, PROXY } from './lib/paths.mjs';
import { findQemu } from './lib/qemu.mjs';
import { missingRequirements } from './lib/requirements.mjs';
import { RunFolder } from './lib/run-folder.mjs';

const BOOT_MS_MAX = 120_000;
const PROTECT_MS_MAX = 90_000;
const FAILOVER_MS_MAX = 30_000;
const ADMIN = 'http://127.0.0.1:9120';
const VM_LINE = /^VM=.*$/m;

/** The blocks of commands under the heading "Two real VMs". */
function readmeBlocks() {
  const text = fs.readFileSync(path.join(CHECKOUT, 'README.md'), 'utf8');
  const chapter = /^## Two real VMs$([\s\S]*?)^## /m.exec(text)?.[1] ?? '';
  const blocks = [...chapter.matchAll(/^```\n([\s\S]*?)^```$/gm)].map(([, block]) => block);
  if (blocks.length !== 2 || !VM_LINE.test(blocks[1]))
    throw new Error('README has other blocks than expected');
  return blocks;
}

/** What a user has in the PATH; QEMU as this machine can run it. */
function programs(folder, namespace, qemu) {
  const bin = path.join(folder, 'bin');
  fs.mkdirSync(bin);
  const write = (name, command) => {
    fs.writeFileSync(path.join(bin, name), `#!/bin/sh\nexec ${command} "$@"\n`, { mode: 0o755 });
  };
  write('colo-proxy', `${process.execPath} ${PROXY}`);
  // the script is in the namespace already
  const command = qemu.command(namespace, []).slice(['ip', 'netns', 'exec', namespace].length);
  write('qemu-system-x86_64', command.map((word) => word.replace(/^qemu-/, '/usr/bin/qemu-')).join(' '));
  return bin;
}

function script(bin, qemu, image) {
  const [start, vms] = readmeBlocks();
  const kernelLine = `console=ttyS0 quiet panic=0 lab.ipv4=${GUEST.ipv4}/24 lab.ipv6=${GUEST.ipv6}/64`;
  const vm = [
    '-machine pc -cpu qemu64 -display none -nodefaults -no-user-config -serial null',
    `-m ${qemu.memory} -kernel ${image.kernel} -initrd ${image.initrd} -global virtio-net-pci.romfile=`,
  ].join(' ');
  return `
PATH=${bin}:$PATH
mount -t tmpfs tmpfs /run
${start}
until ip link show tap1 >/dev/null 2>&1; do sleep 0.1; done
${vms.replace(VM_LINE, `VM="${vm}"`).replaceAll('qemu-system-x86_64 $VM', `qemu-system-x86_64 -append '${kernelLine}' $VM`)}
jobs -p > ${path.join(bin, '..', 'pids')}
wait
`;
}

async function play(runFolder) {
  const { logs } = runFolder.newFolders('readme');
  const qemu = await findQemu('7', 'tcg');
  const network = new Network(`${runFolder.id}-readme`);
  runFolder.atEnd(() => network.remove());
  await network.create();
  await network.createBridge();
  const client = new Agent('client-agent', network.client, logs);
  runFolder.atEnd(() => client.stop());
  const host = new Agent('host-agent', network.host, logs);
  runFolder.atEnd(() => host.stop());

  const bin = programs(logs, network.host, qemu);
  const file = path.join(logs, 'readme.sh');
  fs.writeFileSync(file, script(bin, qemu, await guestImage()));
  const pids = () => fs.readFileSync(path.join(logs, 'pids'), 'utf8').trim().split('\n').map(Number);
  const shell = new Child('readme', ['ip', 'netns', 'exec', network.host, 'bash', file], {
    logFile: path.join(logs, 'readme.log'),
  });
  runFolder.atEnd(() => shell.stop());
  runFolder.atEnd(() => {
    for (const pid of pids()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (error.code !== 'ESRCH') throw error;
      }
    }
  });

  const told = async (what, msMax, accept) => {
    await until(what, msMax, async () => {
      if (!shell.isRunning) throw new Error(`the commands ended: ${shell.logText()}`);
      return accept();
    }).catch((error) => {
      throw new Error(`${error.message}\n${shell.logText().slice(-1500)}`);
    });
    console.log(`ok  ${what}`);
  };
  const get = (url) => host.do('get', { url }).catch(() => ({ status: 0, text: '' }));
  await told('the guest serves', BOOT_MS_MAX, async () => {
    const answer = await client
      .do('get', { url: `http://${GUEST.ipv4}/64k.bin` })
      .catch(() => ({ status: 0 }));
    return answer.status === 200;
  });
  await told('the pair is protected: /readyz says ready', PROTECT_MS_MAX, async () => {
    return (await get(`${ADMIN}/readyz`)).text === 'ready\n';
  });
  await client.do('openConnection', { name: 'lines', host: GUEST.ipv4 });
  await client.do('increment', { name: 'lines', count: 20 });
  const [, primary] = pids();
  process.kill(primary, 'SIGKILL');
  await told('the primary is killed, the other goes on', FAILOVER_MS_MAX, async () => {
    const { state, carrier } = JSON.parse((await get(`${ADMIN}/api/status`)).text || '{}');
    return state === 'failed-over' && carrier === 'secondary';
  });
  const { value } = await client.do('increment', { name: 'lines', count: 20, msMax: FAILOVER_MS_MAX });
  if (value !== 40) throw new Error(`the counter is at ${value}, not at 40`);
  console.log('ok  the connection goes on: 40 increments, each one more than the one before');
}

async function main() {
  const missing = await missingRequirements({ qemu: '7', log: console.log });
  if (missing.length > 0) {
    console.log(`SKIPPED: README's set-up was not run. Missing: ${missing.join('; ')}`);
    return;
  }
  const runFolder = new RunFolder();
  for (const event of ['SIGINT', 'SIGTERM'])
    process.once(event, () => runFolder.end().then(() => process.exit(1)));
  try {
    await play(runFolder);
  } finally {
    await runFolder.end();
  }
}

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
