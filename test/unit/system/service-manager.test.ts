import { describe, expect, it } from 'vitest';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { ServiceManager } from '../../../src/system/service-manager.js';

function managerWith(env: Record<string, string>, notify?: () => void) {
  const clock = new ManualClock();
  const told: string[] = [];
  const failures: unknown[] = [];
  const manager = new ServiceManager({
    env,
    clock,
    pid: 42,
    notify: notify ?? ((path, text) => told.push(`${path} ${text}`)),
    failed: (error) => failures.push(error),
  });
  return { clock, told, failures, manager };
}

describe('service manager', () => {
  it('hears that it is ready, then a sign of life twice per watchdog period, until the end', () => {
    const { manager, clock, told } = managerWith({ NOTIFY_SOCKET: '@s', WATCHDOG_USEC: '2000000' });
    manager.ready('up');
    clock.advance(3000);
    manager.stopping();
    clock.advance(3000);
    const life = '@s WATCHDOG=1';
    expect(told).toEqual(['@s READY=1\nSTATUS=up', life, life, life, '@s STOPPING=1']);
  });

  it.each([[{}], [{ NOTIFY_SOCKET: '' }], [{ WATCHDOG_USEC: '1000' }]])(
    'without one nothing is told: %j',
    (env) => {
      const { manager, clock, told } = managerWith(env as Record<string, string>);
      manager.ready('up');
      clock.advance(100);
      expect(told).toEqual([]);
    },
  );

  it('a watchdog of another process is not fed', () => {
    const env = { NOTIFY_SOCKET: '@s', WATCHDOG_USEC: '1000', WATCHDOG_PID: '43' };
    const { manager, clock, told } = managerWith(env);
    manager.ready('up');
    clock.advance(100);
    expect(told).toHaveLength(1);
  });

  it('that it cannot be told is said once', () => {
    const { manager, failures } = managerWith({ NOTIFY_SOCKET: '/gone' }, () => {
      throw new Error('ENOENT');
    });
    manager.ready('up');
    manager.status('x');
    expect(failures).toHaveLength(1);
  });
});
