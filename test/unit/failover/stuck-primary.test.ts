/** The primary's monitor answers, but its checkpoint never goes on and it does not leave COLO: nobody serves. */
import { describe, expect, it } from 'vitest';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { finish, protectedWorld } from '../simulation/protected-world.js';

const { ipv4 } = GUEST_HOST;

describe('a primary that answers and cannot leave COLO', () => {
  it.each([
    ['before its word', SyncPoint.SEND],
    ['in the middle of its state', SyncPoint.SIZE],
  ])('%s: fenced after the phase limit, and the secondary goes on', async (_where, word) => {
    const fenced: string[] = [];
    const world = await protectedWorld({ seed: 71 });
    const { authority } = world.pair;
    const fences = authority.fences.bind(authority);
    authority.fences = async (seat) => {
      fenced.push(seat);
      return fences(seat);
    };
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    world.primary.hangInCheckpoint(word);
    void world.pair.checkpoint().catch(() => undefined);
    await finish(world, [counter]);
    expect(world.pair.status()).toMatchObject({ carrier: 'secondary', state: 'failed-over' });
    expect(fenced).toEqual(['primary']);
    expect(world.secondary!.alive).toBe(true);
    await world.close();
  });

  it('that has not stopped its guest goes on: it serves', async () => {
    const world = await protectedWorld({ seed: 72 });
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    world.primary.hangInCheckpoint(SyncPoint.REQUEST);
    void world.pair.checkpoint().catch(() => undefined);
    await finish(world, [counter]);
    expect(world.pair.status()).toMatchObject({ carrier: 'primary', state: 'unprotected' });
    await world.close();
  });

  it('when nothing is promoted by itself it is told again and again', async () => {
    const world = await protectedWorld({ seed: 73, pair: { failoverAuto: false } });
    await world.run(100);
    world.primary.hangInCheckpoint(SyncPoint.SEND);
    void world.pair.checkpoint().catch(() => undefined);
    expect(await world.run(60_000, () => world.pair.protection.survivorProblem !== '')).toBe(true);
    expect(world.pair.status()).toMatchObject({ carrier: 'primary' });
    await world.close();
  });
});
