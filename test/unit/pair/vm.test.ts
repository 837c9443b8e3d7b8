import { beforeEach, describe, expect, it } from 'vitest';
import { Vm } from '../../../src/pair/vm.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { run } from '../checkpoint/scripted-peer.js';
import { FakeMonitor } from '../qmp/fake-qemu.js';

const ADDRESS = { unix: '/vm.qmp' };
const nothing = (): void => undefined;

let clock: ManualClock;
let vm: Vm;
let monitor: FakeMonitor;
/** Status answers in turn; the last one stays. */
let statuses: string[];

beforeEach(async () => {
  clock = new ManualClock();
  const transport = new MemoryTransport(clock);
  statuses = ['running'];
  await transport.listen(ADDRESS, (channel) => {
    monitor = new FakeMonitor(channel);
    monitor.answer = ({ execute }) => {
      if (execute !== 'query-status') return { return: {} };
      const status = statuses.length > 1 ? statuses.shift() : statuses[0];
      return { return: { status, running: status === 'running' } };
    };
  });
  vm = new Vm({
    seat: 'primary',
    address: ADDRESS,
    transport,
    clock,
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    limits: { commandMsMax: 5000, reconnectMsMin: 100, reconnectMsMax: 1000, livenessMsMax: 1000 },
    events: {
      connected: nothing,
      died: nothing,
      coloExit: nothing,
      guestShutDown: nothing,
      guestRebooted: nothing,
    },
  });
  vm.start();
  await run(clock, 10);
});

function outcome(): { text: string } {
  const seen = { text: 'waits' };
  void vm.leaveColo().then(
    () => {
      seen.text = 'left';
    },
    (error: { code: string }) => {
      seen.text = error.code;
    },
  );
  return seen;
}

describe('leaving COLO', () => {
  it('is over when the guest runs again, not when QEMU has answered', async () => {
    statuses = ['colo', 'colo', 'running'];
    const seen = outcome();
    await run(clock, 40);
    expect(seen.text).toBe('waits');
    await run(clock, 100);
    expect(seen.text).toBe('left');
  });

  it('of a guest that stays stopped is an error within the limit of a command', async () => {
    statuses = ['colo'];
    const seen = outcome();
    await run(clock, 4900);
    expect(seen.text).toBe('waits');
    await run(clock, 300);
    expect(seen.text).toBe('COLO_ERR_FAILOVER');
  });

  it.each(['running', 'shutdown', 'paused', 'guest-panicked'])(
    'leaves a guest that is %s as it is',
    async (status) => {
      statuses = [status];
      const seen = outcome();
      await run(clock, 10);
      expect(seen.text).toBe('left');
    },
  );

  it('of a VM that is not under COLO is nothing', async () => {
    const { answer } = monitor;
    monitor.answer = (command) =>
      command.execute === 'x-colo-lost-heartbeat'
        ? { error: { class: 'GenericError', desc: "The feature 'colo' is not enabled" } }
        : answer(command);
    const seen = outcome();
    await run(clock, 10);
    expect(seen.text).toBe('left');
  });
});
