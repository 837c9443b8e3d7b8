/**
 * A real QEMU whose own filters feed the stand-in for colo-compare: two netdevs as in QEMU's docs/COLO-FT.txt, each
 * between a "guest" and a "network" that the test holds (joined by hubs, since there is no machine).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { coloComparePartsOf } from '../../src/cli/colo-compare.js';
import { ColoCompare } from '../../src/dataplane/colo-compare.js';
import { createLink } from '../../src/link/factory.js';
import type { Link } from '../../src/link/link.js';
import { silentLog } from '../../src/system/log.js';
import { buildTcp, buildUdp } from '../../src/wire/build.js';
import { TcpFlag } from '../../src/wire/frame-view.js';
import { Collector, sendFrame, until } from '../unit/link/collect.js';

let directory: string;
let qemu: ChildProcess | undefined;
let closing: { close(): Promise<void> }[];

const path = (name: string): string => join(directory, name);
const chardev = (id: string): string[] => ['-chardev', `socket,id=${id},path=${path(id)}`];
const stream = (id: string): string[] => [
  '-netdev',
  `stream,id=${id},server=on,addr.type=unix,addr.path=${path(id)}`,
];
const hub = (hubid: number, netdev: string): string[] => [
  '-netdev',
  `hubport,id=port-${netdev},hubid=${hubid},netdev=${netdev}`,
];

function startQemu(vnet: boolean): void {
  const support = vnet ? ',vnet_hdr_support=on' : '';
  const redirector = (id: string, netdev: string, end: string): string[] => [
    '-object',
    `filter-redirector,id=${id},netdev=${netdev},queue=rx,${end}${support}`,
  ];
  qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-machine', 'none', '-nographic', '-nodefaults', '-monitor', 'none', '-serial', 'none'],
      ...['primary-in', 'secondary-in', 'outdev'].flatMap(chardev),
      ...['guest-1', 'net-1', 'guest-2', 'net-2'].flatMap(stream),
      ...[...hub(1, 'guest-1'), ...hub(1, 'net-1'), ...hub(2, 'guest-2'), ...hub(2, 'net-2')],
      ...redirector('in', 'net-1', 'indev=outdev'),
      ...redirector('out', 'net-1', 'outdev=primary-in'),
      ...redirector('red', 'net-2', 'outdev=secondary-in'),
      ...['-object', `filter-rewriter,id=rew,netdev=net-2,queue=all${support}`],
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
}

async function openLink(url: string): Promise<{ link: Link; seen: Collector }> {
  const link = createLink(url);
  const seen = new Collector();
  closing.push(link);
  await link.open(seen);
  return { link, seen };
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'colo-compare-'));
  closing = [];
});

afterEach(async () => {
  await Promise.all(closing.map((one) => one.close()));
  qemu?.kill('SIGKILL');
  qemu = undefined;
  rmSync(directory, { recursive: true });
});

const addresses = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 80, destinationPort: 4000 };
const toGuest = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 4000, destinationPort: 80 };

describe.each([
  ['without vnet headers', false],
  ['with vnet_hdr_support', true],
])('in the place of colo-compare, %s', (_what, vnet) => {
  it("a real QEMU's redirectors and rewriter feed it, and what it releases leaves through QEMU", async () => {
    const server = (name: string): string => `unix:${path(name)},server`;
    const compare = new ColoCompare(
      coloComparePartsOf(
        {
          primaryIn: server('primary-in'),
          secondaryIn: server('secondary-in'),
          outdev: server('outdev'),
          notifyDev: server('notify'),
          vnetHdrSupport: vnet,
          compareTimeout: '3000',
          expiredScanCycle: '1000',
          maxQueueSize: '1024',
        },
        silentLog,
      ),
    );
    closing.push(compare);
    await compare.open();
    startQemu(vnet);
    await until(() => statSync(path('net-2'), { throwIfNoEntry: false }) !== undefined, 'QEMU listens');
    const guest1 = await openLink(`stream:unix:${path('guest-1')}`);
    const guest2 = await openLink(`stream:unix:${path('guest-2')}`);
    const net1 = await openLink(`stream:unix:${path('net-1')}`);
    const net2 = await openLink(`stream:unix:${path('net-2')}`);
    const notify = await openLink(`chardev:unix:${path('notify')}`);
    const all = [guest1, guest2, net1, net2, notify];
    await until(() => all.every(({ link }) => link.state === 'up'), 'all are connected');
    await until(() => Object.values(compare.links).every((link) => link.state === 'up'), 'QEMU is connected');
    const emit = ({ link }: { link: Link }, frame: Buffer): void => {
      link.send(frame, 0, frame.length, 0);
      link.flush();
    };

    const same = buildUdp({ ...addresses, payload: Buffer.from('the same') });
    emit(guest1, same);
    emit(guest2, same);
    await until(() => net1.seen.frames.length === 1, 'a datagram that both sent is released');
    expect(net1.seen.frames[0]).toEqual(same);

    // a connection from a client: its ACK shows QEMU's rewriter by how much the secondary's numbers differ
    const syn = buildTcp({ ...toGuest, seq: 500, flags: TcpFlag.SYN });
    for (const net of [net1, net2]) emit(net, syn);
    await until(() => guest2.seen.frames.length === 1, 'the secondary has the SYN');
    emit(guest2, buildTcp({ ...addresses, seq: 9000, ack: 501, flags: TcpFlag.SYN | TcpFlag.ACK }));
    emit(guest1, buildTcp({ ...addresses, seq: 1000, ack: 501, flags: TcpFlag.SYN | TcpFlag.ACK }));
    await until(() => net1.seen.frames.length === 2, "the primary's SYN-ACK is released");
    const ack = buildTcp({ ...toGuest, seq: 501, ack: 1001, flags: TcpFlag.ACK });
    for (const net of [net1, net2]) emit(net, ack);
    await until(() => guest2.seen.frames.length === 2, 'the secondary has the ACK');
    const data = (seq: number, text: string): Buffer =>
      buildTcp({ ...addresses, seq, ack: 501, flags: TcpFlag.ACK, payload: Buffer.from(text) });
    emit(guest1, data(1001, 'hello, client'));
    emit(guest2, data(9001, 'hello, '));
    emit(guest2, data(9008, 'client'));
    await until(() => net1.seen.frames.length === 3, 'data in other pieces is released');
    expect(net1.seen.frames[2]).toEqual(data(1001, 'hello, client'));

    emit(guest1, data(1014, 'mine'));
    emit(guest2, data(9014, 'ours'));
    await until(() => notify.seen.texts.includes('DO_CHECKPOINT'), 'a checkpoint is asked for');
    expect(net1.seen.frames.length).toBe(3);
    sendFrame(notify.link, 'COLO_CHECKPOINT');
    notify.link.flush();
    await until(() => net1.seen.frames.length === 4, 'the checkpoint releases it');
    sendFrame(notify.link, 'COLO_USERSPACE_PROXY_INIT');
    notify.link.flush();
    await until(
      () => notify.seen.texts.includes('COLO_COMPARE_GET_XEN_INIT'),
      'the word of libxl is answered',
    );
    expect(net1.seen.frames[3]).toEqual(data(1014, 'mine'));
  });
});
