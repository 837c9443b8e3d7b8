import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { memoryLinkPair } from '../../../src/link/memory-link.js';
import { QmpClient } from '../../../src/qmp/client.js';
import { SeededRandom } from '../../../src/simulation/random.js';
import { runClock } from '../../../src/simulation/run-clock.js';
import { LinkNetdev, StreamNetdev } from '../../../src/simulation/vm/netdev.js';
import { ScriptedVm } from '../../../src/simulation/vm/scripted-vm.js';
import type { Address, Transport } from '../../../src/system/channel.js';
import { showAddress } from '../../../src/system/channel.js';
import type { Clock } from '../../../src/system/clock.js';
import { realClock } from '../../../src/system/clock.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { socketTransport } from '../../../src/system/socket-channel.js';
import { ArpOperation } from '../../../src/wire/arp.js';
import { buildArp } from '../../../src/wire/build.js';
import { host } from './harness.js';

const clean: (() => void)[] = [];
afterEach(() => {
  for (const undo of clean.splice(0).reverse()) undo();
});

interface Monitor {
  qmp: QmpClient;
  events: { name: string; data: unknown }[];
}

/** Two VMs joined directly, each with a QMP client. */
class PairLab {
  readonly primary: ScriptedVm;
  readonly secondary: ScriptedVm;
  readonly monitors: { primary: Monitor; secondary: Monitor };
  readonly incoming: Address;
  readonly clock: Clock;
  readonly transport: Transport;

  constructor(clock: Clock, transport: Transport, directory: string, inMemory: boolean, loadMs = 0.2) {
    this.clock = clock;
    this.transport = transport;
    this.incoming = { unix: join(directory, 'incoming.sock') };
    const vm = (name: 'primary' | 'secondary', seed: number): ScriptedVm => {
      const netdev = inMemory
        ? new LinkNetdev(memoryLinkPair({ name })[0], clock)
        : new StreamNetdev(transport, { unix: join(directory, `${name}.net`) });
      return new ScriptedVm({
        clock,
        transport,
        netdev,
        qmp: { unix: join(directory, `${name}.qmp`) },
        ...(name === 'secondary' ? { incoming: 'defer' as const } : {}),
        guest: { addresses: host(2), random: new SeededRandom(seed) },
        costs: { saveMs: 0.2, loadMs },
      });
    };
    this.primary = vm('primary', 1);
    this.secondary = vm('secondary', 2);
    const monitor = (name: 'primary' | 'secondary'): Monitor => {
      const events: Monitor['events'] = [];
      const qmp = new QmpClient({
        address: { unix: join(directory, `${name}.qmp`) },
        clock,
        transport,
        handlers: { event: (event, data) => events.push({ name: event, data }) },
      });
      return { qmp, events };
    };
    this.monitors = { primary: monitor('primary'), secondary: monitor('secondary') };
    clean.push(() => {
      this.monitors.primary.qmp.stop();
      this.monitors.secondary.qmp.stop();
      this.primary.kill();
      this.secondary.kill();
    });
  }

  async protect(wait: (done: () => boolean) => Promise<void>): Promise<void> {
    await this.primary.open();
    await this.secondary.open();
    const { primary, secondary } = this.monitors;
    primary.qmp.start();
    secondary.qmp.start();
    await wait(() => primary.qmp.state === 'ready' && secondary.qmp.state === 'ready');
    const uri = showAddress(this.incoming);
    let listening = false;
    void secondary.qmp.execute('migrate-incoming', { uri }).then(() => {
      listening = true;
    });
    await wait(() => listening);
    const capabilities = [{ capability: 'x-colo', state: true }];
    void primary.qmp.execute('migrate-set-capabilities', { capabilities });
    void primary.qmp.execute('migrate-set-parameters', { 'x-checkpoint-delay': 4294967295 });
    void primary.qmp.execute('migrate', { uri });
    await wait(() => this.primary.mode === 'primary' && this.primary.running && this.secondary.running);
  }

  /** Takes `count` checkpoints one after the other. */
  async checkpoints(count: number, wait: (done: () => boolean) => Promise<void>): Promise<void> {
    for (let index = 0; index < count; index++) {
      const before = this.primary.checkpoints;
      void this.monitors.primary.qmp.execute('migrate-set-parameters', { 'x-checkpoint-delay': 4294967295 });
      await wait(() => this.primary.checkpoints === before + 1 && this.primary.running);
    }
  }
}

function memoryLab(loadMs = 0.2): {
  lab: PairLab;
  wait: (done: () => boolean) => Promise<void>;
  clock: ManualClock;
} {
  const clock = new ManualClock();
  const lab = new PairLab(clock, new MemoryTransport(clock, 0.05), '/world', true, loadMs);
  const wait = async (done: () => boolean): Promise<void> => {
    if (!(await runClock(clock, 60_000, done))) throw new Error('nothing came of it within 60 s');
  };
  return { lab, wait, clock };
}

function socketLab(): { lab: PairLab; wait: (done: () => boolean) => Promise<void>; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'colo-vm-'));
  clean.push(() => rmSync(directory, { recursive: true, force: true }));
  const lab = new PairLab(realClock, socketTransport, directory, false);
  const wait = async (done: () => boolean): Promise<void> => {
    for (let round = 0; !done(); round++) {
      if (round > 4000) throw new Error('nothing came of it');
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  return { lab, wait, directory };
}

describe.each([
  ['in memory', () => memoryLab()],
  ['over unix sockets', socketLab],
])('a scripted pair %s', (_name, makeLab) => {
  it('takes 100 checkpoints, each copying the whole guest', async () => {
    const { lab, wait } = makeLab();
    await lab.protect(wait);
    for (let index = 0; index < 10; index++) {
      // something only the primary knows, and something speculative in the secondary
      lab.primary.guest.stack.state.services.mark = index;
      lab.secondary.guest.stack.state.services.mark = 'speculative';
      await lab.checkpoints(10, wait);
      expect(lab.secondary.guest.stack.state.services.mark).toBe(index);
    }
    expect(lab.primary.checkpoints).toBe(100);
    const stops = (monitor: Monitor): number => monitor.events.filter(({ name }) => name === 'STOP').length;
    await wait(() => stops(lab.monitors.primary) === 101 && stops(lab.monitors.secondary) === 100);
    expect(await statusOf(lab, 'primary', wait)).toMatchObject({ status: 'running', running: true });
    expect(await answerOf(lab, 'secondary', 'query-colo-status', wait)).toMatchObject({ mode: 'secondary' });
  });

  it('the secondary goes on alone after the death of the primary', async () => {
    const { lab, wait } = makeLab();
    await lab.protect(wait);
    lab.primary.guest.stack.state.services.mark = 'copied';
    await lab.checkpoints(2, wait);
    lab.primary.kill();
    const { events } = lab.monitors.secondary;
    await wait(() => events.some(({ name }) => name === 'COLO_EXIT'));
    expect(events.find(({ name }) => name === 'COLO_EXIT')!.data).toEqual({
      mode: 'secondary',
      reason: 'error',
    });
    expect(lab.secondary.running).toBe(true);
    await answerOf(lab, 'secondary', 'x-colo-lost-heartbeat', wait);
    await wait(() => lab.secondary.running && lab.secondary.mode === 'none');
    expect(lab.secondary.guest.stack.state.services.mark).toBe('copied');
    await expect(answerOf(lab, 'secondary', 'x-colo-lost-heartbeat', wait)).rejects.toThrow('not enabled');
  });

  it('the primary goes on alone after the death of the secondary', async () => {
    const { lab, wait } = makeLab();
    await lab.protect(wait);
    lab.secondary.kill();
    const { events } = lab.monitors.primary;
    void lab.monitors.primary.qmp.execute('migrate-set-parameters', { 'x-checkpoint-delay': 4294967295 });
    await wait(() => events.some(({ name }) => name === 'COLO_EXIT'));
    expect(events.find(({ name }) => name === 'COLO_EXIT')!.data).toEqual({
      mode: 'primary',
      reason: 'error',
    });
    await answerOf(lab, 'primary', 'x-colo-lost-heartbeat', wait);
    expect(lab.primary.mode).toBe('none');
    expect(lab.primary.running).toBe(true);
  });
});

async function answerOf(
  lab: PairLab,
  which: 'primary' | 'secondary',
  command: string,
  wait: (done: () => boolean) => Promise<void>,
): Promise<unknown> {
  let settled = false;
  const answer = lab.monitors[which].qmp.execute(command).finally(() => {
    settled = true;
  });
  answer.catch(() => {});
  await wait(() => settled);
  return answer;
}

const statusOf = (
  lab: PairLab,
  which: 'primary' | 'secondary',
  wait: (done: () => boolean) => Promise<void>,
): Promise<unknown> => answerOf(lab, which, 'query-status', wait);

describe('a stopped VM', () => {
  const question = buildArp({
    operation: ArpOperation.REQUEST,
    senderMac: host(1).mac,
    senderIp: host(1).ipv4,
    targetIp: host(2).ipv4,
  });

  it('leaves what comes untaken, and answers when it runs again', async () => {
    const clock = new ManualClock();
    const [outside, inside] = memoryLinkPair();
    const vm = new ScriptedVm({
      clock,
      transport: new MemoryTransport(clock),
      netdev: new LinkNetdev(inside, clock),
      qmp: { unix: '/world/one.qmp' },
      guest: { addresses: host(2), random: new SeededRandom(1) },
    });
    clean.push(() => vm.kill());
    let answers = 0;
    await outside.open({
      receive(batch) {
        answers += batch.count;
      },
      stateChanged() {},
    });
    await vm.open();
    const ask = async (): Promise<void> => {
      outside.send(question, 0, question.length, 0);
      outside.flush();
      await runClock(clock, 10);
    };
    await ask();
    expect([answers, outside.untaken()]).toEqual([1, 0]);
    await vm.stop();
    await ask();
    expect([answers, outside.untaken()]).toEqual([1, 1]);
    vm.cont();
    await runClock(clock, 10);
    expect([answers, outside.untaken()]).toEqual([2, 0]);
  });

  it('reads nothing from its socket until it runs again', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'colo-vm-'));
    clean.push(() => rmSync(directory, { recursive: true, force: true }));
    const address = { unix: join(directory, 'one.net') };
    const vm = new ScriptedVm({
      clock: realClock,
      transport: socketTransport,
      netdev: new StreamNetdev(socketTransport, address),
      qmp: { unix: join(directory, 'one.qmp') },
      guest: { addresses: host(2), random: new SeededRandom(1) },
    });
    clean.push(() => vm.kill());
    await vm.open();
    const channel = await socketTransport.connect(address);
    let received = Buffer.alloc(0);
    channel.attach({
      data: (chunk) => {
        received = Buffer.concat([received, chunk]);
      },
      ended() {},
      drained() {},
      closed() {},
    });
    const framed = Buffer.concat([Buffer.from([0, 0, 0, question.length]), question]);
    const answersIn = async (rounds: number): Promise<number> => {
      for (let round = 0; round < rounds; round++) await new Promise((resolve) => setTimeout(resolve, 5));
      return received.length / framed.length;
    };
    // byte by byte: a frame may come in any pieces
    for (const byte of framed) channel.write(Buffer.from([byte]));
    while ((await answersIn(1)) < 1);
    await vm.stop();
    channel.write(framed);
    expect(await answersIn(10)).toBe(1);
    vm.cont();
    while ((await answersIn(1)) < 2);
    channel.write(Buffer.from([0xff, 0xff, 0xff, 0xff])); // an impossible length: the peer is dropped
    const again = await socketTransport.connect(address);
    received = Buffer.alloc(0);
    channel.destroy();
    again.attach({
      data: (chunk) => {
        received = Buffer.concat([received, chunk]);
      },
      ended() {},
      drained() {},
      closed() {},
    });
    again.write(framed);
    while ((await answersIn(1)) < 1);
    again.destroy();
  });
});

describe('a scripted VM', () => {
  it('requests that come before RECEIVED are one checkpoint', async () => {
    const { lab, wait, clock } = memoryLab();
    await lab.protect(wait);
    for (let index = 0; index < 5; index++) {
      void lab.monitors.primary.qmp.execute('migrate-set-parameters', { 'x-checkpoint-delay': 4294967295 });
    }
    await runClock(clock, 1000);
    expect(lab.primary.checkpoints).toBe(1);
  });

  it('finishes loading before it fails over', async () => {
    const { lab, wait, clock } = memoryLab(100);
    await lab.protect(wait);
    lab.primary.guest.stack.state.services.mark = 'new';
    void lab.monitors.primary.qmp.execute('migrate-set-parameters', { 'x-checkpoint-delay': 4294967295 });
    await runClock(clock, 50); // RECEIVED has been sent, the secondary loads
    expect(lab.secondary.running).toBe(false);
    expect(lab.secondary.guest.stack.state.services.mark).toBe(undefined);
    lab.primary.kill();
    await answerOf(lab, 'secondary', 'x-colo-lost-heartbeat', wait);
    await wait(() => lab.secondary.running && lab.secondary.mode === 'none');
    expect(lab.secondary.guest.stack.state.services.mark).toBe('new');
  });

  it('a killed one refuses its monitor at once', async () => {
    const { lab, wait } = socketLab();
    await lab.protect(wait);
    lab.primary.kill();
    await wait(() => lab.monitors.primary.qmp.state !== 'ready');
    expect(await lab.monitors.primary.qmp.probe()).toBe('refused');
  });

  it('refuses what QEMU refuses', async () => {
    const { lab, wait } = memoryLab();
    await lab.protect(wait);
    await expect(answerOf(lab, 'primary', 'no-such-command', wait)).rejects.toThrow('not been found');
    await expect(answerOf(lab, 'primary', 'migrate', wait)).rejects.toThrow("'uri' is missing");
    await expect(answerOf(lab, 'primary', 'migrate-incoming', wait)).rejects.toThrow("'uri' is missing");
  });
});
