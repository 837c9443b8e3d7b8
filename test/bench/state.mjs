// One checkpoint with a state of any size through the relay, every byte of it made up, sent, passed on and compared, and
// the most memory that relay and both ends together took for it. node test/bench/state.mjs [GiB] [dialect] [tcp]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Relay } from '../../dist/checkpoint/relay.js';
import { DIALECTS } from '../../dist/protocol/dialects.js';
import { DrivenPrimary, DrivenSecondary } from '../../dist/protocol/drive.js';
import { realClock } from '../../dist/system/clock.js';
import { streamTransport } from '../../dist/system/stream-channel.js';

const MIB = 1024 * 1024;
const DEVICE_BYTES = 1_000_003;
const [gib = '4', name = 'upstream', kind = 'unix'] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'colo-state-'));
const at = (file) => (kind === 'tcp' ? { tcp: '127.0.0.1', port: 0 } : { unix: join(folder, file) });
const driven = { dialect: DIALECTS[name], clock: realClock, waitMsMax: 60_000 };

let secondary;
const server = await streamTransport.listen(at('s'), (channel) => {
  secondary = new DrivenSecondary({ ...driven, channel });
  secondary.serve().catch(() => undefined);
});
const relay = new Relay({
  listen: at('r'),
  connect: server.address,
  clock: realClock,
  dialect: DIALECTS[name],
  onWord: () => undefined,
  onChannel: () => undefined,
  onViolation: (error) => console.error(error.message),
});
await relay.start();
const primary = new DrivenPrimary({ ...driven, channel: await streamTransport.connect(relay.address) });
await primary.migrate(1_000_000);

const before = process.memoryUsage().rss;
let most = before;
const looking = setInterval(() => {
  most = Math.max(most, process.memoryUsage().rss);
}, 20);
const ramBytes = Math.round(Number(gib) * 1024 * MIB) - DEVICE_BYTES;
const { pauseMs } = await primary.checkpoint({ ramBytes, deviceBytes: DEVICE_BYTES });
clearInterval(looking);
const grownMib = Math.round((most - before) / MIB);
console.log(
  `${name} over ${kind}: ${secondary.stateBytes - 1_000_000} bytes of state in ${Math.round(pauseMs)} ms, memory grew by ${grownMib} MiB at most`,
);
primary.close();
await relay.stop();
await server.close();
rmSync(folder, { recursive: true });
