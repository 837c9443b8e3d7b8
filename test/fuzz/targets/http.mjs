/** The admin address, over a real unix socket: whatever comes, it answers or hangs up, and goes on answering. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must } from './kit.mjs';

const ANSWER_MS_MAX = 3000;

export async function make(load) {
  const { AdminServer } = await load('observe/http.js');
  const { ColoError } = await load('errors.js');
  const { ManualClock } = await load('system/manual-clock.js');
  const folder = mkdtempSync(join(tmpdir(), 'colo-fuzz-'));
  const path = join(folder, 'admin');
  const troubles = [];
  const log = { debug() {}, info() {}, warn() {}, error: (fields) => troubles.push(fields.err) };
  const status = () => ({
    parts: [{ name: 'client link', ready: false, detail: 'down' }],
    evidence: { seen: 1 },
  });
  const act = async (verb, args) => {
    if (verb === 'refuse') throw new ColoError('COLO_ERR_FAILOVER', 'not now');
    return { verb, args };
  };
  const server = new AdminServer({
    listen: `unix:${path}`,
    status,
    log,
    clock: new ManualClock(),
    build: { version: '1' },
    act,
    token: 'secret',
  });
  const opened = server.open();

  /** Everything it says before it hangs up. */
  const ask = (bytes) =>
    new Promise((resolve, reject) => {
      const parts = [];
      const socket = connect({ path });
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new Error(`neither answered nor hung up within ${ANSWER_MS_MAX} ms`));
      }, ANSWER_MS_MAX);
      socket.on('data', (chunk) => parts.push(chunk));
      socket.on('error', () => undefined); // it may hang up before it has read everything
      socket.on('close', () => {
        clearTimeout(timer);
        resolve(Buffer.concat(parts).toString('latin1'));
      });
      socket.end(bytes);
    });

  const request = (line, ...headers) => Buffer.from(`${[line, 'host: x', ...headers].join('\r\n')}\r\n\r\n`);
  const http = {
    seeds: [
      request('GET / HTTP/1.1'),
      request('GET /healthz HTTP/1.1'),
      request('GET /api/flows?x=1 HTTP/1.1', 'connection: close'),
      request('HEAD /readyz HTTP/1.1'),
      request('POST /api/failover?side=primary HTTP/1.1', 'authorization: Bearer secret'),
      request('POST /api/refuse HTTP/1.1', 'authorization: Bearer secret', 'content-length: 4'),
      request('POST /api/protect HTTP/1.1'),
      Buffer.concat([request('GET /healthz HTTP/1.1'), request('GET /nothing HTTP/1.1')]),
    ],
    tokens: [
      'GET ',
      'POST ',
      'HEAD ',
      ' HTTP/1.1\r\n',
      '\r\n\r\n',
      'transfer-encoding: chunked\r\n',
      'content-length: 99999999999\r\n',
      'expect: 100-continue\r\n',
      'upgrade: websocket\r\n',
      'authorization: Bearer secret\r\n',
      '%00',
      '%zz',
      '/api/',
      '?',
      '//',
    ].map((text) => Buffer.from(text)),
    async run(bytes) {
      await opened;
      // readers of events are answered for ever, and the status here has no numbers to tell
      const isLeftOut = /\/(api\/(events|status)|metrics)/.test(bytes.toString('latin1'));
      const answer = isLeftOut ? '' : await ask(bytes);
      must(
        answer === '' || answer.startsWith('HTTP/1.1 '),
        () => `not HTTP: ${JSON.stringify(answer.slice(0, 40))}`,
      );
      must(!answer.includes('Bearer secret'), 'the token is told');
      must(troubles.length === 0, () => `the log has ${troubles.splice(0).join()}`);
      must(
        (await ask(request('GET /healthz HTTP/1.1', 'connection: close'))).includes('200'),
        'it does not answer any more',
      );
    },
    async close() {
      await server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return { http };
}
