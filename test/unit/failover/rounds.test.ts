import { describe, expect, it } from 'vitest';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World } from '../../../src/simulation/world.js';

const { ipv4, ipv6 } = GUEST_HOST;
const ROUNDS = 10;
/** Some seconds of work; on a busy machine many times that. */
const LIMIT_MS = 180_000;

describe('roles that change seats', () => {
  it(
    'ten alternating rounds of protection and death with the same connections alive',
    async () => {
      const world = new World({ seed: 11, primary: { clockRate: 1.5 } });
      await world.open();
      const old = [world.client.count(ipv4, 3000, 7), world.client.count(ipv6, 3000, 7)];
      for (let round = 1; round <= ROUNDS; round++) {
        await world.openSecondary();
        expect(await world.run(20_000, () => world.pair.state === 'protected'), `round ${round}`).toBe(true);
        old.push(world.client.count(ipv4, 200 * (ROUNDS + 1 - round), 7));
        await world.run(80);
        const divergent = world.client.divergent(ipv4, 'rand');
        expect(await world.run(10_000, () => divergent.report !== null)).toBe(true);
        expect(divergent.report!.problem).toBeNull();
        await world.run(60);
        const { seat } = world.pair.primary;
        world[seat].kill();
        expect(await world.run(10_000, () => world.pair.state === 'failed-over')).toBe(true);
        expect(world.pair.primary.seat).not.toBe(seat);
        await world.run(100);
      }
      await world.run(200_000, () => old.every((task) => task.report !== null));
      expect(old.map((task) => task.report?.problem)).toEqual(old.map(() => null));
      expect(world.pair.status().failovers['primary-lost']).toBe(ROUNDS);
      await world.close();
    },
    LIMIT_MS,
  );
});
