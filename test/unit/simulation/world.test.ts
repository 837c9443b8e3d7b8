import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ClientTask } from '../../../src/simulation/client/task.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { allRight, type SceneResult, Story, summaryTable } from '../../../src/simulation/story.js';
import { World } from '../../../src/simulation/world.js';
import { finish, protectedWorld } from './protected-world.js';

const { ipv4, ipv6 } = GUEST_HOST;
const PROBES = { count: 20, everyMs: 5, answerMsMax: 2000 };

function checkpointsOf(world: World): number {
  return Object.values(world.pair.status().checkpoints).reduce((sum, count) => sum + count, 0);
}

describe('the real pair between scripted VMs on a manual clock', () => {
  it('serves everything under protection', async () => {
    const world = await protectedWorld({ seed: 1 });
    await finish(world, [
      world.client.download(ipv4, 'a-300000.bin'),
      world.client.download(ipv6, 'b-300000.bin'),
      world.client.count(ipv4, 100, 2),
      world.client.udpEcho(ipv4, PROBES),
      world.client.udpEcho(ipv6, PROBES),
      world.client.ping(ipv6, PROBES),
      world.client.callBack(ipv4),
    ]);
    expect(world.pair.state).toBe('protected');
    await world.close();
  });

  it('a divergent answer leads to a checkpoint, and the client gets the bytes of the primary', async () => {
    const world = await protectedWorld({ seed: 2 });
    const before = checkpointsOf(world);
    const task = world.client.divergent(ipv4, 'rand');
    await finish(world, [task]);
    expect(task.answer).toBe(world.primary.guest.stack.state.services.lastRandom);
    expect(checkpointsOf(world)).toBeGreaterThan(before);
    await world.close();
  });

  it("a survivor whose clock is behind is still believed by the client's TCP", async () => {
    const world = await protectedWorld({ seed: 5, primary: { clockRate: 3 } });
    const old = world.client.count(ipv4, 100, 5);
    await world.run(60);
    await finish(world, [world.client.divergent(ipv4, 'rand')]); // a checkpoint: the tables begin anew
    const young = world.client.count(ipv6, 100, 5);
    await world.run(60);
    world.primary.kill();
    await finish(world, [old, young]);
    expect(Math.max(old.report!.gapMsMax, young.report!.gapMsMax)).toBeLessThan(2000);
    await world.close();
  });

  it('a primary that dies while the secondary loads its state leaves a survivor with that state', async () => {
    const world = await protectedWorld({ seed: 6, costs: { loadMs: 20 } });
    const counter = world.client.count(ipv4, 60, 5);
    await world.run(60);
    const divergent = world.client.divergent(ipv4, 'rand');
    expect(await world.run(5000, () => world.pair.status().phase === 'loading')).toBe(true);
    const said = world.primary.guest.stack.state.services.lastRandom;
    world.primary.kill();
    await finish(world, [counter, divergent]);
    expect(divergent.answer).toBe(said);
    expect(world.pair.state).toBe('failed-over');
    await world.close();
  });

  it('the same seed is the same run', async () => {
    const trail: string[][] = [];
    for (let round = 0; round < 2; round++) {
      const world = await protectedWorld({ seed: 3, wire: { loss: 0.02, jitterMs: 1 } });
      const task = world.client.download(ipv4, 'c-100000.bin');
      const lines: string[] = [];
      await world.run(20_000, () => {
        lines.push(`${world.clock.now()} ${task.progress.bytes}`);
        return task.report !== null;
      });
      trail.push(lines);
      await world.close();
    }
    expect(trail[0]!.length).toBeGreaterThan(100);
    expect(trail[1]).toEqual(trail[0]);
  });

  it('plays the whole story of the demo, and a wrong byte would be seen', async () => {
    const world = new World({ seed: 4, primary: { tcp: { segmentJitter: 0.1 } } });
    await world.open();
    const said: string[] = [];
    const { clock } = world;
    const status = () => world.pair.status();
    const say = (line: string): void => void said.push(line);
    let results: SceneResult[] = [];
    void new Story({ stage: world, status, clock, say, readingMs: 10 }).play().then((played) => {
      results = played;
    });
    expect(await world.run(600_000, () => results.length > 0)).toBe(true);
    expect(
      summaryTable(results)
        .slice(1)
        .filter((line) => !line.endsWith('right')),
    ).toEqual([]);
    expect(allRight(results)).toBe(true);
    expect(said.filter((line) => line.includes('WRONG'))).toEqual([]);
    expect(status().failovers).toEqual({ 'primary-lost': 1, 'secondary-lost': 1 });
    const damaged = results.map((result) => ({ ...result, problems: ['byte 7 is wrong'] }));
    expect(allRight(damaged)).toBe(false);
    await world.close();
  });

  const manners = fc.record({
    segmentJitter: fc.constantFrom(0, 0.2),
    thinkJitterMs: fc.constantFrom(0, 2),
    lagMs: fc.constantFrom(0, 1, 8),
    lagJitterMs: fc.constantFrom(0, 2),
    clockRate: fc.constantFrom(1, 0.9, 1.1),
    delayedAckMs: fc.constantFrom(0, 40),
  });
  const scenario = fc.record({
    seed: fc.integer({ min: 0, max: 1_000_000 }),
    loss: fc.constantFrom(0, 0, 0.01, 0.05),
    jitterMs: fc.constantFrom(0, 0.5),
    primary: manners,
    secondary: manners,
    killed: fc.constantFrom('primary', 'secondary', 'nobody'),
    killAfterMs: fc.integer({ min: 1, max: 400 }),
  });

  it('no connection breaks and no byte is wrong, whichever VM dies when', async () => {
    await fc.assert(
      fc.asyncProperty(
        scenario,
        async ({ seed, loss, jitterMs, primary, secondary, killed, killAfterMs }) => {
          const guest = ({
            segmentJitter,
            thinkJitterMs,
            lagMs,
            lagJitterMs,
            delayedAckMs,
          }: typeof primary) => ({
            tcp: { segmentJitter, delayedAckMs },
            services: { thinkJitterMs },
            lagMs,
            lagJitterMs,
          });
          const world = await protectedWorld({
            seed,
            wire: { loss, jitterMs },
            primary: guest(primary),
            secondary: guest(secondary),
          });
          const { client } = world;
          const tasks: ClientTask[] = [client.count(ipv4, 150, 4), client.download(ipv6, 'k-400000.bin')];
          await world.run(killAfterMs);
          tasks.push(client.divergent(ipv4, 'rand'), client.download(ipv4, 'l-200000.bin'));
          await world.run(killAfterMs / 4);
          if (killed === 'primary') world.primary.kill();
          if (killed === 'secondary') world.secondary.kill();
          await finish(world, tasks);
          if (killed !== 'nobody') expect(world.pair.state).toBe('failed-over');
          await world.close();
        },
      ),
      { numRuns: 10 },
    );
  }, 60_000);
});
