import { describe, expect, it } from 'vitest';
import type { Arbiter, ClaimAnswer } from '../../../src/failover/arbiter.js';
import { GUEST_HOST } from '../../../src/simulation/stage.js';
import { World } from '../../../src/simulation/world.js';
import { act, finish, protectedWorld, releases } from '../simulation/protected-world.js';

const { ipv4, ipv6 } = GUEST_HOST;

/** Answers every claim with what `say` gives now. */
function arbiter(say: () => ClaimAnswer['outcome'] | 'silence'): Arbiter & { asked: string[] } {
  const asked: string[] = [];
  return {
    kind: 'exec',
    leaseMs: 0,
    asked,
    claim: async ({ reason, seat, generation }) => {
      asked.push(`${reason} ${seat}`);
      const outcome = say();
      if (outcome === 'silence') return new Promise(() => undefined);
      if (outcome === 'won') {
        return { outcome, generation: generation + 1, heldUntilMs: Number.POSITIVE_INFINITY };
      }
      return { outcome, detail: 'as the test says' };
    },
    renew: async () => ({ outcome: 'unknown', detail: '' }),
    release: async () => undefined,
  };
}

describe('both VMs die', () => {
  it('one right after the other: what is left of the announcements is not sent', async () => {
    const world = await protectedWorld({ seed: 24 });
    world.client.count(ipv4, 200, 5);
    await world.run(100);
    world.primary.kill();
    expect(await world.run(2000, () => world.pair.state === 'failed-over')).toBe(true);
    world.secondary.kill();
    await world.run(50);
    const released = releases(world);
    await world.run(2000);
    expect(released()).toBe(0);
    await world.close();
  });
});

describe('the arbiter is asked before any promotion', () => {
  it.each(['lost', 'unknown', 'silence'] as const)(
    '%s: the primary is dead and nothing leaves; then a yes',
    async (no) => {
      let word: ClaimAnswer['outcome'] | 'silence' = no;
      const decider = arbiter(() => word);
      const world = await protectedWorld({ seed: 21, pair: { arbiter: decider } });
      const counter = world.client.count(ipv4, 200, 5);
      await world.run(100);
      world.primary.kill();
      await world.run(1500);
      const released = releases(world);
      await world.run(3000);
      expect(released()).toBe(0);
      expect(world.pair.status().carrier).toBe('none');
      expect(decider.asked[0]).toBe('promote-secondary secondary');
      word = 'won';
      await finish(world, [counter]);
      expect(world.pair.status()).toMatchObject({ carrier: 'secondary', state: 'failed-over' });
      await world.close();
    },
  );

  it('the secondary is dead: what is held stays held until the arbiter says yes', async () => {
    let word: ClaimAnswer['outcome'] = 'unknown';
    const world = await protectedWorld({ seed: 22, pair: { arbiter: arbiter(() => word) } });
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    world.secondary.kill();
    await world.run(1500);
    const released = releases(world);
    await world.run(2000);
    expect(released()).toBe(0);
    word = 'won';
    await finish(world, [counter]);
    expect(world.pair.status()).toMatchObject({ carrier: 'primary', state: 'failed-over', generation: 1 });
    await world.close();
  });

  it('the fencing program must succeed, too', async () => {
    const fence = { program: '/bin/false', msMax: 1000 };
    const world = await protectedWorld({ seed: 23, pair: { fence } });
    world.primary.kill();
    const endMs = Date.now() + 1000; // the program runs in real time
    while (Date.now() < endMs) {
      await world.run(50);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(world.pair.status().state).toBe('protected'); // nobody was promoted
    expect(world.pair.status().failovers['primary-lost']).toBe(0);
    await world.close();
  });
});

describe('a lease', () => {
  it('that runs out silences both ways; had again, the connections go on', async () => {
    let isAnswering = true;
    let generation = 0;
    const answer = async (): Promise<ClaimAnswer> =>
      isAnswering
        ? { outcome: 'won', generation: ++generation, heldUntilMs: world.clock.now() + 900 }
        : { outcome: 'unknown', detail: 'cut off' };
    const lease: Arbiter = {
      kind: 'etcd',
      leaseMs: 1000,
      claim: answer,
      renew: answer,
      release: async () => undefined,
    };
    const world: World = new World({ seed: 24, pair: { arbiter: lease } });
    await world.open();
    const counter = world.client.count(ipv4, 300, 10);
    await world.run(1000);
    isAnswering = false;
    await world.run(1000);
    const released = releases(world);
    await world.run(2000);
    expect(released()).toBe(0);
    expect(world.pair.status().drops.fenced).toBeGreaterThan(0);
    expect(world.pair.status().carrier).toBe('none');
    isAnswering = true;
    await finish(world, [counter]);
    await world.close();
  });
});

describe('a primary that is lost without having died', () => {
  async function freeze(world: World): Promise<void> {
    world.transport.unreachable.add('unix:/world/primary.qmp');
    world.cut('primary-qmp');
    await world.primary.stop();
  }

  it('takes no frames and does not answer: the secondary goes on in less than 500 ms', async () => {
    const world = await protectedWorld({ seed: 25 });
    const counter = world.client.count(ipv4, 200, 5);
    await world.run(100);
    void freeze(world);
    expect(await world.run(500, () => world.pair.state === 'failed-over')).toBe(true);
    world.transport.unreachable.clear(); // it wakes up: what it says is void
    world.primary.cont();
    await finish(world, [counter]);
    expect(world.pair.status().carrier).toBe('secondary');
    expect(world.pair.status().drops.void).toBeGreaterThan(0);
    await world.close();
  });

  it.each(['between checkpoints', 'asked to stop for one'])(
    'the secondary, %s, takes no frames and does not answer: the primary goes on in less than 500 ms',
    async (moment) => {
      const world = await protectedWorld({ seed: 32 });
      const counter = world.client.count(ipv4, 200, 5);
      await world.run(100);
      world.freezeVm('secondary');
      if (moment !== 'between checkpoints') void world.pair.checkpoint().catch(() => undefined);
      expect(await world.run(500, () => world.pair.state === 'failed-over')).toBe(true);
      const { secondary } = world;
      world.thawVm('secondary');
      expect(await world.run(5000, () => !secondary!.alive)).toBe(true); // it was told to quit
      await finish(world, [counter]);
      expect(world.pair.status()).toMatchObject({ carrier: 'primary', failovers: { 'secondary-lost': 1 } });
      await world.close();
    },
  );

  it.each(['suspended', 'transferring', 'loading'] as const)(
    'the secondary freezes in %s: the primary goes on in less than 500 ms',
    async (phase) => {
      const world = new World({ seed: 33, costs: { loadMs: 30 } });
      await world.open();
      await world.openSecondary();
      expect(await world.run(30_000, () => world.pair.state === 'protected')).toBe(true);
      const counter = world.client.count(ipv4, 200, 5);
      await world.run(100);
      void world.pair.checkpoint().catch(() => undefined);
      expect(await world.run(5000, () => world.pair.coordinator.phase === phase)).toBe(true);
      world.freezeVm('secondary');
      expect(await world.run(500, () => world.pair.state === 'failed-over')).toBe(true);
      const { secondary } = world;
      world.thawVm('secondary');
      expect(await world.run(5000, () => !secondary!.alive)).toBe(true);
      await finish(world, [counter]);
      expect(world.pair.status()).toMatchObject({ carrier: 'primary', failovers: { 'secondary-lost': 1 } });
      await world.close();
    },
  );

  it('a checkpoint in which both VMs stand still for 2 s is no failover', async () => {
    const world = new World({ seed: 30, costs: { loadMs: 2000 } });
    await world.open();
    await world.openSecondary();
    expect(await world.run(30_000, () => world.pair.state === 'protected')).toBe(true);
    const counter = world.client.count(ipv4, 100, 5);
    await world.run(100);
    expect(await act(world, 'checkpoint')).toMatchObject({ cause: 'operator' });
    expect(world.pair.status().lastCheckpoint!.pauseMs).toBeGreaterThan(2000);
    await finish(world, [counter]);
    expect(world.pair.status().failovers).toEqual({ 'primary-lost': 0, 'secondary-lost': 0 });
    await world.close();
  });

  it.each(['primary', 'secondary'] as const)(
    'a %s that its host lets run only now and then is no failover',
    async (seat) => {
      const world = await protectedWorld({ seed: 29 });
      const tasks = [world.client.count(ipv4, 100, 5), world.client.download(ipv6, 'a-300000.bin')];
      for (let turn = 0; turn < 40; turn++) {
        world.freezeVm(seat);
        await world.run(280);
        world.thawVm(seat);
        await world.run(20);
      }
      await finish(world, tasks);
      expect(world.pair.status().failovers).toEqual({ 'primary-lost': 0, 'secondary-lost': 0 });
      await world.close();
    },
  );

  it('a monitor that hangs for 2 s is no failover', async () => {
    const world = await protectedWorld({ seed: 26 });
    const counter = world.client.count(ipv4, 500, 5);
    await world.run(100);
    world.transport.unreachable.add('unix:/world/primary.qmp');
    world.cut('primary-qmp');
    await world.run(2000);
    world.transport.unreachable.clear();
    await finish(world, [counter]);
    expect(world.pair.status().failovers).toEqual({ 'primary-lost': 0, 'secondary-lost': 0 });
    await world.close();
  });
});

describe('what an operator asks for', () => {
  it('switchover to and fro with the same connections', async () => {
    const world = await protectedWorld({ seed: 27 });
    const tasks = [world.client.count(ipv4, 400, 5), world.client.download(ipv6, 'a-3000000.bin')];
    for (const seat of ['secondary', 'primary', 'secondary'] as const) {
      await world.run(50);
      expect(await act(world, 'switchover')).toMatchObject({ state: 'failed-over', carrier: seat });
      await world.openSecondary();
      expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
    }
    await finish(world, tasks);
    await world.close();
  });

  it('failover either way; without a secondary it is refused', async () => {
    const world = await protectedWorld({ seed: 28 });
    const counter = world.client.count(ipv4, 300, 5);
    await world.run(50);
    expect(await act(world, 'failover', { to: 'primary' })).toMatchObject({
      state: 'unprotected',
      carrier: 'primary',
    });
    expect(await act(world, 'failover', { to: 'secondary' })).toBe('COLO_ERR_FAILOVER');
    expect(await act(world, 'failover', { to: 'nowhere' })).toBe('COLO_ERR_USAGE');
    expect(await act(world, 'switchover')).toBe('COLO_ERR_CHECKPOINT');
    await world.openSecondary();
    expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
    expect(await act(world, 'failover', { to: 'secondary' })).toMatchObject({ carrier: 'secondary' });
    await finish(world, [counter]);
    await world.close();
  });

  it('protection by hand, cancelled and begun again', async () => {
    const world = new World({ seed: 29, pair: { protectAuto: false } });
    await world.open();
    const counter = world.client.count(ipv4, 300, 5);
    expect(await act(world, 'protect')).toBe('COLO_ERR_FAILOVER');
    await world.openSecondary();
    await world.run(1000);
    expect(world.pair.state).toBe('unprotected');
    expect(await act(world, 'protect')).toMatchObject({ state: 'starting' });
    expect(await act(world, 'protect', { cancel: 'true' })).toMatchObject({ state: 'unprotected' });
    await world.openSecondary();
    await world.run(5000);
    expect(await act(world, 'protect')).toMatchObject({ state: 'starting' });
    expect(await world.run(20_000, () => world.pair.state === 'protected')).toBe(true);
    await finish(world, [counter]);
    await world.close();
  });
});
