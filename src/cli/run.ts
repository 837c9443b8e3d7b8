/** `colo-proxy run`: one protected pair, from start to signal. */
import { watchFile as watchFileOf } from 'node:fs';
import type { Logger } from 'pino';
import type { Config } from '../config/derive.js';
import { asColoError, ColoError } from '../errors.js';
import { AdminThread } from '../observe/admin-thread.js';
import { createStandardLog } from '../observe/log.js';
import { startProxy } from '../proxy.js';
import { realClock, sleep } from '../system/clock.js';
import type { Log } from '../system/log.js';
import { ServiceManager } from '../system/service-manager.js';
import { controlSocket } from './control.js';
import { hotRestart, predecessorOf } from './hot-restart.js';
import { Reloader } from './reload.js';
import { readSecret } from './secret.js';
import { productVersion } from './version.js';

/** A stop that takes longer is cut short: links and sockets close with the process. */
const STOP_MS_MAX = 10_000;

export interface RunOptions {
  /** Reads the configuration anew; throws COLO_ERR_CONFIG. */
  readonly load: () => Config;
  /** Reload when this file changes. */
  readonly watchFile?: string | undefined;
}

/** Between two looks at a watched file. */
const WATCH_PERIOD_MS = 1000;

/** Resolves with the exit code. Rejects with a ColoError when the proxy cannot start. */
export async function run(config: Config, options: RunOptions): Promise<number> {
  const { level, format } = config.log;
  const { log, end } = createStandardLog({ level, format, base: { pair: config.name } }, realClock);
  return await runLogging(config, options, log).finally(end);
}

async function runLogging(config: Config, { load, watchFile }: RunOptions, log: Logger): Promise<number> {
  const version = productVersion();
  const signal = stopSignal((name) => log.warn({ signal: name }, 'second signal: ending at once'));
  let begun = (): void => {};
  const isBegun = new Promise<void>((resolve) => {
    begun = resolve;
  });
  // A signal without a handler would end the process: the handlers are there before anybody can know its number.
  process.on('SIGHUP', () => void isBegun.then(unattended));
  const handedOver = onHotRestart(log, async () => {
    await isBegun;
    const successor = await hotRestart(proxy, async (pid) => {
      manager.mainProcess(pid);
      await Promise.all([admin?.close(), control.close()]);
    });
    log.info({ successor }, 'another process goes on');
  });

  const manager = new ServiceManager({
    env: process.env,
    clock: realClock,
    pid: process.pid,
    failed: (error) => log.warn({ err: error }, 'the service manager cannot be told'),
  });
  log.info({ version, node: process.version, pid: process.pid }, 'starting');
  const token = tokenOf(config);
  const predecessor = predecessorOf(process.env);
  const proxy = await startProxy(config, { log, predecessor });
  const admin =
    config.http.listen === 'off'
      ? undefined
      : new AdminThread({
          listen: config.http.listen,
          status: () => proxy.status(),
          divergences: () => proxy.evidence.latest(),
          flows: () => proxy.flows(),
          // on the admin address actions need a token; without one there are none
          ...(token === undefined ? {} : { token, act: (verb, args) => proxy.act(verb, args) }),
          log,
          clock: realClock,
          build: { version },
        });
  await admin?.open();
  const reloader = new Reloader(config, {
    load,
    log,
    apply: (fresh) => {
      log.level = fresh.log.level;
      proxy.reconfigure(fresh);
    },
  });
  const unattended = (): void => {
    try {
      reloader.reload();
    } catch (error) {
      if (!(error instanceof ColoError)) throw error; // a ColoError is in the log
    }
  };
  if (watchFile !== undefined) {
    watchFileOf(watchFile, { interval: WATCH_PERIOD_MS, persistent: false }, (now, before) => {
      if (now.mtimeMs !== before.mtimeMs && now.mtimeMs !== 0) unattended();
    });
  }
  const control = new AdminThread({
    listen: `unix:${controlSocket(config)}`,
    status: () => proxy.status(),
    divergences: () => proxy.evidence.latest(),
    flows: () => proxy.flows(),
    log,
    clock: realClock,
    build: { version },
    act: async (verb, args) => (verb === 'reload' ? { ...reloader.reload() } : proxy.act(verb, args)),
    socketMode: 0o600,
  });
  await control.open();
  manager.ready(`pair ${config.name}: the primary's traffic passes; see colo-proxy status`);
  begun();

  const ending = await Promise.race([signal, handedOver]);
  if (ending === 'handed over') return 0;

  log.info({ signal: ending }, 'stopping');
  manager.stopping();
  const stopped = Promise.all([proxy.stop(), admin?.close(), control.close()]).then(() => true);
  const inTime = await Promise.race([stopped, sleep(realClock, STOP_MS_MAX).then(() => false)]);
  if (inTime) log.info({}, 'stopped');
  else log.error({ stopMsMax: STOP_MS_MAX }, 'stopping took too long and was cut short');
  return inTime ? 0 : 1;
}

/** SIGUSR2 begins a hot restart. Resolves when one has come to its end; one that fails is told, and nothing has changed. */
function onHotRestart(log: Log, restart: () => Promise<void>): Promise<'handed over'> {
  return new Promise((resolve) => {
    let isUnderWay = false;
    process.on('SIGUSR2', () => {
      if (isUnderWay) return;
      isUnderWay = true;
      restart()
        .then(() => resolve('handed over'))
        .catch((error: unknown) => {
          const reason = asColoError(error, 'COLO_ERR_HANDOVER', 'hot restart');
          log.error({ code: reason.code }, `this process goes on: ${reason.message}`);
        })
        .finally(() => {
          isUnderWay = false;
        });
    });
  });
}

/** Throws COLO_ERR_CONFIG. */
function tokenOf({ http: { tokenFile } }: Config): string | undefined {
  return tokenFile === undefined ? undefined : readSecret(tokenFile, 'http.tokenFile');
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
