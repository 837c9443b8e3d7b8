import { describe, expect, it } from 'vitest';
import { ColoError } from '../../../src/errors.js';
import { runAction } from '../../../src/pair/actions.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World } from '../../../src/simulation/world.js';

const { ipv4 } = GUEST_HOST;

type Verb = readonly [verb: string, args: Readonly<Record<string, string>>];
const PROTECT: Verb = ['protect', {}];
const CANCEL: Verb = ['protect', { cancel: 'true' }];
const SWITCHOVER: Verb = ['switchover', {}];
const TO_PRIMARY: Verb = ['failover', { to: 'primary' }];
const TO_SECONDARY: Verb = ['failover', { to: 'secondary' }];
const CHECKPOINT: Verb = ['checkpoint', {}];

/** The state it leads to, or the code it is refused with. */
async function act(world: World, [verb, args]: Verb): Promise<string> {
  let answer: string | null = null;
  runAction(world.pair, verb, args).then(
    () => {
      answer = world.pair.state;
    },
    (error: ColoError) => {
      answer = error.code;
    },
  );
  expect(await world.run(20_000, () => answer !== null)).toBe(true);
  return answer!;
}

async function worldIn(state: string, seed: number): Promise<World> {
  const world = new World({ seed, pair: { protectAuto: false } });
  await world.open();
  if (state === 'unprotected') return world;
  await world.openSecondary();
  await world.run(500);
  if (state === 'fresh') return world;
  expect(await act(world, PROTECT)).toBe('starting');
  if (state === 'starting') return world;
  expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
  if (state === 'protected') return world;
  world.primary.kill();
  expect(await world.run(20_000, () => world.pair.state === 'failed-over')).toBe(true);
  if (state === 'failed-over') return world;
  await world.openSecondary();
  await world.run(5000);
  expect(await act(world, PROTECT)).toBe('resyncing');
  return world;
}

const NONE = 'COLO_ERR_FAILOVER';
const NO_CHECKPOINT = 'COLO_ERR_CHECKPOINT';
const EXPECTED: Readonly<Record<string, readonly (readonly [Verb, string])[]>> = {
  unprotected: [
    [PROTECT, NONE],
    [CANCEL, NONE],
    [SWITCHOVER, NO_CHECKPOINT],
    [TO_PRIMARY, NONE],
    [TO_SECONDARY, NONE],
    [CHECKPOINT, NO_CHECKPOINT],
  ],
  fresh: [
    [PROTECT, 'starting'],
    [CANCEL, NONE],
    [SWITCHOVER, NO_CHECKPOINT],
    [TO_SECONDARY, NONE],
  ],
  starting: [
    [PROTECT, NONE],
    [CANCEL, 'unprotected'],
    [SWITCHOVER, NO_CHECKPOINT],
    [TO_PRIMARY, 'unprotected'],
    [TO_SECONDARY, NONE],
    [CHECKPOINT, NO_CHECKPOINT],
  ],
  protected: [
    [PROTECT, NONE],
    [CANCEL, 'unprotected'],
    [SWITCHOVER, 'failed-over'],
    [TO_PRIMARY, 'unprotected'],
    [TO_SECONDARY, 'failed-over'],
    [CHECKPOINT, 'protected'],
  ],
  'failed-over': [
    [PROTECT, NONE],
    [CANCEL, NONE],
    [SWITCHOVER, NO_CHECKPOINT],
    [TO_PRIMARY, NONE],
    [TO_SECONDARY, NONE],
    [CHECKPOINT, NO_CHECKPOINT],
  ],
  resyncing: [
    [PROTECT, NONE],
    [CANCEL, 'unprotected'],
    [SWITCHOVER, NO_CHECKPOINT],
    [TO_SECONDARY, 'unprotected'],
    [TO_PRIMARY, NONE],
  ],
};

describe.each(Object.entries(EXPECTED))('what an operator asks for while the pair is %s', (state, verbs) => {
  it.each(
    verbs.map(([verb, outcome]) => ({
      words: [verb[0], ...Object.values(verb[1])].join(' '),
      verb,
      outcome,
    })),
  )('$words: $outcome, and the service goes on', async ({ verb, outcome }) => {
    const world = await worldIn(state, 81);
    const counter = world.client.count(ipv4, 40, 5);
    expect(await act(world, verb)).toBe(outcome);
    expect(await world.run(60_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    await world.close();
  });
});

describe('protection that fails at a step', () => {
  const STEPS = ['enableColo', 'listenForState', 'migrateTo'] as const;

  it.each(STEPS.flatMap((step) => (['primary', 'secondary'] as const).map((seat) => ({ step, seat }))))(
    '$step of the $seat: the primary serves on, and the next attempt succeeds',
    async ({ step, seat }) => {
      const world = await worldIn('fresh', 82);
      const counter = world.client.count(ipv4, 400, 5);
      const vm = world.pair.vms[seat];
      const proper = vm[step];
      let refusals = 0;
      vm[step] = async () => {
        refusals++;
        throw new ColoError('COLO_ERR_QMP_COMMAND', `${step}: GenericError: not now`);
      };
      const outcome = await act(world, PROTECT);
      Object.assign(vm, { [step]: proper });
      if (refusals > 0) {
        expect(outcome).toBe(NONE);
        expect(world.pair.state).toBe('unprotected');
        await world.openSecondary();
        await world.run(3000);
        expect(await act(world, PROTECT)).toBe('starting');
      }
      expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
      expect(await world.run(60_000, () => counter.report !== null)).toBe(true);
      expect(counter.report!.problem).toBeNull();
      await world.close();
    },
  );

  it.each(['channel', 'primary-qmp', 'secondary-qmp'] as const)(
    'the %s is cut while the copy is made: the same',
    async (what) => {
      const world = await worldIn('starting', 83);
      const counter = world.client.count(ipv4, 400, 5);
      world.cut(what);
      await world.run(3000);
      if (world.pair.state !== 'protected') {
        await world.openSecondary();
        await world.run(3000);
        expect(await act(world, PROTECT)).toMatch(/starting|resyncing/);
      }
      expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
      expect(await world.run(60_000, () => counter.report !== null)).toBe(true);
      expect(counter.report!.problem).toBeNull();
      await world.close();
    },
  );

  it.each(['completed', 'failed', 'cancelled'])(
    'a migration that is %s without COLO: protection is given up, and begins again',
    async (status) => {
      const world = await worldIn('fresh', 85);
      const { primary } = world.pair.vms;
      const [migrateTo, migration] = [primary.migrateTo, primary.migration];
      primary.migrateTo = async () => {};
      primary.migration = async () => ({ status, errorText: '', bytesDone: 0, bytesTotal: 0 });
      expect(await act(world, PROTECT)).toBe('starting');
      expect(await world.run(5000, () => world.pair.state === 'unprotected')).toBe(true);
      Object.assign(primary, { migrateTo, migration });
      await world.openSecondary();
      await world.run(3000);
      expect(await act(world, PROTECT)).toBe('starting');
      expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
      await world.close();
    },
  );

  it('a switchover whose checkpoint cannot be had: the primary goes on', async () => {
    const world = await worldIn('protected', 84);
    const counter = world.client.count(ipv4, 200, 5);
    void world.run(0);
    const switched = act(world, SWITCHOVER);
    world.cut('channel');
    expect(await switched).toMatch(/COLO_ERR_(CHECKPOINT|FAILOVER)|failed-over/);
    expect(await world.run(60_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    await world.close();
  });
});
