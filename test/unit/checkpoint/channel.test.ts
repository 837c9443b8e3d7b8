import { mkdtempSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Address,
  type ChannelServer,
  type DuplexChannel,
  showAddress,
  type Transport,
} from '../../../src/system/channel.js';
import { realClock } from '../../../src/system/clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { socketTransport } from '../../../src/system/socket-channel.js';
import { streamTransport } from '../../../src/system/stream-channel.js';
import { ScriptedPeer, until } from './scripted-peer.js';

let folder: string;
let server: ChannelServer;
let accepted: DuplexChannel[];

beforeEach(() => {
  folder = mkdtempSync('/tmp/colo-channel-');
  accepted = [];
});

afterEach(async () => {
  await server.close();
  for (const channel of accepted) channel.destroy();
  rmSync(folder, { recursive: true });
});

const kinds: Array<[string, () => Transport, () => Address]> = [
  ['unix sockets', () => socketTransport, () => ({ unix: `${folder}/a.sock` })],
  ['TCP sockets', () => socketTransport, () => ({ tcp: '127.0.0.1', port: 0 })],
  ['unix streams', () => streamTransport, () => ({ unix: `${folder}/a.sock` })],
  ['TCP streams', () => streamTransport, () => ({ tcp: '127.0.0.1', port: 0 })],
  ['memory', () => new MemoryTransport(realClock), () => ({ unix: '/in-memory' })],
];

describe.each(kinds)('channels over %s', (_name, makeTransport, makeAddress) => {
  let transport: Transport;

  async function join(): Promise<[DuplexChannel, DuplexChannel]> {
    transport = makeTransport();
    server = await transport.listen(makeAddress(), (channel) => accepted.push(channel));
    const near = await transport.connect(server.address);
    await until(() => accepted.length === 1);
    return [near, accepted[0]!];
  }

  it('lose nothing before attach, neither bytes nor the end', async () => {
    const [near, far] = await join();
    near.write(Buffer.from('early'));
    near.end();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const peer = new ScriptedPeer(far);
    await until(() => peer.ended);
    expect(peer.bytes.toString()).toBe('early');
  });

  it('are half-closed: after the end of one direction the other still carries', async () => {
    const [near, far] = await join();
    const [one, other] = [new ScriptedPeer(near), new ScriptedPeer(far)];
    near.end();
    await until(() => other.ended);
    far.write(Buffer.from('still here'));
    far.end();
    await until(() => one.closed && other.closed);
    expect(one.bytes.toString()).toBe('still here');
  });

  it('say stop and go', async () => {
    const [near, far] = await join();
    const [one, other] = [new ScriptedPeer(near), new ScriptedPeer(far)];
    far.pause();
    let sent = false;
    const total = 32 * 1024 * 1024;
    void one.send(Buffer.alloc(total)).then(() => {
      sent = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(sent).toBe(false);
    far.resume();
    await until(() => sent && other.length === total);
  });

  it('tell the peer when destroyed, and swallow what is written afterwards', async () => {
    const [near, far] = await join();
    const [one, other] = [new ScriptedPeer(near), new ScriptedPeer(far)];
    near.destroy();
    near.write(Buffer.from('nobody'));
    near.end();
    await until(() => one.closed && other.ended);
    far.write(Buffer.from('x'));
    far.end();
    await until(() => other.closed);
    expect(other.length).toBe(0);
  });

  it('cannot be made where nobody listens, and can be given up', async () => {
    await join();
    await server.close();
    await expect(transport.connect(server.address)).rejects.toMatchObject({
      code: expect.stringMatching(/ECONNREFUSED|ENOENT/),
    });
    const abort = new AbortController();
    abort.abort(new Error('given up'));
    await expect(transport.connect(server.address, abort.signal)).rejects.toThrow(
      /given up|ECONNREFUSED|ENOENT/,
    );
  });
});

it('addresses are shown as QEMU writes them', async () => {
  server = await new MemoryTransport(realClock).listen({ unix: '/x' }, () => undefined);
  expect(showAddress({ unix: '/run/x.sock' })).toBe('unix:/run/x.sock');
  expect(showAddress({ tcp: 'host', port: 4444 })).toBe('tcp:host:4444');
  expect(showAddress({ tcp: '::1', port: 4444 })).toBe('tcp:[::1]:4444');
});
