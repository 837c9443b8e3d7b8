/** What happens to ports when callbacks throw, workers end and nobody closes them: each in its own process. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { notifySystemd, openNetlink } from '../../../native/index.js';

const run = promisify(execFile);
const addon = new URL('../../../native/index.js', import.meta.url).href;

async function script(body: string, ...flags: string[]): Promise<string> {
  const source = `import * as native from ${JSON.stringify(addon)};\n${body}`;
  const { stdout } = await run(process.execPath, [...flags, '--input-type=module', '-e', source], {
    timeout: 30_000,
  });
  return stdout;
}

/** A port with something to read: a netlink socket whose question has been answered. RTM_GETLINK dump. */
const askLinks = `
function ready() {
  const port = native.openNetlink({ groups: 1 });
  const question = Buffer.alloc(32);
  question.writeUInt32LE(32, 0);
  question.writeUInt16LE(18, 4);
  question.writeUInt16LE(0x301, 6);
  port.send(question);
  return port;
}
`;

describe('callbacks', () => {
  it('a throw becomes an uncaughtException, and the port goes on', async () => {
    const output = await script(`${askLinks}
      const port = ready();
      let calls = 0;
      process.on('uncaughtException', (error) => console.log('caught', error.message));
      port.start(() => { if (++calls === 3) port.close(); throw new Error('call ' + calls); });`);
    expect(output).toBe('caught call 1\ncaught call 2\ncaught call 3\n');
  });

  it('without a handler it ends the process as any other exception does', async () => {
    const failure = await script(
      `${askLinks} ready().start(() => { throw new Error('unhandled one'); });`,
    ).catch((error) => error);
    expect(failure.code).toBe(1);
    expect(failure.stderr).toContain('unhandled one');
  });

  it('promises and ticks queued by a callback run before the next one', async () => {
    const output = await script(`${askLinks}
      const port = ready();
      let calls = 0;
      port.start(() => {
        const call = ++calls;
        Promise.resolve().then(() => console.log('then', call));
        process.nextTick(() => console.log('tick', call));
        if (call === 2) port.close();
      });`);
    expect(output).toBe('tick 1\nthen 1\ntick 2\nthen 2\n');
  });
});

describe('endings', () => {
  it('a process with stopped or closed ports ends by itself', async () => {
    expect(
      await script(`${askLinks} const a = ready(); a.start(() => { a.stop(); console.log('done'); });`),
    ).toBe('done\n');
  });

  it('process.exit inside a callback ends it at once', async () => {
    expect(await script(`${askLinks} ready().start(() => { console.log('exit'); process.exit(0); });`)).toBe(
      'exit\n',
    );
  });

  it('a started port that nobody refers to lives; a stopped one is collected and closed', async () => {
    const output = await script(
      `import { readdirSync } from 'node:fs';
      ${askLinks}
      const open = () => readdirSync('/proc/self/fd').length;
      const before = open();
      for (let i = 0; i < 50; i++) { const p = native.openNetlink({}); p.start(() => {}); p.stop(); }
      let seen = 0;
      ready().start(() => { seen++; });
      const held = open();
      // The engine may keep the last few in its registers.
      for (let i = 0; i < 20; i++) { gc(); await new Promise((r) => setTimeout(r, 5)); }
      const seenBefore = seen;
      await new Promise((r) => setTimeout(r, 50));
      console.log(seen > seenBefore, held - before >= 51, open() - before < 5);
      process.exit();`,
      '--expose-gc',
    );
    expect(output).toBe('true true true\n');
  });

  it('workers come and go with ports open, in callbacks, and in endless loops', async () => {
    const output = await script(`
      import { Worker } from 'node:worker_threads';
      const code = (ending) => \`
        const { workerData, parentPort } = require('node:worker_threads');
        import(workerData).then((native) => {
          ${askLinks.replaceAll('`', '\\`')}
          const ports = Array.from({ length: 5 }, ready);
          for (const port of ports) port.start(() => { parentPort.postMessage('up'); \${ending} });
        });\`;
      const endings = ['ports[0].close();', 'throw new Error("w");', 'process.exit(0);', 'for (;;);', 'ports.forEach((p) => p.stop());', ''];
      for (let round = 0; round < 3; round++) {
        await Promise.all(endings.map((ending) => new Promise((resolve) => {
          const worker = new Worker(code(ending), { eval: true, workerData: ${JSON.stringify(addon)} });
          worker.once('message', () => worker.terminate());
          worker.on('error', () => {});
          worker.on('exit', resolve);
        })));
      }
      console.log('all ended');`);
    expect(output).toBe('all ended\n');
  });
});

describe('netlink', () => {
  it('answers a dump in datagrams, then says -1', async () => {
    const port = openNetlink({ protocol: 'route' });
    const question = Buffer.alloc(32);
    question.writeUInt32LE(32, 0);
    question.writeUInt16LE(18, 4);
    question.writeUInt16LE(0x301, 6);
    port.send(question);
    const buffer = Buffer.alloc(65_536);
    const types: number[] = [];
    for (let n = port.receive(buffer); n > 0; n = port.receive(buffer)) {
      for (let at = 0; at + 16 <= n; at += (buffer.readUInt32LE(at) + 3) & ~3)
        types.push(buffer.readUInt16LE(at + 4));
    }
    // RTM_NEWLINK for each interface, NLMSG_DONE last.
    expect(types[0]).toBe(16);
    expect(types.at(-1)).toBe(3);
    expect(port.receive(buffer)).toBe(-1);
    port.send(question);
    expect(() => port.receive(Buffer.alloc(20))).toThrow(/EMSGSIZE/);
    expect(() => openNetlink({ protocol: 'xfrm' as never })).toThrow(RangeError);
    port.close();
    expect(() => port.receive(buffer)).toThrow(/EBADF/);
  });
});

describe('notifySystemd', () => {
  it('refuses impossible addresses and reports an absent manager', () => {
    expect(() => notifySystemd('', 'READY=1')).toThrow(RangeError);
    expect(() => notifySystemd('x'.repeat(108), 'READY=1')).toThrow(RangeError);
    expect(() => notifySystemd('/run/a\0b', 'READY=1')).toThrow(RangeError);
    expect(() => notifySystemd('/nonexistent/notify', 'READY=1')).toThrow(/ENOENT/);
    expect(() => notifySystemd('@colo-proxy-test-nobody', 'READY=1')).toThrow(/ECONNREFUSED/);
  });

  it.each(['path', 'abstract'])('reaches a %s socket', async (kind) => {
    // Node has no unix datagram sockets; python3, which the build needs anyway, listens.
    const folder = mkdtempSync(join(tmpdir(), 'colo-notify-'));
    const name = kind === 'path' ? join(folder, 'n') : `@colo-notify-${process.pid}`;
    const listener = execFile('python3', [
      '-c',
      `import socket,sys
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@','\\0',1) if sys.argv[1][0]=='@' else sys.argv[1])
s.settimeout(20)
print('bound',flush=True)
print(s.recv(999).decode(),flush=True)`,
      name,
    ]);
    let output = '';
    await new Promise<void>((resolve) => {
      listener.stdout?.on('data', (text) => {
        output += text;
        resolve();
      });
    });
    notifySystemd(name, 'READY=1\nSTATUS=protected');
    await new Promise((resolve) => listener.on('close', resolve));
    expect(output).toBe('bound\nREADY=1\nSTATUS=protected\n');
    rmSync(folder, { recursive: true });
  });
});
