/**
 * `colo-proxy demo`: two scripted VMs and a scripted client around the real proxy, joined by unix sockets. No
 * root, no QEMU, no configuration.
 */
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Config, deriveConfig } from '../config/derive.js';
import { configSchema } from '../config/schema.js';
import { AdminServer } from '../observe/http.js';
import type { PairStatus } from '../pair/status.js';
import { type RunningProxy, startProxy } from '../proxy.js';
import { ClosableClock } from '../simulation/closable-clock.js';
import { Stage, stageSockets } from '../simulation/stage.js';
import { allRight, Story, summaryTable } from '../simulation/story.js';
import { realClock } from '../system/clock.js';
import type { Log } from '../system/log.js';
import { streamTransport } from '../system/stream-channel.js';
import { productVersion } from './version.js';

export interface DemoOptions {
  /** One story, then end. Otherwise again and again until SIGINT or SIGTERM. */
  readonly once: boolean;
  /** Admin address, or `off`. */
  readonly http: string;
  /** Where the flight recorder writes. */
  readonly record?: string | undefined;
}

/** Room for a socket's name behind the directory: a unix socket path has at most 107 bytes. */
const DIRECTORY_BYTES_MAX = 80;
const READING_MS = { once: 1000, loop: 4000 };
const LOG_LINES_KEPT = 100;

/** Resolves with the exit code: 1 when a single byte, answer or state was not what it had to be. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const demo = new Demo(options);
  const signals = ['SIGINT', 'SIGTERM'] as const;
  let stop = (): void => {};
  const stopped = new Promise<'stopped'>((resolve) => {
    stop = () => resolve('stopped');
  });
  for (const signal of signals) process.once(signal, stop);
  try {
    let right = true;
    do {
      const outcome = await Promise.race([demo.perform(), stopped]);
      if (outcome === 'stopped') {
        say('\nStopped.');
        return 0;
      }
      right = outcome;
    } while (right && !options.once);
    return right ? 0 : 1;
  } finally {
    for (const signal of signals) process.off(signal, stop);
    await demo.close();
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The proxy, its stage and its admin address; a new proxy and a new stage for every performance. */
class Demo {
  readonly #options: DemoOptions;
  readonly #log = new KeptLog();
  #clock = new ClosableClock(realClock);
  #directory: string | null = null;
  #stage: Stage | null = null;
  #proxy: RunningProxy | null = null;
  #admin: AdminServer | null = null;
  #status: () => PairStatus = () => {
    throw new Error('the proxy has not started');
  };

  constructor(options: DemoOptions) {
    this.#options = options;
  }

  /** One story from an empty stage to the summary. True when everything was right. */
  async perform(): Promise<boolean> {
    const { once } = this.#options;
    await this.#strike();
    const proxy = await this.#setUp();
    const story = new Story({
      stage: this.#stage!,
      status: () => proxy.status(),
      clock: this.#clock,
      say,
      readingMs: once ? READING_MS.once : READING_MS.loop,
    });
    const results = await story.play();
    const right = allRight(results);
    say('\nSummary');
    for (const line of summaryTable(results)) say(`   ${line}`);
    for (const line of statusLines(proxy.status())) say(`   ${line}`);
    if (!right) {
      say('\nWhat the proxy logged last:');
      for (const line of this.#log.lines) say(`   ${line}`);
    }
    say(right ? '\nEvery byte was right and no connection broke.' : '\nSomething was wrong: see above.');
    if (right && !once) say('The story begins again. Ctrl-C ends it.\n');
    return right;
  }

  async close(): Promise<void> {
    await this.#admin?.close();
    await this.#strike();
  }

  async #setUp(): Promise<RunningProxy> {
    const directory = await makeDirectory();
    this.#directory = directory;
    this.#clock = new ClosableClock(realClock);
    this.#stage = new Stage({
      directory,
      seed: randomInt(2 ** 31),
      clock: this.#clock,
      transport: streamTransport,
      tcp: { segmentJitter: 0.05 },
      services: { thinkMs: 0, thinkJitterMs: 1 },
    });
    await this.#stage.open();
    const config = demoConfig(directory, this.#options);
    const proxy = await startProxy(config, { log: this.#log });
    this.#proxy = proxy;
    this.#status = () => proxy.status();
    say('colo-proxy demo: the real proxy between a scripted client and two copies of a scripted VM.');
    say(`Sockets: ${directory}`);
    if (config.http.listen !== 'off') await this.#openAdmin(config);
    return proxy;
  }

  async #openAdmin(config: Config): Promise<void> {
    if (this.#admin === null) {
      this.#admin = new AdminServer({
        listen: config.http.listen,
        status: () => this.#status(),
        divergences: () => this.#proxy?.evidence.latest() ?? [],
        flows: () => this.#proxy?.flows() ?? [],
        log: this.#log,
        clock: realClock,
        build: { version: productVersion() },
      });
      await this.#admin.open();
    }
    const url = this.#admin.url();
    say(
      url === null
        ? `Metrics: ${config.http.listen} is taken`
        : `Status page: ${url}/   metrics: ${url}/metrics`,
    );
  }

  /** Everything of the last performance but the admin address, which answers on with its last status. */
  async #strike(): Promise<void> {
    this.#clock.close();
    await this.#proxy?.stop();
    this.#proxy = null;
    this.#stage?.close();
    this.#stage = null;
    if (this.#directory !== null) await rm(this.#directory, { recursive: true, force: true });
    this.#directory = null;
  }
}

async function makeDirectory(): Promise<string> {
  const parent = tmpdir().length > DIRECTORY_BYTES_MAX ? '/tmp' : tmpdir();
  return mkdtemp(join(parent, 'colo-proxy-demo-'));
}

/** The proxy's defaults, with links and sockets of the stage. */
function demoConfig(directory: string, { http, record }: DemoOptions): Config {
  const sockets = stageSockets(directory);
  return deriveConfig(
    configSchema.parse({
      name: 'demo',
      runtime: { directory },
      client: { link: `stream:unix:${sockets.clientNet}` },
      primary: { link: `stream:unix:${sockets.primaryNet}`, qmp: `unix:${sockets.primaryQmp}` },
      secondary: { link: `stream:unix:${sockets.secondaryNet}`, qmp: `unix:${sockets.secondaryQmp}` },
      http: { listen: http },
      ...(record === undefined ? {} : { record: { directory: resolve(record) } }),
    }),
  );
}

function statusLines(status: PairStatus): string[] {
  const sum = (counts: Readonly<Record<string, number>>): number =>
    Object.values(counts).reduce((total, count) => total + count, 0);
  return [
    '',
    `frames released ${sum(status.framesReleased)}, divergences ${sum(status.divergences)}, checkpoints ${sum(status.checkpoints)}, failovers ${sum(status.failovers)}`,
  ];
}

/** What the proxy logs, kept for the case that something goes wrong. */
class KeptLog implements Log {
  readonly lines: string[] = [];

  debug(): void {}

  info(fields: object, message: string): void {
    this.#keep('info', fields, message);
  }

  warn(fields: object, message: string): void {
    this.#keep('warn', fields, message);
  }

  error(fields: object, message: string): void {
    this.#keep('error', fields, message);
  }

  #keep(level: string, fields: object, message: string): void {
    this.lines.push(`${level.padEnd(5)} ${message} ${JSON.stringify(fields)}`);
    if (this.lines.length > LOG_LINES_KEPT) this.lines.shift();
  }
}
