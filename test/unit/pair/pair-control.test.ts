/** The real pair between scripted VMs: modes, actions, and guests that end on purpose. */
import { describe, expect, it } from 'vitest';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World } from '../../../src/simulation/world.js';
import { silentLog } from '../../../src/system/log.js';
import { buildTcp, type TcpFields } from '../../../src/wire/build.js';
import { TcpFlag } from '../../../src/wire/frame-view.js';
import { act, finish, protectedWorld } from '../simulation/protected-world.js';

const { ipv4, ipv6 } = GUEST_HOST;
const PROBES = { count: 20, everyMs: 5, answerMsMax: 2000 };

describe('periodic checkpoints', () => {
  it('serve everything, compare nothing, and no output leaves but by a commit', async () => {
    const world = await protectedWorld({ seed: 11 });
    expect(await act(world, 'checkpoint', { mode: 'periodic', periodMs: '30' })).toEqual({
      mode: 'periodic',
      periodMs: 30,
    });
    await world.run(200);
    const before = { ...world.pair.status().framesReleased };
    await finish(world, [
      world.client.download(ipv4, 'a-100000.bin'),
      world.client.count(ipv6, 30, 2),
      world.client.udpEcho(ipv4, PROBES),
      world.client.divergent(ipv4, 'rand'),
    ]);
    const status = world.pair.status();
    expect(status.checkpointPlan).toEqual({ mode: 'periodic', periodMs: 30, adapted: false });
    expect(status.framesReleased.matched).toBe(before.matched);
    expect(status.framesReleased.committed).toBeGreaterThan(before.committed);
    expect(status.checkpoints.period).toBeGreaterThan(10);
    expect(status.state).not.toBe('unprotected');
    await world.close();
  });

  it("the primary's death in the middle breaks no connection", async () => {
    for (const seed of [21, 22, 23]) {
      const world = await protectedWorld({ seed });
      await act(world, 'checkpoint', { mode: 'periodic', periodMs: '40' });
      await world.run(100);
      const tasks = [world.client.count(ipv4, 60, 5), world.client.count(ipv6, 60, 5)];
      await world.run(150 + 7 * (seed % 10));
      world.primary.kill();
      await finish(world, tasks);
      expect(world.pair.state).toBe('failed-over');
      await world.close();
    }
  });

  it('end when comparing is chosen again', async () => {
    const world = await protectedWorld({ seed: 12 });
    await act(world, 'checkpoint', { mode: 'periodic' });
    await world.run(300);
    await act(world, 'checkpoint', { mode: 'compare' });
    await world.run(300);
    const { matched } = world.pair.status().framesReleased;
    await finish(world, [world.client.count(ipv4, 30, 2)]);
    expect(world.pair.status().framesReleased.matched).toBeGreaterThan(matched);
    await world.close();
  });
});

it('signed segments that passed untranslated are told: a warning, and a number in the status', async () => {
  const warnings: object[] = [];
  const log = { ...silentLog, warn: (fields: object) => warnings.push(fields) };
  const world = await protectedWorld({ seed: 12, log });
  expect(world.pair.status().signedUntranslated).toBe(0);
  const say = (side: 'client' | 'primary' | 'secondary', fields: Partial<TcpFields>): void => {
    const ends = side === 'client' ? ['10.77.0.9', '10.77.0.8'] : ['10.77.0.8', '10.77.0.9'];
    const ports = side === 'client' ? [5000, 179] : [179, 5000];
    const frame = buildTcp({
      sourceMac: side === 'client' ? '02:00:00:00:00:09' : '02:00:00:00:00:08',
      source: ends[0]!,
      destination: ends[1]!,
      sourcePort: ports[0]!,
      destinationPort: ports[1]!,
      flags: TcpFlag.ACK,
      seq: 2,
      ack: 2,
      ...fields,
    });
    const [, far] = world.networks[0]!.links[side];
    far.send(frame, 0, frame.length, 0);
    far.flush();
  };
  const md5 = Buffer.alloc(16, 0x5a);
  const synAck = { flags: TcpFlag.SYN | TcpFlag.ACK, options: { md5 } };
  say('client', { flags: TcpFlag.SYN, seq: 1, options: { md5 } });
  say('primary', { seq: 1000, ...synAck });
  say('secondary', { seq: 9000, ...synAck });
  for (const seq of [2, 2, 2]) say('client', { seq, ack: 1001, options: { md5 } });
  expect(await world.run(5000, () => warnings.length > 0)).toBe(true);
  expect(warnings).toContainEqual(expect.objectContaining({ segments: 3, leftOut: 0 }));
  expect(world.pair.status().signedUntranslated).toBe(3);
  await world.close();
});

describe('actions', () => {
  it('a checkpoint now: answered with what it cost', async () => {
    const world = await protectedWorld({ seed: 13 });
    const { epoch } = world.pair.status();
    expect(await act(world, 'checkpoint')).toMatchObject({ cause: 'operator', pauseMs: expect.any(Number) });
    expect(world.pair.status().epoch).toBe(epoch + 1);
    const { syncPoints, dialect } = world.pair.status();
    expect(syncPoints['vmstate-loaded']).toEqual({ count: epoch + 1, lastAtMs: expect.any(Number) });
    expect(dialect).toBe('upstream');
    await world.close();
  });

  it.each([
    ['checkpoint', { mode: 'sometimes' }, 'COLO_ERR_USAGE'],
    ['checkpoint', { periodMs: '-5' }, 'COLO_ERR_USAGE'],
    ['checkpoint', { mode: 'periodic', periodMs: '0' }, 'COLO_ERR_USAGE'],
    ['checkpoint', { period: '5' }, 'COLO_ERR_USAGE'],
    ['explode', {}, 'COLO_ERR_USAGE'],
    ['checkpoint', {}, 'COLO_ERR_CHECKPOINT'],
  ] as const)('%s %o without a secondary: %s', async (verb, args, code) => {
    const world = new World({ seed: 14 });
    await world.open();
    expect(await act(world, verb, args)).toBe(code);
    await world.close();
  });
});

describe('a guest that shuts itself down is no failure (T32)', () => {
  it.each([{ noShutdown: false }, { noShutdown: true }])(
    'the primary, %o: nobody is promoted, the secondary ends, what was held leaves',
    async (how) => {
      const world = await protectedWorld({ seed: 15 });
      const task = world.client.count(ipv4, 1000, 5);
      await world.run(100);
      world.primary.powerOff(how);
      await world.run(2000);
      const status = world.pair.status();
      expect(status.state).toBe('unprotected');
      expect(status.failovers).toEqual({ 'primary-lost': 0, 'secondary-lost': 0 });
      expect(status.carrier).toBe('primary');
      expect(status.heldFrames).toBe(0);
      expect(world.secondary.alive, 'told to quit').toBe(false);
      expect(world.primary.running, 'stays down').toBe(false);
      expect(task.report?.problem ?? '').not.toMatch(/wrong/);
      await world.close();
    },
  );

  it('the secondary alone has diverged: a checkpoint brings it back', async () => {
    const world = await protectedWorld({ seed: 16 });
    const { epoch } = world.pair.status();
    world.secondary.powerOff({ noShutdown: true });
    await world.run(500);
    expect(world.pair.status().epoch).toBeGreaterThan(epoch);
    expect(world.secondary.running).toBe(true);
    expect(world.pair.state).toBe('protected');
    await finish(world, [world.client.count(ipv4, 30, 5)]);
    await world.close();
  });

  it('a QEMU that is killed is one still', async () => {
    const world = await protectedWorld({ seed: 17 });
    world.primary.kill();
    await world.run(2000);
    expect(world.pair.status().failovers['primary-lost']).toBe(1);
    await world.close();
  });
});
