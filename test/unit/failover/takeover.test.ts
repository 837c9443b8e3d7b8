import { describe, expect, it } from 'vitest';
import { ColoError } from '../../../src/errors.js';
import { firstState, type KeptState, StateFile } from '../../../src/failover/state-file.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World } from '../../../src/simulation/world.js';
import { releases } from '../simulation/protected-world.js';

const { ipv4 } = GUEST_HOST;

/** A disk that is full when the test says so. */
class FullDisk extends StateFile {
  isFull = false;
  latest: KeptState | null = null;

  override save(state: KeptState): void {
    if (this.isFull) throw new ColoError('COLO_ERR_STATE', `${this.path} cannot be written: ENOSPC`);
    this.latest = state;
  }
}

function worldWithDisk(seed: number, protectAuto = true): { world: World; file: FullDisk } {
  const file = new FullDisk('/nowhere/state.json');
  const world = new World({ seed, pair: { state: { file, found: firstState() }, protectAuto } });
  return { world, file };
}

async function protectedWorld(seed: number): Promise<{ world: World; file: FullDisk }> {
  const made = worldWithDisk(seed);
  await made.world.open();
  await made.world.openSecondary();
  expect(await made.world.run(20_000, () => made.world.pair.state === 'protected')).toBe(true);
  return made;
}

describe('a state file that cannot be written', () => {
  it('the primary is dead: nothing of the survivor leaves before the file says that it rules', async () => {
    const { world, file } = await protectedWorld(61);
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    expect(file.latest).toMatchObject({ carrier: 'primary', protecting: true });
    file.isFull = true;
    world.primary.kill();
    await world.run(100);
    const released = releases(world);
    await world.run(3000);
    expect(released()).toBe(0);
    const { carrier, parts } = world.pair.status();
    expect(carrier).toBe('none');
    expect(parts.find(({ name }) => name === 'state file')).toMatchObject({
      ready: false,
      detail: expect.stringContaining('ENOSPC'),
    });
    file.isFull = false;
    expect(await world.run(120_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    expect(file.latest).toMatchObject({ carrier: 'secondary', protecting: false });
    expect(world.pair.status().carrier).toBe('secondary');
    await world.close();
  });

  it('the secondary is dead: the file has said so since protection began, and the primary goes on', async () => {
    const { world, file } = await protectedWorld(62);
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    file.isFull = true;
    world.secondary.kill();
    expect(await world.run(120_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    expect(world.pair.status()).toMatchObject({ carrier: 'primary', state: 'failed-over' });
    await world.close();
  });

  it('protection is refused, and the primary serves on', async () => {
    const { world, file } = worldWithDisk(63, false);
    await world.open();
    await world.openSecondary();
    await world.run(500);
    file.isFull = true;
    let code = '';
    void world.pair.protection.protect().catch((error: ColoError) => {
      code = error.code;
    });
    await world.run(500);
    expect(code).toBe('COLO_ERR_STATE');
    const counter = world.client.count(ipv4, 50, 5);
    expect(await world.run(20_000, () => counter.report !== null)).toBe(true);
    expect(world.pair.status()).toMatchObject({ state: 'unprotected', carrier: 'primary' });
    file.isFull = false;
    void world.pair.protection.protect();
    expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
    await world.close();
  });
});

describe('a primary that hangs in the middle of its state', () => {
  it('and a secondary that hangs in loading it: once the channel is cut the secondary answers, and goes on', async () => {
    const { world } = await protectedWorld(66);
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    const { vms, relay, protection } = world.pair;
    let isCut = false;
    const close = relay.closeChannel.bind(relay);
    relay.closeChannel = (side) => {
      isCut ||= side === 'primary';
      close(side);
    };
    vms.primary.liveness = async () => 'unknown';
    vms.secondary.liveness = async () => (isCut ? 'alive' : 'unknown');
    protection.phaseLimit('transferring', 10_000);
    expect(await world.run(120_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    expect(world.pair.status()).toMatchObject({ carrier: 'secondary', state: 'failed-over' });
    await world.close();
  });
});

describe('a survivor that refuses x-colo-lost-heartbeat', () => {
  it('is told again until it obeys; status says why meanwhile, and its traffic passes', async () => {
    const { world } = await protectedWorld(64);
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    const survivor = world.pair.vms.secondary;
    const obey = survivor.leaveColo.bind(survivor);
    let refusals = 0;
    survivor.leaveColo = async () => {
      refusals++;
      throw new ColoError('COLO_ERR_QMP_COMMAND', 'x-colo-lost-heartbeat: GenericError: not now');
    };
    world.primary.kill();
    expect(await world.run(20_000, () => refusals > 3)).toBe(true);
    const part = world.pair.status().parts.find(({ name }) => name === 'survivor');
    expect(part).toMatchObject({ ready: false, detail: expect.stringContaining('not now') });
    survivor.leaveColo = obey;
    expect(await world.run(120_000, () => counter.report !== null)).toBe(true);
    expect(counter.report!.problem).toBeNull();
    expect(world.pair.status().parts.find(({ name }) => name === 'survivor')).toBeUndefined();
    await world.close();
  });
});

describe('a fresh secondary whose link is not up yet', () => {
  it('is not used: output would be held for nothing; the link comes, and protection begins', async () => {
    const world = new World({ seed: 65 });
    await world.open();
    const link = world.pair.dataPlane.links.secondary;
    let state = 'waiting';
    Object.defineProperty(link, 'state', { get: () => state, configurable: true });
    await world.openSecondary();
    await world.run(5000);
    expect(world.pair.state).toBe('unprotected');
    state = 'up';
    world.pair.protection.linkUp();
    expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
    await world.close();
  });
});
