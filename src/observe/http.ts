/**
 * The admin address: the status page, GET /metrics, /healthz, /readyz, /api/status, /api/divergences, /api/flows,
 * /api/events; where actions are allowed, POST /api/VERB. Losing it, or never getting it, ends
 * nothing: the address is tried again until the proxy stops.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { ColoError } from '../errors.js';
import type { ExplainedDivergence } from '../evidence/evidence-log.js';
import type { ActionArguments } from '../pair/actions.js';
import type { PairStatus } from '../pair/status.js';
import type { TopFlow } from '../pair/top-flows.js';
import type { Clock, Timer } from '../system/clock.js';
import type { Log } from '../system/log.js';
import { type Awaitable, EventStream } from './event-stream.js';
import { listenOptions } from './listen-address.js';
import { type BuildInfo, PairMetrics } from './metrics.js';
import { loadPage, PAGE_POLICY } from './page.js';
import { statusJson } from './status-json.js';

export interface AdminOptions {
  /** `HOST:PORT` or `unix:PATH`. Port 0 takes a free one. */
  readonly listen: string;
  readonly status: () => Awaitable<PairStatus>;
  readonly log: Log;
  readonly clock: Clock;
  readonly build: BuildInfo;
  /** For GET /api/divergences; latest first. */
  readonly divergences?: () => Awaitable<readonly ExplainedDivergence[]>;
  /** For the status page. */
  readonly flows?: () => Awaitable<readonly TopFlow[]>;
  /** What POST /api/VERB does; absent: nothing may be asked. Give it to a unix socket: its file mode says who may. */
  readonly act?: (verb: string, args: ActionArguments) => Promise<Readonly<Record<string, unknown>>>;
  /** What `authorization: Bearer` must say before anything is done; absent: whoever can connect may ask. */
  readonly token?: string;
  /** File mode of a unix socket. Default: what the umask leaves. */
  readonly socketMode?: number;
}

const LIMITS = {
  connectionsMax: 64,
  headerBytesMax: 8192,
  requestMsMax: 5000,
  keepAliveMsMax: 10_000,
  listenRetryMs: 2000,
} as const;

const TEXT = 'text/plain; charset=utf-8';

interface Answer {
  readonly code: number;
  readonly type: string;
  readonly body: string;
}

type Route = () => Answer | Promise<Answer>;

export class AdminServer {
  readonly #options: AdminOptions;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #page = loadPage();
  readonly #server: Server;
  readonly #events: EventStream;
  #retry: Timer | undefined;
  #closed = false;

  constructor(options: AdminOptions) {
    this.#options = options;
    const metrics = new PairMetrics(options.status, options.build);
    const { status, divergences = () => [], flows = () => [], clock } = options;
    this.#events = new EventStream({ status, divergences, flows, clock });
    this.#routes = new Map<string, Route>([
      ['/metrics', async () => ({ code: 200, type: metrics.contentType, body: await metrics.scrape() })],
      ['/healthz', () => ({ code: 200, type: TEXT, body: 'ok\n' })],
      ['/readyz', async () => readiness(await options.status())],
      [
        '/api/divergences',
        async () => json({ seen: (await options.status()).evidence.seen, divergences: await divergences() }),
      ],
      ['/api/flows', async () => json(await flows())],
      [
        '/api/status',
        async () => ({
          code: 200,
          type: 'application/json',
          body: statusJson(await options.status()),
        }),
      ],
    ]);
    this.#server = createServer(
      {
        maxHeaderSize: LIMITS.headerBytesMax,
        requestTimeout: LIMITS.requestMsMax,
        headersTimeout: LIMITS.requestMsMax,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = LIMITS.connectionsMax;
    this.#server.keepAliveTimeout = LIMITS.keepAliveMsMax;
    this.#server.maxRequestsPerSocket = 1000;
  }

  /** Resolves after the first attempt, whatever came of it; later attempts go on in the background. */
  async open(): Promise<void> {
    this.#events.start();
    try {
      await this.#listen();
      this.#options.log.info({ url: this.url() }, 'admin address is open');
    } catch (cause) {
      if (this.#closed) return;
      const error = new ColoError(
        'COLO_ERR_HTTP_LISTEN',
        `${this.#options.listen}: ${(cause as NodeJS.ErrnoException).code ?? cause}; retrying every ${LIMITS.listenRetryMs} ms. ` +
          'Choose another with --http HOST:PORT, or --http off',
        { cause },
      );
      this.#options.log.warn({ code: error.code }, `metrics and health cannot be read: ${error.message}`);
      this.#retry = this.#options.clock.after(LIMITS.listenRetryMs, () => void this.#openAgain());
    }
  }

  /** Where it listens, or null while it does not. */
  url(): string | null {
    const address = this.#server.address();
    if (address === null || !this.#server.listening) return null;
    if (typeof address === 'string') return `unix:${address}`;
    const { family, address: host, port } = address as AddressInfo;
    return `http://${family === 'IPv6' ? `[${host}]` : host}:${port}`;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    this.#events.stop();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** As `open`, but silent while it goes on failing. */
  async #openAgain(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.#listen();
      this.#options.log.info({ url: this.url() }, 'admin address is open');
    } catch {
      if (this.#closed) return;
      this.#retry = this.#options.clock.after(LIMITS.listenRetryMs, () => void this.#openAgain());
    }
  }

  async #listen(): Promise<void> {
    const address = listenOptions(this.#options.listen);
    if (address.path !== undefined) await removeStaleSocket(address.path);
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(address, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    const { socketMode } = this.#options;
    if (address.path !== undefined && socketMode !== undefined) chmodSync(address.path, socketMode);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let answer: Answer;
    try {
      if (request.method === 'GET' && request.url === '/api/events') {
        if (this.#events.add(response)) return;
        answer = { code: 503, type: TEXT, body: 'too many readers of events\n' };
      } else {
        answer = await this.#answer(request, response);
      }
    } catch (error) {
      this.#options.log.error({ err: error, path: request.url }, 'the admin address failed to answer');
      answer = { code: 500, type: TEXT, body: 'internal error; the log has it\n' };
    }
    response.writeHead(answer.code, {
      'content-type': answer.type,
      'content-length': Buffer.byteLength(answer.body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'content-security-policy': PAGE_POLICY,
    });
    response.end(request.method === 'HEAD' ? undefined : answer.body);
  }

  #answer(request: IncomingMessage, response: ServerResponse): Answer | Promise<Answer> {
    const path = (request.url ?? '/').replace(/\?.*$/s, '');
    const { act } = this.#options;
    const verb = /^\/api\/([a-z-]+)$/.exec(path)?.[1];
    if (request.method === 'POST' && act !== undefined && verb !== undefined && !this.#routes.has(path)) {
      response.shouldKeepAlive = false; // a body may follow, which nobody reads
      if (!isAllowed(request, this.#options.token)) {
        return { code: 401, type: TEXT, body: 'the token is wrong or missing\n' };
      }
      return acted(act(verb, argumentsOf(request.url ?? '')));
    }
    const asset = this.#page.get(path);
    const route = asset === undefined ? this.#routes.get(path) : () => ({ code: 200, ...asset });
    if (route === undefined) {
      return {
        code: 404,
        type: TEXT,
        body: `no such page; there are ${[...this.#routes.keys()].join(', ')}\n`,
      };
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      response.shouldKeepAlive = false; // a body may follow, which nobody reads
      return { code: 405, type: TEXT, body: 'only GET and HEAD\n' };
    }
    return route();
  }
}

function json(value: unknown): Answer {
  return { code: 200, type: 'application/json', body: `${JSON.stringify(value)}\n` };
}

/** Takes as long for a wrong token as for the right one. */
function isAllowed(request: IncomingMessage, token: string | undefined): boolean {
  if (token === undefined) return true;
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(request.headers.authorization ?? ''), digest(`Bearer ${token}`));
}

/** The query's names and values; of a name given twice the last. */
function argumentsOf(url: string): ActionArguments {
  return Object.fromEntries(new URLSearchParams(/\?(.*)$/s.exec(url)?.[1] ?? ''));
}

/** 200 with what came of it; 400 for a wrong question, 409 for what cannot be done now. */
async function acted(action: Promise<Readonly<Record<string, unknown>>>): Promise<Answer> {
  const type = 'application/json';
  try {
    return { code: 200, type, body: `${JSON.stringify(await action)}\n` };
  } catch (error) {
    if (!(error instanceof ColoError)) throw error;
    const { code, message } = error;
    return {
      code: code === 'COLO_ERR_USAGE' ? 400 : 409,
      type,
      body: `${JSON.stringify({ code, message })}\n`,
    };
  }
}

/** 503 with a line for each part that is not ready. */
function readiness(status: PairStatus): Answer {
  const missing = status.parts.filter((part) => !part.ready);
  if (missing.length === 0) return { code: 200, type: TEXT, body: 'ready\n' };
  const lines = missing.map((part) => `${part.name}: ${part.detail}\n`);
  return { code: 503, type: TEXT, body: lines.join('') };
}

/** A socket file whose process is gone: nobody accepts there. */
async function removeStaleSocket(path: string): Promise<void> {
  const refused = await new Promise<boolean>((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
  if (refused && lstatSync(path).isSocket()) unlinkSync(path);
}
