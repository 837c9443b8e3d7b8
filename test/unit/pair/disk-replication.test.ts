import { describe, expect, it } from 'vitest';
import { ColoError } from '../../../src/errors.js';
import { DiskReplication } from '../../../src/pair/disk-replication.js';
import type { QmpExecutor } from '../../../src/qmp/commands.js';
import type { QmpObject } from '../../../src/qmp/framing.js';
import { silentLog } from '../../../src/system/log.js';
import { ManualClock } from '../../../src/system/manual-clock.js';

const DISKS = [
  { drive: 'colo-disk0', parent: 'parent0' },
  { drive: 'colo-disk1', parent: 'parent1' },
];
const NBD = { primary: { tcp: '10.0.0.1', port: 10809 }, secondary: { unix: '/run/nbd.sock' } };

/** The block layer of a QEMU as far as replication asks for it; it refuses what QEMU refuses. */
class BlockLayer implements QmpExecutor {
  readonly jobs = new Map<string, { done: number; cancelled: boolean }>();
  readonly nodes = new Set<string>();
  readonly children = new Map<string, string>();
  readonly exports = new Set<string>();
  readonly said: string[] = [];
  nbd = '';
  running = true;
  bytes = 1000;
  /** The command with this number fails. */
  failAt = -1;

  async execute(command: string, args: QmpObject = {}): Promise<unknown> {
    this.said.push(command);
    if (this.said.length - 1 === this.failAt) throw refusal(`${command}: not now`);
    return this.#do(command, args as Record<string, never>);
  }

  #do(command: string, args: Record<string, never>): unknown {
    switch (command) {
      case 'nbd-server-start':
        if (this.nbd !== '') throw refusal('NBD server already running');
        this.nbd = JSON.stringify(args.addr);
        return {};
      case 'nbd-server-stop':
        if (this.nbd === '') throw refusal('NBD server not running');
        this.nbd = '';
        this.exports.clear();
        return {};
      case 'nbd-server-add':
        this.exports.add(args.device);
        return {};
      case 'drive-mirror':
        if (this.jobs.has(args['job-id'])) throw refusal('job is there');
        this.jobs.set(args['job-id'], { done: 0, cancelled: false });
        return {};
      case 'query-block-jobs': {
        const list = [...this.jobs].map(([device, { done }]) => ({
          device,
          len: this.bytes,
          offset: done,
          ready: done === this.bytes,
        }));
        for (const [id, job] of this.jobs) if (job.cancelled) this.jobs.delete(id);
        return list;
      }
      case 'block-job-cancel': {
        const job = this.jobs.get(args.device);
        if (job === undefined) throw refusal('no such job');
        job.cancelled = true;
        return {};
      }
      case 'blockdev-add':
        if (this.nodes.has(args['node-name'])) throw refusal('node is there');
        this.nodes.add(args['node-name']);
        return {};
      case 'blockdev-del':
        if ([...this.children.values()].includes(args['node-name'])) throw refusal('node is in use');
        if (!this.nodes.delete(args['node-name'])) throw refusal('no such node');
        return {};
      case 'x-blockdev-change':
        if (args.child !== undefined) {
          if (!this.children.delete(args.parent)) throw refusal('no such child');
        } else if (this.children.has(args.parent)) throw refusal('child is there');
        else this.children.set(args.parent, args.node);
        return {};
      case 'query-named-block-nodes':
        return [...this.nodes].map((node) => ({ 'node-name': node }));
      case 'query-status':
        return { running: this.running, status: this.running ? 'running' : 'paused' };
      case 'stop':
        this.running = false;
        return {};
      case 'cont':
        this.running = true;
        return {};
      default:
        return {};
    }
  }

  copyAll(): void {
    for (const job of this.jobs.values()) job.done = this.bytes;
  }

  get isAsBefore(): boolean {
    return this.running && this.jobs.size === 0 && this.nodes.size === 0 && this.children.size === 0;
  }
}

function refusal(text: string): ColoError {
  return new ColoError('COLO_ERR_QMP_COMMAND', `GenericError: ${text}`);
}

/** Settles `work` on a clock of its own. */
async function on<Result>(clock: ManualClock, work: Promise<Result>): Promise<Result> {
  let settled = false;
  const done = work.finally(() => {
    settled = true;
  });
  done.catch(() => {});
  for (let turn = 0; !settled && turn < 10_000; turn++) {
    await Promise.resolve();
    if (turn % 20 === 19) clock.advance(5);
  }
  return done;
}

function stage() {
  const clock = new ManualClock();
  const replication = new DiskReplication({ disks: DISKS, nbd: NBD, cancelMsMax: 1000 }, clock, silentLog);
  return { clock, replication, primary: new BlockLayer(), secondary: new BlockLayer() };
}

async function couple({ clock, replication, primary, secondary }: ReturnType<typeof stage>): Promise<void> {
  await on(clock, replication.begin(primary, secondary, 'secondary'));
  primary.copyAll();
  expect((await on(clock, replication.progress(primary))).isReady).toBe(true);
  await on(clock, replication.couple(primary, 'secondary'));
}

describe('replicated disks', () => {
  it('go the way of the documentation: mirror, stop, end of the mirror, replication node, quorum', async () => {
    const at = stage();
    await on(at.clock, at.replication.begin(at.primary, at.secondary, 'secondary'));
    expect(at.secondary.nbd).toBe('{"type":"unix","data":{"path":"/run/nbd.sock"}}');
    expect([...at.secondary.exports]).toEqual(['parent0', 'parent1']);
    for (const job of at.primary.jobs.values()) job.done = 250;
    expect(await on(at.clock, at.replication.progress(at.primary))).toEqual({
      bytesDone: 500,
      bytesTotal: 2000,
      isReady: false,
    });
    expect(at.primary.running).toBe(true);
    at.primary.copyAll();
    at.primary.said.length = 0;
    await on(at.clock, at.replication.couple(at.primary, 'secondary'));
    expect(at.primary.said.filter((command) => !command.startsWith('query'))).toEqual([
      'stop',
      ...['block-job-cancel', 'block-job-cancel'],
      ...['blockdev-add', 'x-blockdev-change', 'blockdev-add', 'x-blockdev-change'],
    ]);
    expect([...at.primary.children]).toEqual([
      ['colo-disk0', 'colo-replica0'],
      ['colo-disk1', 'colo-replica1'],
    ]);
    expect(at.primary.running).toBe(false); // until COLO runs it
  });

  it('whatever command fails, the primary is as before, and the next attempt succeeds', async () => {
    const whole = stage();
    await couple(whole);
    const counts = { primary: whole.primary.said.length, secondary: whole.secondary.said.length };
    let tried = 0;
    for (const side of ['primary', 'secondary'] as const) {
      for (let failAt = 0; failAt < counts[side]; failAt++) {
        const at = stage();
        at[side].failAt = failAt;
        const failed = await couple(at).then(
          () => false,
          () => true,
        );
        at[side].failAt = -1;
        if (!failed) continue; // one of those that may fail
        tried++;
        await on(at.clock, at.replication.leaveOnPrimary(at.primary));
        await on(at.clock, at.replication.resumeGuest(at.primary));
        expect(at.primary.isAsBefore, `${side} ${failAt} ${at[side].said[failAt]}`).toBe(true);
        await couple(at);
        expect(at.primary.children.size, `again after ${side} ${failAt}`).toBe(2);
      }
    }
    expect(tried).toBeGreaterThan(12);
  });

  it('are let go of when the secondary is lost, and a guest that COLO runs is left alone', async () => {
    const at = stage();
    await couple(at);
    at.replication.coupled();
    at.primary.running = true;
    await on(at.clock, at.replication.leaveOnPrimary(at.primary));
    await on(at.clock, at.replication.resumeGuest(at.primary));
    expect(at.primary.isAsBefore).toBe(true);
    expect(at.primary.said).not.toContain('cont');
    expect(at.primary.said.indexOf('yank')).toBeLessThan(at.primary.said.lastIndexOf('x-blockdev-change'));
  });

  it('a proxy that died while the guest stood still: its successor lets it run', async () => {
    const at = stage();
    await couple(at);
    const successor = stage();
    await on(successor.clock, successor.replication.recover(at.primary));
    expect(at.primary.isAsBefore).toBe(true);
  });

  it('a mirror that fails by itself, or does not end, is an error with its name', async () => {
    const at = stage();
    await on(at.clock, at.replication.begin(at.primary, at.secondary, 'secondary'));
    at.primary.jobs.delete('colo-mirror-colo-disk1');
    await expect(on(at.clock, at.replication.progress(at.primary))).rejects.toThrow('colo-disk1');
    const stuck = stage();
    await on(stuck.clock, stuck.replication.begin(stuck.primary, stuck.secondary, 'primary'));
    Object.defineProperty(stuck.primary.jobs, 'delete', { value: () => false });
    await expect(on(stuck.clock, stuck.replication.couple(stuck.primary, 'primary'))).rejects.toMatchObject({
      code: 'COLO_ERR_DISK',
    });
  });
});
