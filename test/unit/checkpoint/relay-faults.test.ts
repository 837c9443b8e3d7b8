/**
 * One checkpoint in every dialect, faulty at every byte of either direction: killed, stalled, cut short, garbled,
 * doubled, left out. Relay and coordinator run as in a pair; the watchdog is time itself: once every limit has run
 * out nothing may be waiting, the gate is open, and the next migration works.
 */
import { describe, expect, it } from 'vitest';
import { Coordinator } from '../../../src/checkpoint/coordinator.js';
import { DEFAULT_CHECKPOINT_LIMITS } from '../../../src/checkpoint/limits.js';
import { DEFAULT_RELAY_LIMITS, Relay } from '../../../src/checkpoint/relay.js';
import { carriesValue, type Dialect, encodeWord } from '../../../src/protocol/dialect.js';
import { DIALECTS } from '../../../src/protocol/dialects.js';
import { SyncPoint } from '../../../src/protocol/sync-point.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { FakeGate } from './fake-gate.js';
import { run, ScriptedPeer } from './scripted-peer.js';

type Side = 'primary' | 'secondary';
type Fault = (bytes: Buffer, index: number) => Buffer | 'die' | 'stall';

const LIMITS = {
  ...DEFAULT_CHECKPOINT_LIMITS,
  requestMsMax: 100,
  requestRetryMs: 1000,
  suspendMsMax: 100,
  saveMsMax: 100,
  transferMsMax: 100,
  loadMsMax: 100,
  migrateMsMax: 100,
};
const RELAY_LIMITS = { ...DEFAULT_RELAY_LIMITS, startMsMax: 100, orphanMsMax: 100 };
/** More than all limits together. */
const WATCHDOG_MS = 2000;

function say(dialect: Dialect, word: SyncPoint, value = 0n): Buffer {
  if (dialect.codes[word] === undefined) return Buffer.alloc(0);
  return encodeWord(dialect, word, ...(carriesValue(dialect, word) ? [value] : []));
}

function script(dialect: Dialect): Array<[Side, Buffer]> {
  const before = dialect.returnPath ? Buffer.from('0002000400000001', 'hex') : Buffer.alloc(0);
  return [
    ['primary', Buffer.from('QEVM initial')],
    ['secondary', Buffer.concat([before, say(dialect, SyncPoint.READY)])],
    ['primary', say(dialect, SyncPoint.REQUEST)],
    ['secondary', say(dialect, SyncPoint.REPLY)],
    [
      'primary',
      Buffer.concat([
        say(dialect, SyncPoint.SEND, 5n),
        Buffer.from('ram'),
        say(dialect, SyncPoint.SIZE, 2n),
        Buffer.from('dv'),
      ]),
    ],
    ['secondary', Buffer.concat([say(dialect, SyncPoint.RECEIVED), say(dialect, SyncPoint.LOADED)])],
  ];
}

class World {
  readonly clock = new ManualClock();
  readonly gate = new FakeGate();
  readonly channel: string[] = [];
  readonly violations: string[] = [];
  readonly phaseLimits: string[] = [];
  protections = 0;
  /** The primary was cut off before it ended by itself, and why was told once. */
  endedByLimits = false;
  readonly #transport = new MemoryTransport(this.clock);
  readonly #secondaries: ScriptedPeer[] = [];
  readonly coordinator: Coordinator;
  readonly relay: Relay;

  constructor(dialect: Dialect) {
    this.coordinator = new Coordinator({
      gate: this.gate,
      trigger: () => Promise.resolve(),
      clock: this.clock,
      limits: LIMITS,
      events: {
        phaseChanged: () => undefined,
        protectedBegan: () => this.protections++,
        checkpointDone: () => undefined,
        checkpointFailed: () => undefined,
        phaseLimit: (phase) => {
          this.phaseLimits.push(phase);
          this.relay.closeChannel();
        },
      },
    });
    this.relay = new Relay({
      listen: { unix: '/p' },
      connect: { unix: '/s' },
      clock: this.clock,
      transport: this.#transport,
      dialect,
      limits: RELAY_LIMITS,
      onWord: (direction, word) => this.coordinator.wordSeen(direction, word),
      onChannel: (event) => {
        this.channel.push(event);
        if (event === 'opened') this.coordinator.channelOpened();
        if (event === 'closed') {
          this.coordinator.channelClosed();
          void this.coordinator.abandon();
        }
      },
      onViolation: (error) => this.violations.push(error.code),
    });
  }

  async start(): Promise<void> {
    await this.#transport.listen({ unix: '/s' }, (far) => this.#secondaries.push(new ScriptedPeer(far)));
    await this.relay.start();
  }

  async connect(): Promise<ScriptedPeer> {
    const pending = this.#transport.connect({ unix: '/p' });
    await run(this.clock);
    return new ScriptedPeer(await pending);
  }

  get secondary(): ScriptedPeer | undefined {
    return this.#secondaries.at(-1);
  }

  /** What was closed is open again, and in the right order. */
  get gateIsOpen(): boolean {
    return this.gate.calls.lastIndexOf('openGate') >= this.gate.calls.lastIndexOf('closeGate');
  }

  /** Plays the script; byte `at` of `side` is changed by `fault`. Afterwards everything has had its time. */
  async play(dialect: Dialect, side: Side, at: number, fault: Fault): Promise<void> {
    const peers = { primary: await this.connect(), secondary: undefined as ScriptedPeer | undefined };
    let sent = 0;
    for (const [from, bytes] of script(dialect)) {
      peers.secondary = this.secondary;
      if (peers[from] === undefined) break; // the secondary was never connected to
      const index = at - sent;
      const isHere = from === side && index >= 0 && index < bytes.length;
      const out = isHere ? fault(Buffer.from(bytes), index) : bytes;
      if (from === side) sent += bytes.length;
      if (typeof out === 'string') {
        peers[from].channel.write(bytes.subarray(0, index));
        if (out === 'die') peers[from].channel.end();
        break;
      }
      peers[from].channel.write(out);
      await run(this.clock, 1);
    }
    await run(this.clock, WATCHDOG_MS);
    const isOver = peers.primary.ended || peers.primary.closed;
    // either the relay turned it away, or the coordinator named the phase
    this.endedByLimits = isOver && this.phaseLimits.length + this.violations.length === 1;
    peers.primary.channel.end();
    await run(this.clock, WATCHDOG_MS);
  }
}

/** The whole conversation without a fault: the pair is protected afterwards. */
async function provesToWork(world: World, dialect: Dialect): Promise<void> {
  world.channel.length = 0;
  world.violations.length = 0;
  world.phaseLimits.length = 0;
  const before = world.protections;
  const primary = await world.connect();
  for (const [from, bytes] of script(dialect)) {
    (from === 'primary' ? primary : world.secondary!).channel.write(bytes);
    await run(world.clock, 1);
  }
  expect(world.channel, 'the next migration works').toEqual(['opened', 'colo']);
  expect(world.protections).toBe(before + 1);
  expect([world.violations, world.phaseLimits]).toEqual([[], []]);
  primary.channel.end();
}

async function check(dialect: Dialect, side: Side, at: number, fault: Fault): Promise<World> {
  const world = new World(dialect);
  await world.start();
  await world.play(dialect, side, at, fault);
  const opened = world.channel.filter((event) => event === 'opened').length;
  expect(opened).toBeLessThanOrEqual(1);
  expect(
    world.channel.filter((event) => event === 'closed'),
    'it ends, once',
  ).toHaveLength(opened);
  expect(world.violations.length, 'told, once').toBeLessThanOrEqual(1);
  expect(world.coordinator.phase).toBe('idle');
  expect(world.coordinator.coupled).toBe(false);
  expect(world.gateIsOpen, world.gate.calls.join()).toBe(true);
  await provesToWork(world, dialect);
  return world;
}

describe.each(Object.values(DIALECTS))('$name', (dialect) => {
  describe.each(['primary', 'secondary'] as const)('the %s', (side) => {
    const total = script(dialect).reduce((sum, [from, bytes]) => sum + (from === side ? bytes.length : 0), 0);
    const offsets = Array.from({ length: total }, (_, index) => index);

    it('dies at every byte', async () => {
      for (const at of offsets) await check(dialect, side, at, () => 'die');
    });

    it('stalls at every byte, with its socket open: a limit that is named ends it', async () => {
      for (const at of offsets) {
        const world = await check(dialect, side, at, () => 'stall');
        expect(world.endedByLimits, `byte ${at}`).toBe(true);
      }
    });

    it('sends every byte garbled', async () => {
      for (const at of offsets) {
        for (const bit of [0x01, 0x80]) {
          await check(dialect, side, at, (bytes, index) => {
            bytes[index]! ^= bit;
            return bytes;
          });
        }
      }
    });

    it('sends every byte twice, or leaves it out', async () => {
      for (const at of offsets) {
        await check(dialect, side, at, (bytes, index) =>
          Buffer.concat([bytes.subarray(0, index + 1), bytes.subarray(index)]),
        );
        await check(dialect, side, at, (bytes, index) =>
          Buffer.concat([bytes.subarray(0, index), bytes.subarray(index + 1)]),
        );
      }
    });
  });
});
