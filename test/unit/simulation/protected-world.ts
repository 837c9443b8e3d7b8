/** What tests of the real pair between scripted VMs begin with and wait for, in the world's time. */
import { expect } from 'vitest';
import { runAction } from '../../../src/pair/actions.js';
import type { ClientTask } from '../../../src/simulation/client/task.js';
import { World, type WorldOptions } from '../../../src/simulation/world.js';

/** An open world whose pair is protected. */
export async function protectedWorld(options: WorldOptions): Promise<World> {
  const world = new World(options);
  await world.open();
  await world.openSecondary();
  expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
  return world;
}

/** Every task comes to its end, and to the right one. */
export async function finish(world: World, tasks: ClientTask[]): Promise<void> {
  const done = await world.run(120_000, () => tasks.every((task) => task.report !== null));
  expect(
    tasks.map((task) => `${task.name}: ${task.report?.problem ?? (done ? 'right' : 'unfinished')}`),
  ).toEqual(tasks.map((task) => `${task.name}: right`));
}

/** What an action resolves with, or the code that it rejects with. */
export async function act(world: World, verb: string, args: Record<string, string> = {}): Promise<unknown> {
  let settled = false;
  const answer = runAction(world.pair, verb, args)
    .catch((error: { code: string }) => error.code)
    .finally(() => {
      settled = true;
    });
  expect(await world.run(10_000, () => settled)).toBe(true);
  return answer;
}

/** Frames that left to the client since the last call. */
export function releases(world: World): () => number {
  let count = 0;
  world.onReleased = () => {
    count++;
  };
  return () => {
    const seen = count;
    count = 0;
    return seen;
  };
}
