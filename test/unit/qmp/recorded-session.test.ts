/** Our client and commands against what QEMU 7.2 really answered; test/qemu holds the recording against a QEMU. */
import { readFileSync } from 'node:fs';
import { beforeEach, expect, it } from 'vitest';
import { QmpClient } from '../../../src/qmp/client.js';
import {
  migrateIncoming,
  queryColoStatus,
  queryMigrate,
  queryStatus,
  queryVersion,
  setCapabilities,
  setParameters,
  triggerCheckpoint,
  xColoLostHeartbeat,
  yankMigration,
} from '../../../src/qmp/commands.js';
import { ManualClock } from '../../../src/system/manual-clock.js';
import { MemoryTransport } from '../../../src/system/memory-channel.js';
import { run } from '../checkpoint/scripted-peer.js';
import { FakeMonitor } from './fake-qemu.js';

interface Exchange {
  readonly ask: string;
  readonly args?: Record<string, unknown>;
  readonly answer: object;
}

const RECORDING = JSON.parse(
  readFileSync(new URL('../../fixtures/qmp/session.json', import.meta.url), 'utf8'),
) as { greeting: object; exchanges: Exchange[] };
const ADDRESS = { unix: '/qmp' };

let clock: ManualClock;
let client: QmpClient;

/** The recorded answer to this very question; with other arguments, to the same command. */
function recorded(ask: string, args: object | undefined): object {
  const same = RECORDING.exchanges.filter((exchange) => exchange.ask === ask);
  const exact = same.find((exchange) => JSON.stringify(exchange.args) === JSON.stringify(args));
  return (exact ?? same[0])!.answer;
}

beforeEach(async () => {
  clock = new ManualClock();
  const transport = new MemoryTransport(clock);
  await transport.listen(ADDRESS, (channel) => {
    const monitor = new FakeMonitor(channel, RECORDING.greeting);
    monitor.answer = (command) => recorded((command.execute ?? command['exec-oob'])!, command.arguments);
  });
  client = new QmpClient({ address: ADDRESS, clock, transport });
  client.start();
  await run(clock);
});

/** What came of a command, in the clock's time. */
async function outcome<T>(asked: Promise<T>): Promise<T | string> {
  const settled = asked.catch((error: { code: string; message: string }) => `${error.code} ${error.message}`);
  await run(clock, 10);
  return settled;
}

it('is greeted, and knows that out-of-band is offered', () => {
  expect(client.state).toBe('ready');
  expect(client.greeting?.outOfBand).toBe(true);
  expect(client.greeting?.version).toMatchObject({ major: 7, minor: 2 });
});

it('understands every answer', async () => {
  expect(await outcome(queryVersion(client))).toMatchObject({ major: 7, minor: 2 });
  expect(await outcome(queryStatus(client))).toEqual({ running: false, status: 'prelaunch' });
  expect(await outcome(queryMigrate(client)), 'there was none').toMatchObject({
    status: 'none',
    errorText: '',
  });
  expect(await outcome(queryColoStatus(client))).toEqual({ mode: 'none', lastMode: 'none', reason: 'none' });
  expect(await outcome(setCapabilities(client, { 'x-colo': true }))).toBeUndefined();
  expect(await outcome(triggerCheckpoint(client)), '4294967295 is the longest delay').toBeUndefined();
});

it('hears every refusal as one, in the words that the pair looks for', async () => {
  const refused = 'COLO_ERR_QMP_COMMAND';
  const lost = await outcome(xColoLostHeartbeat(client));
  expect(lost).toMatch(refused);
  expect(lost).toMatch(/not enabled/);
  const incoming = await outcome(migrateIncoming(client, 'unix:/nowhere'));
  expect(incoming).toMatch(refused);
  const delay = { 'x-checkpoint-delay': 4_294_967_296 };
  expect(await outcome(setParameters(client, delay))).toMatch(refused);
  expect(await outcome(yankMigration(client))).toMatch(refused);
  expect(await outcome(client.execute('no-such-command'))).toMatch(/CommandNotFound/);
});
