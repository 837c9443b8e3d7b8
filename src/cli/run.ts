/** `colo-proxy run`: one protected pair, from start to signal. */
import type { Config } from '../config/derive.js';
import { AdminServer } from '../observe/http.js';
import { createLog } from '../observe/log.js';
import { startProxy } from '../proxy.js';
import { realClock, sleep } from '../system/clock.js';
import { controlSocket } from './control.js';
import { productVersion } from './version.js';

/** A stop that takes longer is cut short: links and sockets close with the process. */
const STOP_MS_MAX = 10_000;

/** Resolves with the exit code. Rejects with a ColoError when the proxy cannot start. */
export async function run(config: Config): Promise<number> {
  const log = createLog({ level: config.log.level, format: config.log.format, base: { pair: config.name } });
  const version = productVersion();
  const signal = stopSignal((name) => log.warn({ signal: name }, 'second signal: ending at once'));

  log.info({ version, node: process.version, pid: process.pid }, 'starting');
  const proxy = await startProxy(config, { log });
  const admin =
    config.http.listen === 'off'
      ? undefined
      : new AdminServer({
          listen: config.http.listen,
          status: () => proxy.status(),
          divergences: () => proxy.evidence.latest(),
          log,
          clock: realClock,
          build: { version },
        });
  await admin?.open();
  const control = new AdminServer({
    listen: `unix:${controlSocket(config)}`,
    status: () => proxy.status(),
    divergences: () => proxy.evidence.latest(),
    log,
    clock: realClock,
    build: { version },
    act: (verb, args) => proxy.act(verb, args),
    socketMode: 0o600,
  });
  await control.open();

  log.info({ signal: await signal }, 'stopping');
  const stopped = Promise.all([proxy.stop(), admin?.close(), control.close()]).then(() => true);
  const inTime = await Promise.race([stopped, sleep(realClock, STOP_MS_MAX).then(() => false)]);
  if (inTime) log.info({}, 'stopped');
  else log.error({ stopMsMax: STOP_MS_MAX }, 'stopping took too long and was cut short');
  return inTime ? 0 : 1;
}

/** The first SIGTERM or SIGINT. A second one ends the process with exit code 1. */
function stopSignal(onSecond: (name: string) => void): Promise<string> {
  return new Promise((resolve) => {
    let isFirst = true;
    const onSignal = (name: string): void => {
      if (!isFirst) {
        onSecond(name);
        process.exit(1);
      }
      isFirst = false;
      resolve(name);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}
